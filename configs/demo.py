"""What `musrep demo` trains: a small tagger of synthetic music, beside the baseline.

    musrep demo
    python main.py --config=configs/demo.py

The sizes are chosen for time alone: 50 CPU seconds, synthesis and compilation included, and less
the second time. Training is real and so are the scores; the baseline, log-mel statistics with a
linear model, may well be better on so few tracks, and the verdict says so.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import tagging


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for one step of everything.
    """
    config = tagging.get_config(arg)
    config.data.name = "synthetic_cultures/western"
    config.evaluation.baseline = True
    config.candidates = "scratch"  # nothing is downloaded
    if arg == "":
        config.model.name = "musicnn"
        config.compact.musicnn.update(n_mels=48, n_fft=1024, hop_length=512, dense_width=128)
        # One branch over time instead of three, as wide: a third less to compile and to compute.
        config.compact.musicnn.update(horizontal_lengths=(33,), horizontal_channels=16)
        config.minutes = 10.0  # 150 steps take a quarter of one, and more on a busy machine
        config.optimizer.name = "adam"
        config.train.update(num_steps=150, evaluate_every_steps=50)
        config.data.options.synthetic_cultures = ConfigDict({"num_tracks": 192, "seconds": 4.0})
    return config
