"""How far taggers hold when the sound is changed: pitch, tempo, dynamics, noise.

    musrep robustness runs/own/exports/best audio_folder:FOLDER
    python main.py --config=configs/robustness.py
    python main.py --config=configs/robustness.py --config.target=audio_folder:FOLDER \\
        --config.taggers=linear:pretrained:musicnn-msd,export:runs/own/exports/best
    python main.py --config=configs/robustness.py:smoke

Test tracks are deformed as wholes, before they are cut into chunks, and every model is compared
with itself on the clean tracks. Nothing is trained on deformed tracks. See docs/robustness.md.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for two deformations of a handful of tracks.
    """
    config = common.get_base(task="robustness")
    config.target = "synthetic_cultures/makam"
    # Comma separated: export:FOLDER and pretrained:NAME, whose labels are matched by name with
    # those of the data; linear:FEATURES fits an output layer on the clean training tracks. NAME=
    # before one names it.
    config.taggers = "log_mel_statistics, linear:pretrained:musicnn-msd"
    config.robustness = ConfigDict(
        {
            # published: pitch:-1,1, stretch:2^-0.5,2^0.5, compression:4,6, noise:0.1,0.4; a range
            # is pitch:-3..3, with another step pitch:-3..3/0.5
            "deformations": "published",
        }
    )
    common.embedded_training(config)
    if arg == "smoke":
        common.smoke(config)
        config.taggers = "log_mel_statistics"
        config.robustness.deformations = "compression:4, noise:0.4"
    elif arg:
        raise ValueError(f"configs/robustness.py knows the argument smoke, not {arg!r}.")
    return config
