"""Train a tagger on one data set from scratch, and test it.

    python main.py --config=configs/tagging.py
    python main.py --config=configs/tagging.py:smoke
    python main.py --config=configs/tagging.py --config.data.name=audio_folder \\
        --config.data.path=FOLDER

An audio folder holds recordings and a `labels.tsv` (tab-separated; columns `path` and `labels`,
optional `group` and `split`). `--config.data.labels="stroke_*"` uses only matching labels.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for one step of everything.
    """
    config = common.get_base("tagging")
    config.data.name = "synthetic_cultures/makam"
    config.data.path = config_dict.placeholder(str)
    config.num_train_tracks = "all"
    common.embedded_training(config)
    if arg == "smoke":
        common.smoke(config)
    elif arg:
        raise ValueError(f"configs/tagging.py knows the argument smoke, not {arg!r}.")
    return config
