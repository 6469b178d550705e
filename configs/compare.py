"""Compare taggers under one protocol on one data set.

Source: Won, Ferraro, Bogdanov, Serra, "Evaluation of CNN-based automatic music tagging models",
SMC 2020, and table 3.1 of Won's thesis (UPF, 2021): every model is trained with Adam and then SGD,
and tested on the mean of 16 chunks of each track.

    python main.py --config=configs/compare.py
    python main.py --config=configs/compare.py:smoke
    python main.py --config=configs/compare.py:thesis --config.data.name=DATA_SET

The default trains compact models on generated audio for 150 steps, with a quarter of the chunks in
validation, within a quarter of an hour on two CPU cores: a demonstration of the protocol, with
numbers that say nothing about the published models. `:thesis` takes the published sizes, epochs
(Adam to 80, then SGD at 1e-3, 1e-4 and 1e-5 from 80, 100 and 120 to 200) and chunks.

It writes the table (results.md) and figures/comparison.png: ROC-AUC and PR-AUC with intervals and
marks of significance, parameters, FLOPs per chunk and per second of audio, tracks per second. The
thesis reports, on MagnaTagATune, ROC-AUC / PR-AUC of .9005 / .4295 for fcn, .9106 / .4493 for
musicnn and .8722 / .3625 for crnn.

`--config.seeds=0,1,2` adds means and spreads; `--config.num_train_tracks=40` takes fewer tracks.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common

MODELS = (
    "fcn",
    "musicnn",
    "crnn",
    "sample_cnn",
    "sample_cnn_se",
    "short_chunk_cnn",
    "short_chunk_resnet",
    "cnnsa",
    "harmonic_cnn",
    "tagging_transformer",
    "spectrogram_transformer",
)


COMPACT = {
    "crnn": {"n_channels": 8},
    "fcn": {"n_channels": 8},
    "harmonic_cnn": {"n_channels": 8},
    "musicnn": {"vertical_channels": 8},
    "sample_cnn_se": {"n_channels": 8},
    "tagging_transformer": {"conv_channels": 8, "num_samples": 80000},
}
"""Further deviations of the models that would take most of the quarter of an hour."""


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" for the embedded default, "smoke" for one step of everything, "thesis" for the
            published protocol.
    """
    config = common.get_base("compare")
    config.model.name = ",".join(MODELS)
    config.data.name = "synthetic_cultures/makam"
    config.data.path = config_dict.placeholder(str)
    config.num_train_tracks = "all"
    common.embedded_training(config)
    for name, deviations in COMPACT.items():
        config.compact[name].update(deviations)
    config.train.update(num_steps=150, evaluate_every_steps=75)  # evaluated at the switches too
    config.evaluation.num_chunks = 16
    config.evaluation.validation_num_chunks = 4
    config.optimizer.name = "adam_sgd"
    config.optimizer.switch_at = (0.7, 0.85, 0.95)
    config.optimizer.switch_unit = "fraction"
    config.optimizer.sgd_learning_rates = (1e-2, 1e-3, 1e-4)
    if arg == "smoke":
        common.smoke(config)
        config.train.update(num_steps=10, evaluate_every_steps=10)  # the switch needs some
        config.evaluation.update(num_chunks=2, validation_num_chunks=2)
        config.model.name = "short_chunk_cnn,crnn"
    elif arg == "thesis":
        config.model.size = "full"
        config.optimizer.learning_rate = 1e-4
        config.optimizer.switch_at = (80, 100, 120)
        config.optimizer.switch_unit = "epochs"
        config.optimizer.sgd_learning_rates = (1e-3, 1e-4, 1e-5)
        config.train.update(num_steps=None, evaluate_every_steps=None)
        config.train.update(num_epochs=200, evaluate_every_epochs=1)
        config.evaluation.validation_num_chunks = 16
        config.data.cache_megabytes = 0
    elif arg:
        raise ValueError(f"configs/compare.py knows the arguments smoke and thesis, not {arg!r}.")
    return config
