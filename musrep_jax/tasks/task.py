"""The contract of a task: its jobs, their objectives and their outcomes.

An experiment asks a task for its jobs, hands each one back with what the job may use (`Context`),
trains the `Objective` that `prepare` returns, and writes the `Outcome` that `finish` returns. It
knows nothing else of a task.
"""

import abc
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.settings import settings_of_job
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective


class UnavailableError(ConfigError):
    """What a job needs cannot be had here and now, such as a model to be fetched from a network.

    That is recorded, the other jobs go on, and the run does not count as failed.
    """


Result = Mapping[str, Any]
"""The result of a job, as in `results.json`."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number that a job is judged by.

    Attributes:
        name: such as "roc_auc".
        value: on the test data; NaN where it is not defined.
        interval: 95 % interval of the value, or None.
        is_larger_better: its direction.
        title: as shown in tables; the name when empty.
        chance: value of a random model, or None where it is not known.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    is_larger_better: bool = True
    title: str = ""
    chance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the entry of a result for the metric."""
        return {
            "name": self.name,
            "title": self.title or self.name,
            "value": self.value,
            "ci": None if self.interval is None else list(self.interval),
            "is_larger_better": self.is_larger_better,
            "chance": self.chance,
        }


@dataclasses.dataclass(frozen=True)
class Export:
    """A trained model as it is kept, see `musrep_jax.training.checkpoints.save_export`.

    Attributes:
        variables: of the model, on the host.
        card: what is to be known about it.
        readme: its model card in Markdown, if any.
    """

    variables: Any
    card: Mapping[str, Any]
    readme: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        metrics: on the test data, the one that matters most first.
        fields: what else the result says, as JSON values. It may use any names but those of
            `Job.to_dict`, and `metrics`, `seconds`, `export`, `exports`, `error`.
        arrays: file stem -> arrays by name, kept beside the result as `STEM.npz`; "scores" holds
            what the test data were given, for comparisons.
        exports: name -> trained model. The one named "" stands in `exports/KEY`, where jobs that
            need this one and `musrep` look for it, others in `exports/KEY@NAME`.
    """

    metrics: Sequence[Metric]
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arrays: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    exports: Mapping[str, Export] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class JobFigure:
    """A figure of one job, drawn from the files in the job's folder.

    Attributes:
        kind: folder of such figures, as in `figures/KIND/KEY.png`.
        shown: the file that it shows; the figure is drawn anew when that is newer.
        save: writes the figure to a path.
    """

    kind: str
    shown: Path
    save: Callable[[Path], Any]


class Clock:
    """Seconds since it was made, without those that are not counted."""

    def __init__(self) -> None:
        self._started, self._left_out = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds that count until now."""
        return time.perf_counter() - self._started - self._left_out

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what runs inside: building data sets, measuring speed."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._left_out += time.perf_counter() - started


class OpenDataset(Protocol):
    """Opens a data set, building it if it is not there; each is opened once in an experiment."""

    def __call__(self, name: str, sample_rate: int, **options: Any) -> Dataset:
        """Returns a data set at a sample rate in Hz, with options of its builder."""
        ...


@dataclasses.dataclass(frozen=True)
class Context:
    """The resources that a job may use.

    Attributes:
        config: of the experiment.
        settings: of the job, see `Task.make_settings`.
        folder: of the job, for its own files; it may not exist yet.
        open_dataset: opens a data set.
        record_files: name and paths of files that are no data set, which the result depends on;
            another run of the workdir is told when they have changed.
        find_export: key of a job in `Job.needs` -> folder of its exported model.
        is_done: key of a job in `Job.needs` -> whether it is there; if not, `find_export` raises.
        clock: of the job; what it counts becomes `seconds` of the result.
    """

    config: ml_collections.ConfigDict
    settings: ml_collections.ConfigDict
    folder: Path
    open_dataset: OpenDataset
    record_files: Callable[[str, Sequence[Path]], None]
    find_export: Callable[[str], Path]
    is_done: Callable[[str], bool]
    clock: Clock = dataclasses.field(default_factory=Clock)


class Records(Protocol):
    """The stored results of an experiment's jobs."""

    def result(self, job: Job) -> dict[str, Any] | None:
        """Returns a job's result, or None when there is none yet."""
        ...

    def is_done(self, job: Job) -> bool:
        """Returns whether a job has a result without error."""
        ...

    def read_arrays(self, job: Job | str, name: str = "scores") -> dict[str, np.ndarray]:
        """Returns arrays of a finished job, or of the one with that key, see `Outcome.arrays`."""
        ...


@dataclasses.dataclass(frozen=True)
class Tables:
    """Tables of an experiment.

    Attributes:
        text: as it is printed.
        markdown: the same for `results.md`.
        sections: title and Markdown of further parts of `results.md`.
    """

    text: str
    markdown: str
    sections: Sequence[tuple[str, str]] = ()


class Task(abc.ABC):
    """A way of learning.

    Attributes:
        unavailable: result fields of a job that failed, beside those that every result has.
        volatile: result fields that depend on the machine, or on which other jobs stand beside.
    """

    unavailable: ClassVar[Mapping[str, Any]] = {}
    volatile: ClassVar[Sequence[str]] = ()

    @abc.abstractmethod
    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """Returns the jobs that a config asks for, each after those that it needs.

        The task does not handle studies: every job is repeated for every combination of their
        values.

        Args:
            config: of the experiment.

        Raises:
            ConfigError: if a setting cannot be read.
        """

    def check_data(  # noqa: B027 - nothing to check is a valid answer
        self, jobs: Sequence[Job], config: ml_collections.ConfigDict, open_dataset: OpenDataset
    ) -> None:
        """Raises unless the data have what the jobs need; called before anything is trained.

        Args:
            jobs: that are still to be done.
            config: of the experiment.
            open_dataset: opens a data set.

        Raises:
            ConfigError: one sentence; the whole run is refused.
        """

    @abc.abstractmethod
    def prepare(self, job: Job, context: Context) -> Objective:
        """Returns the training objective.

        Args:
            job: the job.
            context: what it may use; `finish` gets the same.

        Raises:
            ConfigError: if the job cannot be done, in one sentence.
        """

    @abc.abstractmethod
    def finish(self, job: Job, objective: Objective, fit: FitResult, context: Context) -> Outcome:
        """Returns the outcome of a training.

        Of several processes all run this, as they all train.

        Args:
            job: the job.
            objective: from `prepare`; a subclass of `Objective` carries what is needed here.
            fit: what the loop returned; the best weights are in `fit.best_state`.
            context: what `prepare` got.
        """

    def make_settings(
        self, config: ml_collections.ConfigDict, job: Job
    ) -> ml_collections.ConfigDict:
        """Returns the settings of one job; it is called for all jobs before anything runs.

        Args:
            config: of the experiment.
            job: the job.

        Raises:
            ConfigError: if a setting does not exist or cannot be used.
        """
        return settings_of_job(config, job)

    def is_affected(self, job: Job, setting: str) -> bool:
        """Returns whether a setting can change what comes of a job.

        Jobs that a study's setting does not affect are run once, not once per value.

        Args:
            job: the job.
            setting: such as "transfer.batch_norm".
        """
        return True

    def identify(self, job: Job, objective: Objective, context: Context) -> dict[str, Any]:
        """Returns the facts in which a saved training must agree to be resumed.

        The job's key and settings are compared in any case.

        Args:
            job: the job.
            objective: from `prepare`.
            context: what `prepare` got.
        """
        return {}

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """Returns fields to be added to results, which compare jobs with each other.

        Args:
            jobs: of this run.
            records: results and arrays of all jobs.
            config: of the experiment.
        """
        return {}

    def choose(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[str, Job]:
        """Returns jobs whose exported models are also kept under names of their own.

        Args:
            jobs: of this run.
            records: results and arrays of all jobs.
            config: of the experiment.

        Returns:
            Name of a folder in `exports/` -> job that is done.
        """
        return {}

    def describe_plan(self, jobs: Sequence[Job], config: ml_collections.ConfigDict) -> str:
        """Returns a sentence on what a run will do and how long, said before it; "" for none.

        Args:
            jobs: that are still to be done.
            config: of the experiment.
        """
        return ""

    def list_figures(self, result: Result, folder: Path) -> list[JobFigure]:
        """Returns the figures of a finished job, beside its training curves.

        Args:
            result: of the job.
            folder: of the job, where its arrays are.
        """
        return []

    def make_tables(
        self, results: Sequence[Result], config: ml_collections.ConfigDict
    ) -> Tables | None:
        """Returns the tables of an experiment; None takes one row per job with all its metrics.

        Args:
            results: of all jobs of this task, failed ones among them.
            config: of the experiment.
        """
        return None

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """Returns the paths of figures of all jobs together after writing them.

        Args:
            results: of all jobs of this task.
            folder: of the figures.
        """
        return []
