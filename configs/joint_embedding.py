"""One linear embedding of frames shared by several data sets, judged on unseen ones.

Source: Hamel, Davies, Yoshii, Goto, "Transfer learning in MIR: sharing learned latent
representations for music audio classification and similarity", ISMIR 2013; the loss is WSABIE's
(Weston, Bengio, Usunier, IJCAI 2011).

    python main.py --config=configs/joint_embedding.py
    python main.py --config=configs/joint_embedding.py:smoke
    python main.py --config=configs/joint_embedding.py \
      --config.target=audio_folder:FOLDER_A,audio_folder:FOLDER_B,audio_folder:FOLDER_C \
      --config.joint_embedding.labels="genre_*,stroke_*"
    python main.py --config=configs/joint_embedding.py:paper --config.data.data_dir=DIR

Every data set of `target` is judged by windows of 64 frames: `base`, without an embedding; `genre`,
in the embedding of the other targets; `tags`, in that of `source`, if there is one. One more
embedding, of all targets, shows which labels lie side by side. `joint_embedding.labels` chooses
labels of targets by patterns; tracks without any are left out.

The default takes generated audio of four cultures: forms and genres of three of them are targets,
all tags of the fourth the source. Its numbers say nothing about real music. `:paper` takes the five
data sets of the paper. `docs/joint_embedding.md` lists what the paper leaves open, and the choices
made here.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common

from musrep_jax.config import make_placeholder

GENRE_SETS = ("artists_1517", "gtzan/genres-stratified-pcm16", "homburg", "unique")
"""Of GTZAN, that form which has all 1,000 excerpts; splits only choose the end of a training."""


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" for generated audio, "smoke" for a step of everything, "paper" for the data sets of
            the paper.
    """
    config = common.get_base(task="joint_embedding")
    config.source = "synthetic_cultures/makam"
    config.target = ",".join(
        f"synthetic_cultures/{name}" for name in ("western", "hindustani", "carnatic")
    )
    config.joint_embedding = ConfigDict(
        {
            # Of targets, patterns separated by commas; None takes all.
            "labels": make_placeholder(str),
            # How negatives are visited: permutation (Hamel et al.) or with_replacement (WSABIE).
            "scheme": "permutation",
            "max_norm": 1.0,  # of every column of V and W, kept after each update
            "num_folds": 10,  # or as many as there are groups
            "folds_by": "groups",  # or tracks, as published
            "num_per_class": "1,2,5,10,20",  # training tracks of every class; all follow
            # Penalty of the regression of windows. Published is 0, which fits noise where there are
            # about as many windows as features. None chooses it on folds of the training tracks.
            "ridge": make_placeholder(float),
            "num_neighbors": 10,
            "distance": "l1",
        }
    )
    config.joint_embedding.labels = "folk,classical,rock,electronic,form--*"
    config.model.name = "joint_embedding"
    config.model.size = "full"
    config.optimizer.update(name="sgd", learning_rate=0.1, momentum=0.0, nesterov=False)
    # A batch is of one data set; validation ends the training.
    config.train.update(batch_size=100, num_steps=4000, evaluate_every_steps=200, patience=5)
    config.evaluation.tail = "drop"  # whole windows alone
    config.data.options.synthetic_cultures = ConfigDict({"num_tracks": 192, "seconds": 8.0})
    if arg == "smoke":
        common.smoke(config)
        config.model.update(n_mels=20, width=8)
        config.joint_embedding.update(num_folds=2, num_per_class="1")
    elif arg == "paper":
        config.source = "magnatagatune/all188-all-pcm16"
        config.target = ",".join(GENRE_SETS)
        config.joint_embedding.update(labels=None, folds_by="tracks", ridge=0.0)
        config.train.update(num_steps=200_000, evaluate_every_steps=2_000, max_seconds=30.0)
    elif arg:
        raise ValueError(f"configs/joint_embedding.py knows smoke and paper, not {arg!r}.")
    return config
