"""The task of robustness: one job per data set, deformation, tagger and seed."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ml_collections

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.deformed.deformations import CLEAN, parse_deformation
from musrep_jax.inference.tagger import LoadedTagger, load_tagger
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.robustness import comparison, figures, reports
from musrep_jax.tasks.robustness.matrix import list_jobs, parse_taggers
from musrep_jax.tasks.robustness.trial import (
    RobustnessObjective,
    match_labels,
    score_tagger,
)
from musrep_jax.tasks.settings import list_folder_options
from musrep_jax.tasks.tagging.sources import EXPORT_PREFIX
from musrep_jax.tasks.task import (
    Context,
    Outcome,
    Records,
    Result,
    Tables,
    Task,
    UnavailableError,
)
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective


class RobustnessTask(Task):
    """Trained taggers on recordings whose sound was changed; nothing is trained on such sound."""

    volatile: ClassVar[Sequence[str]] = (comparison.FIELD,)

    def __init__(self) -> None:
        self._load = functools.lru_cache(maxsize=8)(_load)
        self._kept: tuple[tuple[Any, ...], Dataset] | None = None

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs`."""
        return list_jobs(config)

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: taggers are trained already, or by jobs that they need."""
        return setting.partition(".")[0] in (comparison.TASK, "evaluation", "data")

    def prepare(self, job: Job, context: Context) -> RobustnessObjective:
        """See `Task.prepare`."""
        (named,) = parse_taggers(job["tagger"].replace(",", "\\,"))
        if job.needs:
            tagger = self._load(f"{EXPORT_PREFIX}{context.find_export(job.needs[0])}")
        else:
            tagger = self._load(named.place)
        options = list_folder_options(job["target"], context.config.data.labels)
        dataset = context.open_dataset(job["target"], tagger.sample_rate, **options)
        own_columns, columns = match_labels(tagger, dataset, named.place)
        return RobustnessObjective(
            tagger=tagger,
            dataset=self._deform(dataset, job),
            own_columns=own_columns,
            columns=columns,
        )

    def _deform(self, dataset: Dataset, job: Job) -> Dataset:
        """Returns the data set with the deformation of a job, which the last job may have had."""
        if job["deformation"] == CLEAN:
            return dataset
        key = (id(dataset), job["deformation"], job.seed)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, dataset.deformed(parse_deformation(job["deformation"]), job.seed))
        return self._kept[1]

    def finish(self, job: Job, objective: Objective, fit: FitResult, context: Context) -> Outcome:
        """See `Task.finish`."""
        assert isinstance(objective, RobustnessObjective)
        return score_tagger(job, objective, context.settings)

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: every deformation with the same tracks as they are."""
        return comparison.compare_with_clean(
            jobs, records, config.evaluation.num_bootstrap, config.evaluation.resample
        )

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`."""
        return figures.save_figures(results, folder)


def _load(place: str) -> LoadedTagger:
    """Returns the tagger of an export, a pretrained model or one of the Hub."""
    is_local = place.startswith(EXPORT_PREFIX)
    try:
        return load_tagger(place.removeprefix(EXPORT_PREFIX))
    except (ValueError, OSError) as error:
        kind = ConfigError if is_local else UnavailableError
        raise kind(f"{place} cannot be opened: {error}") from error
