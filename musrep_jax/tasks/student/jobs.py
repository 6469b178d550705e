"""The jobs of a student: its teacher, what it is compared with, and the student itself."""

import dataclasses
from collections.abc import Sequence

import ml_collections

from musrep_jax.config import ConfigError, choose, split_list
from musrep_jax.dsp.augment import parse_chain
from musrep_jax.evaluation.subsets import parse_sizes
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.matrix import (
    ALL_LAYERS,
    BASELINE,
    BASELINE_MODEL,
    COMBINED_MODEL,
    LINEAR,
    MODES,
    SCRATCH,
    list_models,
    list_usable_sources,
    make_job,
    plan_baselines,
    plan_matrix,
)
from musrep_jax.tasks.tagging.sources import READY_PREFIXES, list_architectures, read_architecture

TASK = "student"
AUGMENTED = "augmented"
"""Training from scratch on labeled tracks that are augmented."""
TEACHER = "teacher"
"""The same for a network of its own, `student.teacher_model` with `for_mode.teacher`."""
STUDENT, FRESH_STUDENT, AVERAGED = "student", "fresh_student", "mean_teacher"
"""A student that starts from its source if it has one; one of fresh weights, whose teacher alone
comes from a source; and one whose teacher is the average of the student's own weights."""
STUDENTS = (FRESH_STUDENT, STUDENT, AVERAGED)
STUDENT_MODES = (SCRATCH, AUGMENTED, "output_layer", ALL_LAYERS, *STUDENTS)
SETTING_MODES = (TEACHER, AUGMENTED, *STUDENTS)
"""Modes with settings of their own in `for_mode`, beside those of tagging."""
LINEAR_PREFIX = "linear:"
TRANSFERRED = ("output_layer", ALL_LAYERS)
TEACHER_WORDS = (
    f"{SCRATCH}, {AUGMENTED}, {TEACHER}, {BASELINE}, output_layer, {ALL_LAYERS}, linear:FEATURES, "
    "export:FOLDER or pretrained:NAME"
)
_TRAINED = (SCRATCH, AUGMENTED, TEACHER, BASELINE, *TRANSFERRED)


def is_teacher(value: object) -> bool:
    """Returns whether a value names a teacher.

    Args:
        value: of the setting `student.teacher`.
    """
    if not isinstance(value, str):
        return False
    prefix = next((p for p in (*READY_PREFIXES, LINEAR_PREFIX) if value.startswith(p)), None)
    return value in _TRAINED if prefix is None else len(value) > len(prefix)


def is_student(job: Job) -> bool:
    """Returns whether a job trains a student.

    Args:
        job: of this task.
    """
    return get_kind(job) in STUDENTS


def get_kind(job: Job) -> str:
    """Returns the mode of a job without the number of an iteration.

    Args:
        job: of this task.
    """
    mode, _, number = job["mode"].rpartition("_")
    return mode if number.isdigit() else job["mode"]


def find_teacher(job: Job, jobs: Sequence[Job]) -> Job | None:
    """Returns the job of a student's teacher, None for other jobs and averaged teachers.

    Args:
        job: of this task.
        jobs: of the experiment.
    """
    key = get_teacher_key(job)
    return next((other for other in jobs if other.key == key), None)


def get_teacher_key(job: Job) -> str | None:
    """Returns the key of the job of a student's teacher, None for one that has no such job.

    Args:
        job: of this task.
    """
    return job.needs[-1] if get_kind(job) in (STUDENT, FRESH_STUDENT) else None


def is_ready_teacher(job: Job) -> bool:
    """Returns whether a job tests a teacher that stands ready.

    Args:
        job: of this task.
    """
    return job["mode"] == TEACHER and job["source"] is not None


def starts_from_trained_source(job: Job) -> bool:
    """Returns whether a student starts from a network that an earlier job trains.

    Args:
        job: that trains a student.
    """
    source = job["source"]
    return (
        source is not None
        and not source.startswith(READY_PREFIXES)
        and get_kind(job) != FRESH_STUDENT
    )


def plan_students(config: ml_collections.ConfigDict) -> list[Job]:
    """Returns the jobs of a config, each after those that it needs.

    The matrix of tagging makes those that learn from labels alone. Every other job is of a target,
    a model, a seed and a number of labeled tracks too: the teacher is one of the same run, unless
    it stands ready.

    Args:
        config: with `source`, `target`, `transfer.modes` and `student`.

    Raises:
        ConfigError: if a setting cannot be read.
    """
    modes, teacher = list_modes(config), config.student.teacher
    sources, targets = split_list(config.source), split_list(config.target)
    if teacher in TRANSFERRED and not sources:
        raise ConfigError(
            f"student.teacher is {teacher!r}, which starts from a source: name one by "
            f"--config.source, or a teacher that is {SCRATCH!r} or {AUGMENTED!r}."
        )
    supervised = [SCRATCH, *(mode for mode in modes if mode in MODES)]
    if teacher in TRANSFERRED:
        supervised.append(teacher)
    matrix = plan_matrix(config, tuple(dict.fromkeys(supervised)))
    models, architectures = list_models(config), list_architectures(config)
    jobs = [_own(job) for job in matrix]
    for model in models:
        usable = list_usable_sources(sources, model, models, architectures)
        for seed in parse_integers(config.seeds, "seeds"):
            trained = [source for source in usable if source not in architectures]
            jobs += [_own(make_job(source, model, seed=seed)) for source in trained]
            for target in targets:
                for size in parse_sizes(config.num_train_tracks):
                    common = dict(target=target, model=model, seed=seed, num_train_tracks=size)
                    starts = [None, *(source for source in usable if source != target)]
                    jobs += _plan_cell(config, modes, starts, common)
    if config.evaluation.baseline:
        learned = [job for job in jobs if job["mode"] != LINEAR and not is_ready_teacher(job)]
        jobs = [*(_own(job) for job in plan_baselines(learned)), *jobs]
    return check_jobs(jobs)


def list_modes(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the modes of a config; without augmentation, `augmented` is training from scratch.

    Args:
        config: of an experiment.

    Raises:
        ConfigError: if there is no such mode.
    """
    modes = [choose(m, STUDENT_MODES, "transfer.modes") for m in split_list(config.transfer.modes)]
    return tuple(mode for mode in modes if mode != AUGMENTED or parse_chain(config.train.augment))


def name_teacher(config: ml_collections.ConfigDict) -> str:
    """Returns the teacher of a config; without augmentation, `augmented` is `scratch`.

    Args:
        config: of an experiment.
    """
    name = config.student.teacher
    return SCRATCH if name == AUGMENTED and not parse_chain(config.train.augment) else name


def _plan_cell(
    config: ml_collections.ConfigDict,
    modes: Sequence[str],
    starts: Sequence[str | None],
    common: dict,
) -> list[Job]:
    """Returns the jobs of one target, model, seed and number of labeled tracks.

    Args:
        config: of the experiment.
        modes: of the experiment.
        starts: None and the sources.
        common: arguments of `make_job`.
    """
    jobs = [_own(make_job(mode=AUGMENTED, **common))] * (AUGMENTED in modes)
    name = name_teacher(config)
    transferred = starts[1:]
    for source in transferred if name in TRANSFERRED else (None,):
        teacher = _make_teacher(config, name, source, common)
        jobs.append(teacher)
        for mode in (mode for mode in (STUDENT, FRESH_STUDENT) if mode in modes):
            if mode == FRESH_STUDENT and source is None:
                continue  # it is the student
            own = [source] if source or mode == FRESH_STUDENT else list(starts)
            for start in own:
                jobs += _plan_iterations(config, mode, start, teacher, common)
    if AVERAGED in modes:
        jobs += [_own(make_job(source=start, mode=AVERAGED, **common)) for start in starts]
    return jobs


def _make_teacher(
    config: ml_collections.ConfigDict, name: str, source: str | None, common: dict
) -> Job:
    """Returns the job of a teacher; one that stands ready is tested, and not trained."""
    if name.startswith(READY_PREFIXES):
        fields = {"model": read_architecture(name), "source": name, "mode": TEACHER}
        return _own(make_job(target=common["target"], **fields))
    if name.startswith(LINEAR_PREFIX):
        features = name.removeprefix(LINEAR_PREFIX)
        own = common | {"model": COMBINED_MODEL, "mode": LINEAR, "source": features}
    elif name == BASELINE:
        own = common | {"model": BASELINE_MODEL, "mode": BASELINE}
    elif name == TEACHER:
        own = common | {"model": config.student.teacher_model or common["model"], "mode": TEACHER}
    else:
        own = common | {"mode": name, "source": source}
    return _own(make_job(**own))


def _plan_iterations(
    config: ml_collections.ConfigDict,
    mode: str,
    start: str | None,
    teacher: Job | None,
    common: dict,
) -> list[Job]:
    """Returns the students of all iterations: of each, the one before is the teacher."""
    jobs: list[Job] = []
    for number in range(1, config.student.num_iterations + 1):
        job = make_job(source=start, mode=mode if number == 1 else f"{mode}_{number}", **common)
        needs = job.needs if mode == STUDENT else ()
        teacher = dataclasses.replace(_own(job), needs=(*needs, teacher.key))
        jobs.append(teacher)
    return jobs


def _own(job: Job) -> Job:
    """Returns a job of tagging as one of this task, in whose tables it stands."""
    return dataclasses.replace(job, task=TASK)
