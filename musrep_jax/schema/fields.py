"""One rule for every field of the configs.

Bounds keep out what cannot be meant (a batch of nothing, a rate of NaN, a dropout of 1.5), and what
no machine holds. Whether the values fit together is checked in `musrep_jax.schema.checks`.
"""

from musrep_jax.data.datasets import DATASETS
from musrep_jax.data.deformed.deformations import DEFORMATION_WORDS, are_deformations
from musrep_jax.dsp.augment import AUGMENT_WORDS, CHAINS, OPERATIONS, is_chain
from musrep_jax.evaluation.aggregation import AGGREGATIONS
from musrep_jax.evaluation.subsets import SIZE_WORDS, are_sizes
from musrep_jax.evaluation.support import RESAMPLE_BY
from musrep_jax.losses import WARP_SCHEMES
from musrep_jax.models import ALIASES, MODELS
from musrep_jax.probing.few_shot_methods import METHODS
from musrep_jax.probing.neighbors import DISTANCES
from musrep_jax.probing.protocol import WINDOWS
from musrep_jax.probing.prototypes import DISTANCES as PROTOTYPE_DISTANCES
from musrep_jax.probing.windows import FOLDS_BY
from musrep_jax.recipes import RECIPES
from musrep_jax.rules.kinds import (
    Rule,
    any_text,
    choice,
    flag,
    list_of_text,
    names,
    numerals,
    optional,
    real,
    sequence,
    text,
    whole,
)
from musrep_jax.rules.model_settings import MODEL_FIELDS, RATE, SIZE
from musrep_jax.tasks import TASKS
from musrep_jax.tasks.binding import AUTO, BATCH_NORM, LOSSES
from musrep_jax.tasks.few_shot.task import ALL_SPLITS, DRAWS, TEST_SPLIT
from musrep_jax.tasks.probe.features import FEATURE_WORDS, are_features
from musrep_jax.tasks.probe.matrix import (
    CLASSIFIER_WORDS,
    SIMILARITY_WORDS,
    are_classifiers,
    are_distances,
)
from musrep_jax.tasks.probe.trial import PROTOCOLS, SELECT_BY
from musrep_jax.tasks.robustness.matrix import TAGGER_WORDS, are_taggers
from musrep_jax.tasks.scoring import SELECTABLE
from musrep_jax.tasks.settings import SIZES
from musrep_jax.tasks.student.jobs import (
    SETTING_MODES,
    STUDENT_MODES,
    TEACHER_WORDS,
    is_teacher,
)
from musrep_jax.tasks.tagging.features import CANDIDATE_WORDS, are_candidates
from musrep_jax.tasks.tagging.matrix import MODES
from musrep_jax.training.descent import UNITS
from musrep_jax.training.optim import OPTIMIZERS

MANY = 10**9
"""Steps, bytes, tracks: more than anybody has."""

MODEL_NAMES = (*MODELS, *ALIASES)

_COUNT = whole(1, MANY)
_LEARNING_RATE = real(0, 100, above=True)
_WEIGHT_DECAY = real(0, 100)

OPTIMIZER_FIELDS: dict[str, Rule] = {
    "learning_rate": _LEARNING_RATE,
    "weight_decay": _WEIGHT_DECAY,
    "clip_norm": real(0, 1e6),
    "betas": sequence(RATE, 2),
    "eps": real(0, 1, above=True),
    "momentum": RATE,
    "nesterov": flag(),
    "step_decay": real(0, 100),
    "drop_factor": real(0, 1, above=True, below=True),
    "drop_after": _COUNT,
    "num_drops": whole(0, 1_000),
    "reload_best": flag(),
    "switch_at": sequence(real(0, 10**8, above=True)),
    "switch_unit": choice(UNITS),
    "sgd_learning_rates": sequence(_LEARNING_RATE),
    "sgd_weight_decay": _WEIGHT_DECAY,
    "warmup_steps": whole(0, MANY),
    "decay_factor": real(0, 1, above=True),
    "decay_from_epoch": whole(0, MANY),
    "dip_every": _COUNT,
    "dip_until": _COUNT,
}

FIELDS: dict[str, Rule] = {
    # The tables themselves: what is put into one later is allowed too.
    "recipe": choice(RECIPES),
    "task": choice(TASKS),
    "seeds": numerals(0, 2**31 - 1),
    "study": any_text(),
    "source": any_text(),
    "target": list_of_text(),
    "candidates": Rule(CANDIDATE_WORDS, are_candidates),
    "features": Rule(FEATURE_WORDS, are_features),
    "classifiers": Rule(CLASSIFIER_WORDS, are_classifiers),
    "similarity": Rule(SIMILARITY_WORDS, are_distances),
    "probe.labels": any_text(),
    "probe.protocol": choice(PROTOCOLS),
    "probe.num_folds": whole(2, 1_000),
    "probe.num_inner_folds": whole(2, 1_000),
    "probe.windows": choice(WINDOWS),
    "probe.select_by": choice(SELECT_BY),
    "probe.precision_at": whole(1, 100_000),
    "few_shot.labels": any_text(),
    "few_shot.base_labels": any_text(),
    "few_shot.num_labels": numerals(2, 10_000),
    "few_shot.num_shots": numerals(1, 10_000),
    "few_shot.methods": names(METHODS),
    "few_shot.distance": choice(PROTOTYPE_DISTANCES),
    "few_shot.centers": flag(),
    "few_shot.draw": choice(DRAWS),
    "few_shot.split": choice((ALL_SPLITS, TEST_SPLIT)),
    "few_shot.num_episodes": whole(1, 100_000),
    "few_shot.num_resamples": whole(0, 100_000),
    "taggers": Rule(TAGGER_WORDS, are_taggers),
    "robustness.deformations": Rule(DEFORMATION_WORDS, are_deformations),
    "minutes": optional(real(0, 1e6)),
    "num_train_tracks": Rule(SIZE_WORDS, are_sizes),
    **{f"model.{name}": optional(rule) for name, rule in MODEL_FIELDS.items()},
    "model.name": names(MODEL_NAMES),
    "model.size": choice(SIZES),
    "model.start": optional(text()),
    **{f"optimizer.{name}": optional(rule) for name, rule in OPTIMIZER_FIELDS.items()},
    "optimizer.name": choice(tuple(OPTIMIZERS)),
    "train.batch_size": SIZE,
    "train.num_steps": optional(_COUNT),
    "train.num_epochs": optional(whole(1, 10**6)),
    "train.evaluate_every_steps": optional(_COUNT),
    "train.evaluate_every_epochs": optional(whole(1, 10**6)),
    "train.max_minutes": optional(real(0, 1e6, above=True)),
    "train.patience": optional(_COUNT),
    "train.loss": choice((AUTO, *sorted(LOSSES))),
    "train.select_by": choice(sorted(SELECTABLE)),
    "train.reload_best_at_switch": flag(),
    "train.checkpoint": flag(),
    "train.checkpoint_every_minutes": real(0, 1e6),
    "train.augment": optional(Rule(AUGMENT_WORDS, is_chain, (*CHAINS, *OPERATIONS))),
    "train.augment_responses": optional(text()),
    "train.mixup": optional(real(0, 100, above=True)),
    "train.spec_augment_masks": optional(whole(1, 100)),
    "train.spec_augment_time": real(0, 1, above=True),
    "train.spec_augment_frequency": real(0, 1, above=True),
    "train.max_seconds": optional(real(0, 1e6, above=True)),
    "train.num_devices": optional(SIZE),
    "train.num_cpu_devices": whole(1, 1_024),
    "train.num_microbatches": SIZE,
    "train.shard_params_over": optional(whole(0, 2**62)),
    "train.log_every_steps": _COUNT,
    "train.trace": flag(),
    "distributed.coordinator": optional(text()),
    "distributed.num_processes": optional(SIZE),
    "distributed.process_id": optional(whole(0, 65_535)),
    "distributed.timeout_seconds": whole(1, 10**6),
    "evaluation.aggregate": choice(AGGREGATIONS),
    "evaluation.num_chunks": optional(SIZE),
    "evaluation.reaches_end": flag(),
    "evaluation.tail": choice(("keep", "drop")),
    "evaluation.validation_num_chunks": optional(SIZE),
    "evaluation.batch_size": SIZE,
    "evaluation.baseline": flag(),
    "evaluation.num_bootstrap": whole(0, 10**6),
    "evaluation.resample": choice(RESAMPLE_BY),
    "evaluation.threshold": real(0, 1),
    "joint_embedding.labels": optional(text()),
    "joint_embedding.scheme": choice(sorted(WARP_SCHEMES)),
    "joint_embedding.max_norm": real(0, 1e6, above=True),
    "joint_embedding.num_folds": whole(2, MANY),
    "joint_embedding.folds_by": choice(FOLDS_BY),
    "joint_embedding.num_per_class": numerals(1, MANY),
    "joint_embedding.ridge": optional(real(0, 1e12)),
    "joint_embedding.num_neighbors": _COUNT,
    "joint_embedding.distance": choice(DISTANCES),
    "student.teacher": Rule(TEACHER_WORDS, is_teacher),
    "student.teacher_model": optional(choice(MODEL_NAMES)),
    "student.unlabeled": text(),
    "student.unlabeled_batch_size": optional(SIZE),
    "student.unlabeled_weight": real(0, 1e6),
    "student.num_iterations": whole(1, 100),
    "student.decay": real(0, 1, below=True),
    "student.ramp_up_steps": whole(0, MANY),
    "data.name": text(),
    "data.path": optional(text()),
    "data.data_dir": optional(text()),
    "data.cache_megabytes": real(0, 1e8),
    "data.num_workers": whole(0, 1_024),
    "data.seed": whole(0, 2**31 - 1),
    "data.labels": optional(text()),
    "data.source_labels": optional(text()),
    "data.options.audio_folder.unlabeled": choice(("none", "rows", "files")),
    "data.options.synthetic_cultures.num_tracks": whole(3, 10**6),
    "data.options.synthetic_cultures.seconds": real(1, 3_600),
    "transfer.modes": names(tuple(dict.fromkeys((*MODES, *STUDENT_MODES)))),
    "transfer.batch_norm": optional(choice(BATCH_NORM)),
    "transfer.cache_embeddings": flag(),
    "transfer.input_statistics": choice(("target", "source")),
}
"""Dotted name -> its rule."""

BY_NAME = {
    "compact": MODEL_NAMES,
    "for_mode": (*MODES, *SETTING_MODES),
    "for_model": MODEL_NAMES,
    "for_target": tuple(DATASETS),
    "data.options": tuple(DATASETS),
}
"""Sections whose keys are names of something -> the names there are."""
