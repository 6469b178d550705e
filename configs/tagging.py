"""The best tagger of one data set that can be had in minutes, and what it is worth.

    python main.py --config=configs/tagging.py --config.data.path=FOLDER
    python main.py --config=configs/tagging.py
    python main.py --config=configs/tagging.py:smoke
    python main.py --config=configs/tagging.py:transformer --config.data.path=FOLDER

FOLDER holds recordings and a `labels.tsv` (tab-separated; columns `path` and `labels`, optional
`group` and `split`). `--config.data.labels="stroke_*"` uses only matching labels.

Candidates are compared on validation data (by folds where it is of few groups), and each is tested:
log-mel statistics with a linear model, the baseline; linear models above frozen features of
pretrained encoders; and what is trained within `minutes`. `exports/best` of the workdir is the
chosen one.

`:transformer` is the training of the music tagging transformer as it was published, for an
accelerator: Adam at 1e-4, batches of 32, up to 200 epochs, until the validation loss has not fallen
for 20, on augmented audio (`docs/augmentation.md`). Published, on CALS: ROC-AUC .9188 and PR-AUC
.3775, with augmentation .9191 and .3845 (Won, Choi, Serra, ISMIR 2021; the patience is that of
Won's thesis, 40 in the public code). `:transformer_smoke` is one step of it.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "", "smoke" for one step of a training from scratch, "transformer" or
            "transformer_smoke".
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
    if arg in ("transformer", "transformer_smoke"):
        train_transformer(config)
    if arg in ("smoke", "transformer_smoke"):
        config.candidates = "scratch"
        config.minutes = 60.0  # its steps are few; none is left out on a busy machine
        config.optimizer.name = "adam"
        common.smoke(config)
    if arg == "transformer_smoke":
        config.model.size = "compact"
        config.train.update(num_epochs=None, evaluate_every_epochs=None)
    if arg not in ("", "smoke", "transformer", "transformer_smoke"):
        raise ValueError(
            "configs/tagging.py knows the arguments smoke, transformer and transformer_smoke, not "
            f"{arg!r}."
        )
    return config


def train_transformer(config: ConfigDict) -> None:
    """Writes the published training of the music tagging transformer."""
    config.candidates = "scratch"
    config.minutes = 1e5  # as long as it takes
    config.model.update(name="tagging_transformer", size="full")
    config.optimizer.update(name="adam", learning_rate=1e-4, weight_decay=0.0)
    config.train.update(
        batch_size=32,
        num_steps=None,
        num_epochs=200,
        evaluate_every_steps=None,
        evaluate_every_epochs=1,
        patience=20,
        select_by="loss",
        augment="published",
    )
