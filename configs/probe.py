"""What frozen features are worth: small classifiers on few and many examples, with intervals.

    python main.py --config=configs/probe.py
    python main.py --config=configs/probe.py --config.target=audio_folder:FOLDER
    python main.py --config=configs/probe.py:smoke

Lists are comma separated and make a matrix: data sets (`target`), `features`, `classifiers`,
numbers of training tracks (`num_train_tracks`) and `seeds`. See docs/probe.md for the names of
features and classifiers.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for a handful of tracks.
    """
    config = common.get_base(task="probe")
    config.target = "synthetic_cultures/makam"
    # log_mel_statistics, log_mel_windows, mfcc_statistics, pretrained:NAME, export:FOLDER,
    # hub:OWNER/NAME, table:FILE, store:FOLDER; A+B is both, A[9,10,max] outputs and their pooling.
    # The first features are those that all others are compared with.
    config.features = "log_mel_statistics, log_mel_windows, log_mel_statistics+log_mel_windows"
    # ridge, logistic, svm, neighbors, mlp; svm[cost=10,standardize=scalar] gives settings, and what
    # is not given is chosen inside the training tracks.
    config.classifiers = "ridge, neighbors"
    config.similarity = "l1"  # also precision among nearest neighbors: l1, l2, cosine, or none
    config.num_train_tracks = "5_per_class, 20_per_class, all"
    config.probe = ConfigDict(
        {
            "labels": "",  # patterns of labels, such as "makam--*"; "" takes all
            # split, folds (by group), stratified_folds, plain_folds, leave_one_group_out
            "protocol": "folds",
            "num_folds": 5,
            "windows": "pooled",  # a track is the mean of its windows; or mean of scores, majority
            "select_by": "auto",  # settings: accuracy of exclusive classes, else roc_auc
            "num_inner_folds": 3,
            "precision_at": 10,
        }
    )
    common.embedded_training(config)
    if arg == "smoke":
        common.smoke(config)
        config.features = "log_mel_statistics"
        config.classifiers = "ridge"
        config.num_train_tracks = "all"
        config.probe.update(num_folds=2, num_inner_folds=2)
    elif arg:
        raise ValueError(f"configs/probe.py knows the argument smoke, not {arg!r}.")
    return config
