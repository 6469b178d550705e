"""A student of few labels, and of what its teacher says of music without labels.

Source: Won, Choi, Serra, "Semi-supervised music tagging transformer", ISMIR 2021; Won's thesis,
3.5.3; public code minzwon/semi-supervised-music-tagging-transformer. Across music cultures it is
open question 3 of "From West to East" (Papaioannou, Benetos, Potamianos, ISMIR 2023).

    python main.py --config=configs/student.py
    python main.py --config=configs/student.py --config.target=audio_folder:FOLDER \
      --config.num_train_tracks=3_per_class --config.seeds=0,1,2
    python main.py --config=configs/student.py:transfer
    python main.py --config=configs/student.py:smoke
    python main.py --config=configs/student.py:thesis --config.data.data_dir=DIR

Rows of the table, `transfer.modes`: `scratch` learns from the labels alone; `augmented` hears them
deformed; `student` hears them too, and in the same batch as much music without labels, for which
its teacher, who hears it as it is, says how likely each label is; `mean_teacher` has the average of
its own weights for a teacher. The baseline stands beside them.

`student.teacher` is one of these rows, trained in the same run (`scratch`, `augmented`, `baseline`;
`output_layer` and `all_layers` start from `source`), `linear:FEATURES` (a linear model above frozen
features, as in configs/tagging.py), `teacher` (a network of its own: `student.teacher_model`, and
sizes by `for_mode.teacher`), or `export:FOLDER` and `pretrained:NAME`, of the same labels.

`student.unlabeled` is `rest` (training tracks whose labels `num_train_tracks` leaves out, rows of a
folder's table without labels, the unlabeled part of `million_song/cals`), a data set, or
`audio_folder:FOLDER`, a folder with or without a table. Labels are not read, and no track of the
target's validation or test split, or of a group in them, is taken.

`:transfer` asks what few labels of one culture are worth beside many of another, from which the
network starts, and beside music without labels. Both take generated audio and compact models by
default: their numbers say nothing about real music. `:thesis` has the published protocol. What the
thesis and its code leave open, and the choices made here, are in docs/student.md.
"""

from ml_collections import ConfigDict
from musrep_jax.configs import common

from musrep_jax.config import make_placeholder


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: "" for one culture, "transfer" for two, "smoke" for a step of everything, "thesis" for
            the published protocol.
    """
    config = common.get_base("train", task="student")
    config.source = ""
    config.target = "synthetic_cultures/makam"
    config.num_train_tracks = "5_per_class"
    config.transfer.modes = "scratch,augmented,student"
    config.student = ConfigDict(
        {
            "teacher": "augmented",  # or scratch, teacher, baseline, all_layers, export:FOLDER, ...
            "teacher_model": make_placeholder(str),  # of the teacher `teacher`; None: the student's
            "unlabeled": "rest",  # or a data set, or audio_folder:FOLDER
            "unlabeled_batch_size": make_placeholder(int),  # None: train.batch_size
            "unlabeled_weight": 1.0,  # of the loss of music without labels
            "num_iterations": 1,  # each student is the teacher of the next
            "decay": 0.99,  # of an averaged teacher: what stays of it in each step
            "ramp_up_steps": 100,  # in which the weight grows beside an averaged teacher; 0: none
        }
    )
    # Rows without labels are music without labels; "files" takes files that no row lists too, and
    # "none" lets such rows be examples of no label.
    config.data.options.audio_folder = ConfigDict({"unlabeled": "rows"})
    common.embedded_training(config)
    config.train.augment = "published"
    config.model.name = "musicnn"
    config.compact.musicnn.update(
        n_mels=48, n_fft=1024, hop_length=512, num_samples=59392, dense_width=128, dropout_rate=0.2
    )
    config.train.update(num_steps=600, evaluate_every_steps=50, patience=4)
    if arg == "transfer":
        config.source = "synthetic_cultures/western"
        config.num_train_tracks = "10,40"
        config.transfer.modes = "scratch,output_layer,all_layers,fresh_student,student"
        config.student.teacher = "all_layers"
    elif arg == "smoke":
        common.smoke(config)
        config.model.name = "log_mel_statistics"  # which compiles in seconds
        config.train.augment = "polarity"
        config.num_train_tracks = "5"
    elif arg == "thesis":
        use_published_protocol(config)
    elif arg:
        raise ValueError(
            f"configs/student.py knows the arguments transfer, smoke and thesis, not {arg!r}."
        )
    return config


def use_published_protocol(config: ConfigDict) -> None:
    """Writes the published training into the config."""
    config.target = "million_song/cals50-cals"
    config.num_train_tracks = "all"
    config.model.update(name="tagging_transformer", size="full")
    # 0.49 M parameters of the student, as the text says; the code's README has 128 channels, 1.1 M.
    config.model.update(width=64, conv_channels=64)
    config.student.teacher = "teacher"
    config.for_mode = ConfigDict({"teacher": {"model": {"width": 256, "conv_channels": 128}}})
    config.train.augment = "thesis"
    config.optimizer.update(name="adam", learning_rate=1e-4, weight_decay=0.0)
    # 16 with labels and 16 without; the published code, too, has half a batch of 32 of each.
    config.train.update(batch_size=16, num_steps=None, evaluate_every_steps=None)
    config.train.update(num_epochs=200, evaluate_every_epochs=1, patience=20, select_by="loss")
    config.for_mode.scratch = ConfigDict({"train": {"batch_size": 32}})
    config.for_mode.augmented = ConfigDict({"train": {"batch_size": 32}})
    config.for_mode.teacher.train = ConfigDict({"batch_size": 32})
    config.data.cache_megabytes = 0
