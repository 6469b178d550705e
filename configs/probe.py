"""What frozen features are worth: small classifiers on few and many examples, with intervals.

    python main.py --config=configs/probe.py
    python main.py --config=configs/probe.py --config.target=audio_folder:FOLDER
    python main.py --config=configs/probe.py:few_shot
    python main.py --config=configs/probe.py:smoke

Lists are comma separated and make a matrix: data sets (`target`), `features`, `classifiers`,
numbers of training tracks (`num_train_tracks`) and `seeds`. See docs/probe.md for the names of
features and classifiers.

`few_shot` draws many episodes of few labels with few examples each, from recordings that may have
several labels, and asks how well prototypes of labels and of label combinations tell the others.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for a handful of tracks; "few_shot" or "few_shot_smoke" for episodes.
    """
    if arg.startswith("few_shot"):
        return few_shot(arg)
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
        raise ValueError(f"configs/probe.py knows smoke, few_shot and few_shot_smoke, not {arg!r}.")
    return config


def few_shot(arg: str) -> ConfigDict:
    """Returns the config of few-shot learning.

    Args:
        arg: "few_shot" or "few_shot_smoke".
    """
    config = common.get_base(task="few_shot")
    config.target = "synthetic_cultures/makam"
    config.features = "log_mel_statistics, log_mel_windows"
    config.few_shot = ConfigDict(
        {
            "num_labels": "5",  # N-way, comma separated
            "num_shots": "1,5",  # K-shot, comma separated
            # prototypes of labels or of label combinations (LC-Protonets); nearer to the mean with
            # the label than to that without it; logistic regression
            "methods": "label, combination, contrast, logistic",
            "distance": "cosine",  # of prototypes; or l2
            "centers": True,  # subtract the mean of the support set
            "draw": "drawn",  # or first: one episode with the first labels, as the public code
            "split": "all",  # tracks of all splits; or test, as the public code
            "num_episodes": 50,
            "num_resamples": 200,
            "labels": "",  # patterns; "" takes all
            # Labels that the features were trained on, as patterns; "" takes those of the exports
            # and pretrained models among the features. The others are novel.
            "base_labels": "",
        }
    )
    common.embedded_training(config)
    if arg == "few_shot_smoke":
        common.smoke(config)
        config.features = "log_mel_statistics"
        config.few_shot.update(num_labels="2", num_shots="1", num_episodes=2, num_resamples=10)
    elif arg != "few_shot":
        raise ValueError(f"configs/probe.py knows few_shot and few_shot_smoke, not {arg!r}.")
    return config
