"""The fields shared by all experiments, with their defaults.

Settings of one training are resolved in this order, later ones override earlier ones: the config's
sections `model`, `optimizer`, `train`, `evaluation`, `data`, `transfer`; then `for_mode[MODE]`;
`for_model[MODEL]`; `for_target[DATA SET]`; then `for_target[DATA SET].for_model[MODEL]`; then the
command line. An empty field (None) means the default of the code that reads it: a model's defaults
are its module's fields, an optimizer's are in `musrep_jax/training/optim.py`.
"""

import dataclasses
import typing

from ml_collections import ConfigDict, config_dict

from musrep_jax.config import make_placeholder
from musrep_jax.models import MODELS, model_class, model_settings
from musrep_jax.training.optim import OPTIMIZERS

COMPACT = {
    "attention_rnn": {"n_channels": 4, "hidden_size": 32},
    "cnnsa": {"n_channels": 16, "num_samples": 64000},
    "combined_encoders": {},
    "crnn": {"n_channels": 16, "num_samples": 128000},
    "fcn": {
        "n_channels": 16,
        "num_samples": 128000,
        "pools": ((2, 2), (4, 2), (4, 2), (3, 3), (4, 4)),
    },
    "harmonic_cnn": {"n_channels": 16},
    "joint_embedding": {},
    "log_mel_statistics": {},
    "log_mel_windows": {},
    "mert": {
        "num_samples": 72000,
        "front_channels": (64,) * 7,
        "width": 96,
        "depth": 4,
        "num_heads": 4,
        "position_kernel": 32,
        "position_groups": 4,
    },
    "musicnn": {
        "n_mels": 128,
        "vertical_channels": 16,
        "horizontal_channels": 8,
        "backend_channels": 16,
        "dense_width": 50,
    },
    "musicnn_big": {
        "n_mels": 128,
        "vertical_channels": 16,
        "horizontal_channels": 8,
        "backend_channels": 64,
        "dense_width": 100,
    },
    "musicnn_original": {
        "vertical_channels": 16,
        "horizontal_channels": 8,
        "backend_channels": 16,
        "dense_width": 50,
    },
    "sample_cnn": {"n_channels": 16},
    "sample_cnn_se": {"n_channels": 16},
    "self_attention": {"spec_channels": 4, "width": 64},
    "short_chunk_cnn": {"n_channels": 16, "dropout_rate": 0.2},
    "short_chunk_resnet": {"n_channels": 16, "dropout_rate": 0.2},
    "spectrogram_transformer": {
        "variant": "tiny",
        "width": 96,
        "depth": 4,
        "patch_stride": 16,
        "num_samples": 63744,
    },
    "tagging_transformer": {"conv_channels": 16, "width": 64, "num_samples": 110250},
    "vgg_ish": {"n_channels": 16, "dropout_rate": 0.2},
    "vgg_original": {"n_channels": 16},
}
"""Deviations from the published sizes that train in seconds on two CPU cores."""


def empty_model_fields() -> dict:
    """Returns an empty config field for every setting that any model has."""
    fields = {}
    for name in MODELS:
        hints = typing.get_type_hints(model_class(name))
        for key in model_settings(name):
            fields[key] = make_placeholder(hints[key])
    return fields


def empty_optimizer_fields() -> dict:
    """Returns an empty config field for every setting that any optimizer has."""
    return {
        field.name: make_placeholder(type(field.default))
        for optimizer in OPTIMIZERS.values()
        for field in dataclasses.fields(optimizer)
    }


def get_base(recipe: str = "train", task: str = "tagging") -> ConfigDict:
    """Returns the fields that all experiments share.

    Args:
        recipe: a key of `musrep_jax.recipes.RECIPES`.
        task: a key of `musrep_jax.tasks.TASKS`; a section of the config with that name holds
            settings of the task's own.
    """
    config = ConfigDict()
    config.recipe = recipe
    config.task = task
    config.seeds = "0"  # comma separated
    # Settings that hold several values, such as "model.num_harmonics=1|2|3; train.batch_size=8|16":
    # every job is run with each combination.
    config.study = ""

    # name: one or several of musrep_jax.models.MODELS, comma separated. size: "compact" takes the
    # deviations of `compact` below, "full" the published sizes.
    config.model = ConfigDict(
        {
            **empty_model_fields(),
            "name": "short_chunk_resnet",
            "size": "compact",
            # Exported model whose backbone trainings without a source start from; None: fresh.
            "start": config_dict.placeholder(str),
        }
    )
    config.compact = ConfigDict(COMPACT)

    config.optimizer = ConfigDict({**empty_optimizer_fields(), "name": "adam"})

    config.train = ConfigDict(
        {
            "batch_size": 16,
            "num_steps": config_dict.placeholder(int),  # this or num_epochs
            "num_epochs": config_dict.placeholder(int),
            "evaluate_every_steps": config_dict.placeholder(int),  # this or epochs
            "evaluate_every_epochs": config_dict.placeholder(int),
            "patience": config_dict.placeholder(int),  # evaluations without gain; None is off
            "max_minutes": config_dict.placeholder(float),  # of training; None is no limit
            # auto: cross_entropy if every track has exactly one label, else binary_cross_entropy
            "loss": "auto",
            "select_by": "roc_auc",  # or pr_auc, loss, f1_samples (at evaluation.threshold)
            "reload_best_at_switch": True,
            "checkpoint": True,  # save a training when it is asked to stop and now and then
            "checkpoint_every_minutes": 5.0,  # at evaluations; 0 is at each
            # What is done to waveforms before a model hears them in training: published, thesis, or
            # operations of musrep_jax/dsp/augment separated by commas; None or none is nothing.
            "augment": config_dict.placeholder(str),
            "augment_responses": config_dict.placeholder(str),  # folder, for the operation room
            "mixup": config_dict.placeholder(float),  # alpha of Beta(alpha, alpha); None is off
            "spec_augment_masks": config_dict.placeholder(int),  # of time and of frequency each
            "spec_augment_time": 0.1,  # the widest, over the length of a chunk
            "spec_augment_frequency": 0.15,  # the widest, over the number of mel bands
            "max_seconds": config_dict.placeholder(float),  # use only the start of a recording
            "num_devices": config_dict.placeholder(int),  # None is all
            "num_cpu_devices": 1,  # virtual ones, at most; one is fastest
            "num_microbatches": 1,  # parts in which a batch passes through the model, for memory
            # Arrays of so many bytes and more are split over the devices, for memory; None: none is
            "shard_params_over": config_dict.placeholder(int),
            "log_every_steps": 50,
            "trace": False,  # of a few steps: what devices and host do, in cells/CELL/trace
        }
    )
    # Of several processes that train together, see docs/many_devices.md; None: as JAX detects it.
    config.distributed = ConfigDict(
        {
            "coordinator": config_dict.placeholder(str),  # HOST:PORT of process 0
            "num_processes": config_dict.placeholder(int),
            "process_id": config_dict.placeholder(int),
            "timeout_seconds": 300,  # of finding each other
        }
    )
    config.evaluation = ConfigDict(
        {
            "aggregate": "probability",  # mean over a track's chunks; or logit
            "num_chunks": config_dict.placeholder(int),  # None is consecutive chunks
            "reaches_end": False,  # of num_chunks: the last ends where the track does
            "tail": "keep",  # or drop: what is left after the last whole chunk
            "validation_num_chunks": config_dict.placeholder(int),
            "batch_size": 32,
            "baseline": True,  # beside every training, log-mel statistics with a linear model
            "num_bootstrap": 1000,
            "resample": "groups",  # whole groups where a data set has them; or tracks
            "threshold": 0.5,  # of F1; another F1 has thresholds fitted on validation data
        }
    )
    config.data = ConfigDict(
        {
            "data_dir": config_dict.placeholder(str),  # None is the user's cache folder
            "cache_megabytes": 1024,
            "num_workers": 0,  # processes that prepare batches; 0 is a thread
            "seed": 0,  # of generated data, and of splits that are made for a folder
            "labels": config_dict.placeholder(str),  # of audio folders, e.g. "stroke_*,tonic_*"
            "source_labels": config_dict.placeholder(str),  # the same, for sources
            "options": {},  # builder -> options of its own
        }
    )
    config.transfer = ConfigDict(
        {
            "modes": "scratch,output_layer,all_layers",
            "batch_norm": config_dict.placeholder(str),  # frozen | update; None: see transfer.py
            "cache_embeddings": True,
            "input_statistics": "target",  # or source
        }
    )
    config.for_mode = ConfigDict()
    config.for_model = ConfigDict()
    config.for_target = ConfigDict()
    return config


def embedded_training(config: ConfigDict) -> None:
    """Writes a training that suits small data on two CPU cores."""
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-4
    config.train.update(batch_size=16, num_steps=100, evaluate_every_steps=20, patience=None)
    # Steps on cached embeddings cost next to nothing.
    config.for_mode.output_layer = ConfigDict(
        {"train": {"num_steps": 600, "evaluate_every_steps": 60}}
    )


def smoke(config: ConfigDict) -> None:
    """Makes everything one step long on a handful of tracks, for tests and for a first look."""
    config.train.update(num_steps=1, evaluate_every_steps=1, batch_size=4)
    config.for_mode = ConfigDict()
    config.evaluation.update(num_bootstrap=20, batch_size=8, baseline=False)
    config.data.options.synthetic_cultures = ConfigDict({"num_tracks": 24, "seconds": 4.0})
