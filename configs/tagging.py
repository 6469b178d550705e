"""The best tagger of one data set that can be had in minutes, and what it is worth.

    python main.py --config=configs/tagging.py --config.data.path=FOLDER
    python main.py --config=configs/tagging.py
    python main.py --config=configs/tagging.py:smoke

FOLDER holds recordings and a `labels.tsv` (tab-separated; columns `path` and `labels`, optional
`group` and `split`). `--config.data.labels="stroke_*"` uses only matching labels.

Candidates are compared on validation data (by folds where it is of few groups), and each is tested:
log-mel statistics with a linear model, the baseline; linear models above frozen features of
pretrained encoders; and what is trained within `minutes`. `exports/best` of the workdir is the
chosen one.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for one step of a training from scratch.
    """
    config = common.get_base("tagging")
    config.data.name = "synthetic_cultures/makam"
    config.data.path = config_dict.placeholder(str)
    config.num_train_tracks = "all"  # or 40, 10_per_class, several separated by commas
    # Beside the baseline, comma separated: features (`pretrained:NAME`, `export:FOLDER`,
    # `log_mel_statistics`, several with + between them, outputs of one in brackets) under a linear
    # model; `all_layers`, which trains the best of these on, for an accelerator or long `minutes`;
    # `scratch`, which trains `model.name`.
    config.candidates = "pretrained:musicnn-msd, log_mel_statistics+pretrained:musicnn-msd, scratch"
    # Of training, shared by the candidates that are trained; 0 trains none. None is as long as the
    # data allow: a fifth of a second for every training track, five minutes at most.
    config.minutes = config_dict.placeholder(float)
    common.embedded_training(config)
    config.optimizer.name = "adam_plateau"
    config.train.update(num_steps=20_000, evaluate_every_steps=50)
    config.for_mode.all_layers = ConfigDict(
        {"optimizer": {"learning_rate": 3e-4}, "transfer": {"batch_norm": "frozen"}}
    )
    if arg == "smoke":
        config.candidates = "scratch"
        config.minutes = 60.0  # its steps are few; none is left out on a busy machine
        config.optimizer.name = "adam"
        common.smoke(config)
    elif arg:
        raise ValueError(f"configs/tagging.py knows the argument smoke, not {arg!r}.")
    return config
