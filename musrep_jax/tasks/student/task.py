"""The task of a student: jobs of tagging, and students that learn from a teacher too."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ml_collections

from musrep_jax.config import ConfigError, given
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input import pipeline
from musrep_jax.inference.card import to_tuples
from musrep_jax.models import model_class
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import Job, strip_parents
from musrep_jax.tasks.settings import build_model, make_chunk_spec
from musrep_jax.tasks.student import reports
from musrep_jax.tasks.student.jobs import (
    AUGMENTED,
    AVERAGED,
    FRESH_STUDENT,
    STUDENT,
    TEACHER,
    TRANSFERRED,
    find_teacher,
    get_kind,
    get_teacher_key,
    is_ready_teacher,
    is_student,
    name_teacher,
    plan_students,
    starts_from_trained_source,
)
from musrep_jax.tasks.student.objective import (
    Lesson,
    StudentObjective,
    make_student_objective,
)
from musrep_jax.tasks.student.teacher import Teacher, hear_alike, open_teacher, order_outputs
from musrep_jax.tasks.student.unlabeled import (
    Unlabeled,
    describe_unlabeled,
    find_unlabeled,
    label_options,
)
from musrep_jax.tasks.tagging.comparison import REFERENCES, compare_on_same_tracks
from musrep_jax.tasks.tagging.matrix import SCRATCH
from musrep_jax.tasks.tagging.objective import (
    Scheme,
    TaggingObjective,
    check_augmented,
    resolve_loss,
)
from musrep_jax.tasks.tagging.sources import READY_PREFIXES, read_settings
from musrep_jax.tasks.tagging.task import TaggingTask
from musrep_jax.tasks.task import Context, OpenDataset, Outcome, Records, Result, Tables
from musrep_jax.training.loop import FitResult

AVERAGE = "average of the student"
"""Name of an averaged teacher."""
_CHANGES = ("augment", "augment_responses", "mixup", "spec_augment_masks")
"""Settings of `train` that say how what is heard is changed; None is not at all."""


class StudentTask(TaggingTask):
    """Taggers that learn from labels, and students that learn from their teachers beside them."""

    volatile: ClassVar[Sequence[str]] = (*TaggingTask.volatile, reports.VERSUS_TEACHER)

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs` and `plan_students`."""
        return plan_students(config)

    def make_settings(
        self, config: ml_collections.ConfigDict, job: Job
    ) -> ml_collections.ConfigDict:
        """See `Task.make_settings`: all iterations have those of the first one.

        Only students, their teacher and the row named so hear augmented music.
        """
        kind = get_kind(job)
        settings = super().make_settings(config, _change(job, mode=kind))
        if kind not in (AUGMENTED, TEACHER) and not is_student(job):
            with settings.ignore_type():
                settings.train.update(dict.fromkeys(_CHANGES))
        elif is_student(job):
            for name in ("mixup", "spec_augment_masks"):
                if settings.train[name]:
                    raise ConfigError(
                        f"train.{name} is {settings.train[name]}, but students hear waveforms that "
                        "train.augment changes, and nothing else: leave it out."
                    )
        own, parts = settings.student, settings.train.num_microbatches
        if is_student(job) and own.unlabeled_batch_size and own.unlabeled_batch_size % parts:
            raise ConfigError(
                f"train.num_microbatches is {parts}; it must divide student.unlabeled_batch_size, "
                f"which is {own.unlabeled_batch_size}."
            )
        return settings

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: how students learn changes nobody else."""
        section, _, name = setting.partition(".")
        if section == "student":
            is_average = name in ("decay", "ramp_up_steps")
            return is_student(job) and is_average <= (job["mode"] == AVERAGED)
        if section == "train" and name in _CHANGES and get_kind(job) not in (AUGMENTED, TEACHER):
            return is_student(job)
        return super().is_affected(_change(job, mode=get_kind(job)), setting)

    def check_data(
        self, jobs: Sequence[Job], config: ml_collections.ConfigDict, open_dataset: OpenDataset
    ) -> None:
        """See `Task.check_data`: music without labels, and teachers that stand ready."""
        seen = set()
        for job in filter(is_student, jobs):
            settings = self.make_settings(config, job)
            key = (job["target"], job["num_train_tracks"], job.seed, str(settings))
            if key in seen:
                continue
            seen.add(key)
            rate = given(settings.model).get("sample_rate", model_class(job["model"]).sample_rate)
            dataset = open_dataset(job["target"], rate, **label_options(config, job["target"]))
            resolve_loss(settings, dataset)
            model = build_model(settings, len(dataset.spec.label_names))
            teacher = None
            if job["mode"] != AVERAGED and config.student.teacher.startswith(READY_PREFIXES):
                place = config.student.teacher
                teacher = self._open_teacher(place, dataset, settings, strip_parents(place))
            self._find_music(config, job, settings, model, dataset, teacher, open_dataset)

    def prepare(self, job: Job, context: Context) -> TaggingObjective:
        """See `Task.prepare`: a student is prepared as if it were alone, and then given its
        teacher and the music that has no labels."""
        if is_ready_teacher(job):
            return self._prepare_ready_teacher(job, context)
        if not is_student(job):
            return super().prepare(job, context)
        mode = SCRATCH if job["source"] is None or get_kind(job) == FRESH_STUDENT else STUDENT
        changes = {"source": None} if mode == SCRATCH else {}
        needs = job.needs[: int(starts_from_trained_source(job))]
        own = dataclasses.replace(_change(job, mode=mode, **changes), needs=needs)
        alone = super().prepare(own, context)
        settings, config = context.settings, context.config
        is_averaged = job["mode"] == AVERAGED
        if is_averaged:
            columns = tuple(range(len(alone.dataset.spec.label_names)))
            teacher = Teacher(alone.model, alone.variables, columns, AVERAGE, ())
        else:
            place = context.find_export(str(get_teacher_key(job)))
            teacher = self._open_teacher(
                place, alone.dataset, settings, name_teacher_of(job, config)
            )
        unlabeled = self._find_music(
            config, job, settings, alone.model, alone.dataset, teacher, context.open_dataset
        )
        lesson = Lesson(
            loss=settings.train.loss,
            batch_norm=Scheme.of(own, settings).batch_norm,
            weight=settings.student.unlabeled_weight,
            columns=teacher.columns,
            hearing=hear_alike(alone.model, teacher.model, unlabeled.tracks.spec.stored_form),
            augment=settings.train.augment,
            responses=settings.train.augment_responses,
            ramp_up_steps=settings.student.ramp_up_steps if is_averaged else 0,
        )
        return make_student_objective(
            alone, teacher, unlabeled, lesson, settings, seed=job.seed, is_averaged=is_averaged
        )

    def _prepare_ready_teacher(self, job: Job, context: Context) -> TaggingObjective:
        """Returns the objective of a teacher that stands ready: it is tested as it is."""
        settings = context.settings
        read = read_settings(job["source"])
        with settings.ignore_type():
            for name, value in read.items():
                settings.model[name] = to_tuples(value)
        own = dataclasses.replace(_change(job, mode=SCRATCH, source=None), needs=())
        alone = super().prepare(own, context)
        name = strip_parents(job["source"])
        teacher = self._open_teacher(job["source"], alone.dataset, settings, name)
        variables = order_outputs(teacher)
        return dataclasses.replace(alone, variables=variables, solve=lambda: variables)

    def _open_teacher(
        self, place: str | Path, dataset: Dataset, settings: ml_collections.ConfigDict, name: str
    ) -> Teacher:
        """Returns a teacher that fits a target."""
        output = binding.get_output_activation(settings.train.loss)
        return open_teacher(place, dataset.spec.label_names, output, name)

    def _find_music(
        self,
        config: ml_collections.ConfigDict,
        job: Job,
        settings: ml_collections.ConfigDict,
        model: Any,
        dataset: Dataset,
        teacher: Teacher | None,
        open_dataset: OpenDataset,
    ) -> Unlabeled:
        """Returns the music without labels of a job, which both networks can hear."""
        labeled = dataset.tracks("train").subset(job["num_train_tracks"], job.seed)
        chunk = make_chunk_spec(model)
        heard = [make_chunk_spec(teacher.model)] if teacher else []
        rate = max(spec.sample_rate for spec in (chunk, *heard))
        unlabeled = find_unlabeled(config, job["target"], dataset, labeled, rate, open_dataset)
        check_forms(dataset, unlabeled)
        check_augmented(settings, dataset.spec)
        spec = unlabeled.tracks.spec
        for one in (chunk, *heard):
            pipeline.check_compatible(spec, dataclasses.replace(one, sample_rate=rate))
        return unlabeled

    def identify(self, job: Job, objective: TaggingObjective, context: Context) -> dict[str, Any]:
        """See `Task.identify`: what tagging says, the teacher and the music without labels."""
        facts = super().identify(job, objective, context)
        if isinstance(objective, StudentObjective):
            facts["teacher"] = objective.teacher_name
            facts["unlabeled"] = objective.unlabeled.dataset.identity["fingerprint"]
        return facts

    def finish(
        self, job: Job, objective: TaggingObjective, fit: FitResult, context: Context
    ) -> Outcome:
        """See `Task.finish`."""
        outcome = super().finish(job, objective, fit, context)
        if is_ready_teacher(job):  # nobody knows here what it was trained on
            fields = {**outcome.fields, "num_train_tracks_used": None}
            return dataclasses.replace(outcome, fields=fields)
        if not isinstance(objective, StudentObjective):
            return outcome
        own = {"teacher": objective.teacher_name, **describe_unlabeled(objective.unlabeled)}
        return dataclasses.replace(outcome, fields={**outcome.fields, **own})

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: with training from scratch, with the baseline, with the teacher."""
        return compare_on_same_tracks(
            jobs, records, config.evaluation.num_bootstrap, config.evaluation.resample,
            references={**REFERENCES, reports.VERSUS_TEACHER: find_teacher},
        )  # fmt: skip

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: transfer matrices and learning curves."""
        return reports.save_figures(results, folder)


def name_teacher_of(job: Job, config: ml_collections.ConfigDict) -> str:
    """Returns the name of a student's teacher for results.

    Args:
        job: that trains the student.
        config: of the experiment.
    """
    _, _, number = job["mode"].rpartition("_")
    if number.isdigit():
        before = int(number) - 1
        return get_kind(job) if before == 1 else f"{get_kind(job)}_{before}"
    name = name_teacher(config)
    return (
        f"{name} from {strip_parents(job['source'])}"
        if name in TRANSFERRED
        else strip_parents(name)
    )


def check_forms(dataset: Dataset, unlabeled: Unlabeled) -> None:
    """Raises unless labeled and unlabeled music can pass through a network in one batch.

    Args:
        dataset: the target.
        unlabeled: the music without labels.

    Raises:
        ConfigError: if one is of spectrograms and the other of waveforms.
    """
    forms = [
        "spectrograms" if spec.stored_form == "log_mel" else "waveforms"
        for spec in (dataset.spec, unlabeled.tracks.spec)
    ]
    if forms[0] != forms[1]:
        raise ConfigError(
            f"student.unlabeled names {unlabeled.dataset.spec.name}, which holds {forms[1]}, and "
            f"the target {dataset.spec.name} holds {forms[0]}: both must be of one kind."
        )


def _change(job: Job, **fields: Any) -> Job:
    """Returns a job with other fields."""
    return dataclasses.replace(job, fields={**job.fields, **fields})
