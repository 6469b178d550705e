"""The task of probing: one job per data set, features, classifier, number of examples and seed."""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import ml_collections

from musrep_jax.config import ConfigError, fingerprint, plain, split_list
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import SPLITS
from musrep_jax.inference.tagger import load_encoder
from musrep_jax.probing import protocol
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.overlap import refuse_shared_audio
from musrep_jax.tasks.probe import comparison, reports
from musrep_jax.tasks.probe.feature_files import list_feature_files
from musrep_jax.tasks.probe.features import WindowFeatures, compute_features
from musrep_jax.tasks.probe.matrix import SIMILARITY, list_jobs
from musrep_jax.tasks.probe.sources import list_trained
from musrep_jax.tasks.probe.tracks import LabeledTracks, list_labeled_tracks
from musrep_jax.tasks.probe.trial import (
    FOLDS,
    LEAVE_ONE_OUT,
    SPLIT,
    ProbeObjective,
    measure_similarity,
    score_classifier,
)
from musrep_jax.tasks.settings import list_folder_options, list_source_labels
from musrep_jax.tasks.task import Context, OpenDataset, Outcome, Records, Result, Tables, Task
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective

_MAX_KEPT = 3
"""Feature matrices in memory; jobs that share one stand together."""


class ProbeTask(Task):
    """Frozen features under small classifiers; nothing is trained step by step."""

    volatile: ClassVar[Sequence[str]] = (comparison.FIELD, comparison.PAIRS)

    def __init__(self) -> None:
        self._kept: OrderedDict[str, WindowFeatures] = OrderedDict()

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs`."""
        return list_jobs(config)

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: features are made by `evaluation`, `data` and `probe` alone.

        What trains the networks of features, the jobs that they need are affected by.
        """
        return setting.partition(".")[0] in ("probe", "evaluation", "data")

    def prepare(self, job: Job, context: Context) -> ProbeObjective:
        """See `Task.prepare`: features are computed, or found where they were computed before."""
        settings = context.settings
        dataset = context.open_dataset(job["target"], _LABELS_RATE, **_options(job, context))
        tracks = list_labeled_tracks(dataset, split_list(settings.probe.labels))
        if settings.probe.protocol == LEAVE_ONE_OUT and tracks.groups is None:
            raise ConfigError(
                f"probe.protocol is {LEAVE_ONE_OUT!r}, and the tracks of {dataset.spec.name} have "
                f"no groups: take {FOLDS!r}."
            )
        if settings.probe.windows == protocol.MAJORITY and not tracks.is_exclusive:
            raise ConfigError(
                f"probe.windows is {protocol.MAJORITY!r}, and the tracks of {dataset.spec.name} "
                f"have several labels: take {protocol.MEAN!r}, or choose labels of which a track "
                "has one by --config.probe.labels."
            )
        with settings.ignore_type():
            settings.train.loss = "binary_cross_entropy"  # its activation is never asked for
        is_pooled = settings.probe.windows == protocol.POOLED or job["classifier"] == SIMILARITY
        found = self._find_features(job, tracks, context, is_pooled=is_pooled)
        for name, paths in list_feature_files(job["features"]).items():
            context.record_files(name, paths)
        examples = protocol.Examples(
            found.values, found.owner, tracks.targets, tracks.is_exclusive, tracks.groups
        )
        return ProbeObjective(
            tracks=tracks,
            examples=examples,
            is_synthetic=dataset.spec.is_synthetic,
            notes=found.notes,
        )

    def _find_features(
        self, job: Job, tracks: LabeledTracks, context: Context, *, is_pooled: bool
    ) -> WindowFeatures:
        """Returns the features of a job, which the last few jobs may have had too."""
        settings = plain(context.settings)
        key = fingerprint(
            {
                "target": job["target"], "features": job["features"], "is_pooled": is_pooled,
                "needs": job.needs,
                "labels": settings["probe"]["labels"], "data": settings["data"],
                "evaluation": settings["evaluation"], "train": settings["train"]["max_seconds"],
            }
        )  # fmt: skip
        if key not in self._kept:
            exports = dict(
                zip(list_trained(job["features"]), map(context.find_export, job.needs), strict=True)
            )
            for name, export in exports.items():
                _check_shared_audio(name, export, job, tracks, context)
            open_at: OpenDataset = functools.partial(_open_at, job, context)
            self._kept[key] = compute_features(
                job["features"], job["target"], tracks, open_at, context.settings,
                is_pooled=is_pooled,
                trained=exports,
            )  # fmt: skip
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def finish(self, job: Job, objective: Objective, fit: FitResult, context: Context) -> Outcome:
        """See `Task.finish`: the classifier is fitted and tested, fold by fold."""
        assert isinstance(objective, ProbeObjective)
        if job["classifier"] == SIMILARITY:
            return measure_similarity(objective, context.settings, context.config.similarity)
        return score_classifier(job, objective, context.settings)

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: with the first features under the same classifier, and all pairs."""
        return comparison.compare_probes(
            jobs, records, config.evaluation.num_bootstrap, config.evaluation.resample
        )

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: curves over numbers of examples."""
        from musrep_jax.tasks.probe import figures  # which draws, and loads what that takes

        return figures.save_figures(results, folder)


_LABELS_RATE = 16000
"""At which a data set is opened for its labels, splits and groups."""


def _options(job: Job, context: Context) -> dict[str, Any]:
    """Returns options of a data set's builder that settings of the experiment give."""
    return list_folder_options(job["target"], context.config.data.labels)


def _check_shared_audio(
    source: str, export: Path, job: Job, tracks: LabeledTracks, context: Context
) -> None:
    """Raises if a network has seen tracks that are probed, in its training or validation split."""
    rate = load_encoder(export).model.sample_rate
    options = list_folder_options(source, list_source_labels(source, context.config))
    learned = context.open_dataset(source, rate, **options)
    target = context.open_dataset(job["target"], rate, **_options(job, context))
    names = set(tracks.track_ids.tolist())
    is_split = context.settings.probe.protocol == SPLIT
    parts = [target.tracks(name) for name in (("test",) if is_split else SPLITS)]
    refuse_shared_audio(
        [learned.tracks("train"), learned.tracks("validation")],
        [Tracks(p.store, p.rows[[one in names for one in p.track_ids]]) for p in parts],
        source,
        job["target"],
        "--config.source",
    )


def _open_at(job: Job, context: Context, name: str, sample_rate: int) -> Any:
    """Returns a data set at a sample rate, with the options of the job."""
    return context.open_dataset(name, sample_rate, **_options(job, context))
