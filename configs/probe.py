"""What frozen features are worth: small classifiers on few and many examples.

    python main.py --config=configs/probe.py
    python main.py --config=configs/probe.py --config.target=audio_folder:FOLDER
    python main.py --config=configs/probe.py:few_shot
    python main.py --config=configs/probe.py:smoke
    python main.py --config=configs/probe.py:multilevel
    python main.py --config=configs/probe.py:multilevel_paper --config.source=A,B --config.target=C

Lists are comma separated and make a matrix: data sets (`target`), `features`, `classifiers`,
numbers of training tracks (`num_train_tracks`) and `seeds`. See docs/probe.md for the names of
features and classifiers.

`few_shot` draws many episodes of few labels with few examples each, from recordings that may have
several labels, and asks how well prototypes of labels and of label combinations tell the others.

`multilevel` is Lee et al., MIREX 2017: sample-level networks trained on two sources, their last
three layers (maximum over time, mean over 12 segments) alone and together under a support vector
machine, in three folds without common performers. `multilevel_paper` has the published network and
training: SGD that restarts from the best weights at each drop of its rate, five stages.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common

from musrep_jax.models.sample_cnn import MIREX_2017


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" or "smoke" for a handful of tracks; "few_shot" or "few_shot_smoke" for episodes;
            "multilevel", "multilevel_paper" or "multilevel_smoke" for layers of trained networks.
    """
    if arg.startswith("few_shot"):
        return few_shot(arg)
    config = common.get_base(task="probe")
    config.source = ""  # what `sources` stands for in features: data sets, export:, pretrained:
    config.target = "synthetic_cultures/makam"
    # log_mel_statistics[mfcc], log_mel_windows, pretrained:NAME, export:FOLDER,
    # hub:OWNER/NAME, table:FILE, store:FOLDER, trained:DATA SET (the network `model.name`, trained
    # on it first), sources; A+B is both, A[9,10,max] outputs and their pooling.
    # The first features are those that all others are compared with.
    config.features = "log_mel_statistics, log_mel_windows, log_mel_statistics+log_mel_windows"
    # ridge, logistic, svm, neighbors, mlp, prototypes; svm[cost=10,standardize=scalar] gives
    # settings, and what is not given is chosen inside the training tracks.
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
    elif arg in ("multilevel", "multilevel_paper", "multilevel_smoke"):
        use_layers_of_sources(config)
        if arg == "multilevel_paper":
            use_published_training(config)
        elif arg == "multilevel_smoke":
            common.smoke(config)
            config.compact.sample_cnn.update(n_channels=2, channel_factors=(1, 1, 2, 2, 2, 2))
            config.compact.sample_cnn.num_samples = 729
            config.target = "synthetic_cultures/makam"
            config.source = "synthetic_cultures/western"
            config.features = "sources[-3,-2,-1,max]"
            config.classifiers = "svm[cost=1,standardize=scalar]"
            config.probe.labels = "makam--*"
            config.evaluation.num_chunks = 3
    elif arg:
        known = "smoke, few_shot, few_shot_smoke, multilevel, multilevel_paper, multilevel_smoke"
        raise ValueError(f"configs/probe.py knows {known}, not {arg!r}.")
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


def use_layers_of_sources(config: ConfigDict) -> None:
    """Writes the system of Lee et al. in a size for two CPU cores into the config.

    The network is `MIREX_2017` of `musrep_jax/models/sample_cnn.py`; its compact form has one layer
    less and an eighth of the channels, and hears 1.2 s at 16 kHz instead of 2.7 s at 22 kHz.
    """
    config.source = "synthetic_cultures/western, synthetic_cultures/carnatic"
    config.target = "synthetic_cultures/hindustani"
    config.model.name = "sample_cnn"
    config.model.update({**MIREX_2017, "sample_rate": None})
    config.compact.sample_cnn.update(
        n_channels=16, channel_factors=(1, 1, 1, 2, 2, 2, 2, 2, 2), num_samples=19683
    )
    config.features = "sources[-3,-2,-1,max], sources[-1,max], log_mel_statistics"
    # As published: one mean and deviation for all features together, cost 1, gamma 1 / features.
    config.classifiers = "svm[cost=1,standardize=scalar], svm[cost=1,standardize=features]"
    config.similarity = ""
    config.num_train_tracks = "all"
    config.probe.update(labels="form--*", num_folds=3)
    config.evaluation.update(num_chunks=12, reaches_end=True)
    config.optimizer.update(name="sgd_plateau", learning_rate=0.1, weight_decay=0.0)
    config.train.update(
        batch_size=23, num_steps=600, evaluate_every_steps=60, select_by="loss", patience=None
    )
    config.for_mode = ConfigDict()


def use_published_training(config: ConfigDict) -> None:
    """Writes the published network and its training into the config, for real data."""
    config.model.update(size="full", sample_rate=MIREX_2017["sample_rate"])
    config.optimizer.update(learning_rate=0.01, step_decay=1e-6)
    config.train.update(num_steps=None, evaluate_every_steps=None)
    config.train.update(num_epochs=1000, evaluate_every_epochs=1)
