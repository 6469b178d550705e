"""Tagging: initial parameters, training, the test, and the exported model of one job."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, choose, given
from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.evaluation.calibration import fit_calibration
from musrep_jax.evaluation.decisions import fit_thresholds
from musrep_jax.evaluation.tagging import TaggingReport, make_report
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.tagger import make_card
from musrep_jax.models import Tagger, model_class
from musrep_jax.reporting.results import METRIC_TITLES, parse_number
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.profiling import profile_scoring
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.settings import builder_of, chunk_of, model_deviations, model_of
from musrep_jax.tasks.tagging import reports
from musrep_jax.tasks.tagging.cached import cached_batches
from musrep_jax.tasks.tagging.comparison import compare_with_scratch
from musrep_jax.tasks.tagging.filters import FILTERS, record_filters
from musrep_jax.tasks.tagging.initial import initial_variables
from musrep_jax.tasks.tagging.matrix import EXPORT_PREFIX, SCRATCH, jobs_of_config
from musrep_jax.tasks.task import (
    Context,
    Export,
    JobFigure,
    Metric,
    Outcome,
    Records,
    Result,
    Tables,
    Task,
)
from musrep_jax.training import sharding
from musrep_jax.training.logs import run_record
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective
from musrep_jax.types import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggingObjective(Objective):
    """A tagger and its data, as training sees them, with what the test needs.

    Attributes:
        model: the tagger.
        dataset: the target.
        train_tracks: those that are trained on.
        validation: scores the validation split.
        cached: embeddings of the validation chunks when the backbone is frozen, else None.
    """

    model: Tagger
    dataset: Dataset
    train_tracks: Tracks
    validation: SplitScorer
    cached: np.ndarray | None


class TaggingTask(Task):
    """Taggers, trained from scratch or started from the backbone of another one.

    Args:
        has_profile: whether results say what scoring costs.
    """

    unavailable: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci")),
        "num_tracks": 0,
        "num_labels": 0,
        "skipped_labels": [],
        "per_label": {},
    }
    volatile: ClassVar[Sequence[str]] = (
        "versus_scratch", "versus_best", "flops_per_second", "chunk_seconds", "tracks_per_second",
    )  # fmt: skip

    def __init__(self, *, has_profile: bool = False) -> None:
        self._has_profile = has_profile

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs`."""
        return jobs_of_config(config)

    def make_settings(
        self, config: ml_collections.ConfigDict, job: Job
    ) -> ml_collections.ConfigDict:
        """See `Task.make_settings`."""
        model_class(job["model"])
        settings = super().make_settings(config, job)
        choose(settings.train.select_by, sorted(SELECTABLE), "train.select_by")
        return settings

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: a training from scratch does not look at `transfer`."""
        return job["mode"] != SCRATCH or not setting.startswith("transfer.")

    def prepare(self, job: Job, context: Context) -> TaggingObjective:
        """See `Task.prepare`."""
        settings, source = context.settings, None
        if job["source"] is not None:
            is_export = job["source"].startswith(EXPORT_PREFIX)
            path = job["source"].removeprefix(EXPORT_PREFIX)
            source = Path(path) if is_export else context.find_export(job.needs[0])
        dataset = open_target(job, context)
        model = model_of(settings, len(dataset.spec.label_names))
        pipeline.check_compatible(dataset.spec, chunk_of(model))
        train_tracks = dataset.tracks("train")
        if job["num_train_tracks"]:
            train_tracks = train_tracks.subset(job["num_train_tracks"], seed=job.seed)
        train_tracks = train_tracks.capped(settings.train.max_seconds)
        variables = initial_variables(model, settings, job.seed, train_tracks, source)
        host_variables = jax.device_get(variables)
        validation = SplitScorer(
            model, dataset.tracks("validation"), settings, settings.evaluation.validation_num_chunks
        )
        if validation.output == "softmax":
            for tracks, split in ((train_tracks, "training"), (validation.tracks, "validation")):
                check_one_label(tracks, split)
        scheme = Scheme.of(job, settings)
        if scheme.trained == "cached":
            batches = cached_batches(model, train_tracks, settings, variables, job.seed)
            cached = validation.embeddings(variables)
        else:
            cached = None

            def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
                return pipeline.train_batches(
                    train_tracks,
                    chunk_of(model),
                    batch_size=settings.train.batch_size,
                    seed=job.seed,
                    start_step=start_step,
                    num_workers=settings.data.num_workers,
                    rows=sharding.local_rows(settings.train.batch_size, validation.mesh),
                    as_stored=True,
                )

        def evaluate(state: TrainState) -> Mapping[str, float]:
            return validation.summary({"params": state.params, **state.model_state}, cached)

        loss_fn, is_trainable = binding.make_loss(
            model, scheme.trained, scheme.batch_norm, settings.train.loss
        )
        return TaggingObjective(
            variables=host_variables,
            loss_fn=loss_fn,
            batches=batches,
            evaluate=evaluate,
            select_by=(settings.train.select_by, SELECTABLE[settings.train.select_by]),
            steps_per_epoch=max(1, len(train_tracks) // settings.train.batch_size),
            is_trainable=is_trainable,
            model=model,
            dataset=dataset,
            train_tracks=train_tracks,
            validation=validation,
            cached=cached,
        )

    def identify(self, job: Job, objective: TaggingObjective, context: Context) -> dict[str, Any]:
        """See `Task.identify`: the model, its labels and the data set."""
        settings, spec = context.settings, objective.dataset.spec
        return {
            "model": model_deviations(settings) | {"name": settings.model.name},
            "labels": spec.label_names,
            "data": spec.fingerprint,
        }

    def finish(
        self, job: Job, objective: TaggingObjective, fit: FitResult, context: Context
    ) -> Outcome:
        """See `Task.finish`: the best weights are tested; what is fitted is fitted on validation.

        The test tracks are cut as `evaluation.num_chunks` says, whatever validation does.
        """
        settings, model, dataset = context.settings, objective.model, objective.dataset
        best = sharding.to_host({"params": fit.best_state.params, **fit.best_state.model_state})
        test = SplitScorer(model, dataset.tracks("test"), settings, settings.evaluation.num_chunks)
        labels, scores = test.tracks.label_matrix, test.scores(best)
        names = dataset.spec.label_names
        validation, truth = objective.validation, objective.validation.tracks.label_matrix
        guesses = validation.scores(best, objective.cached)
        calibration = {}
        if validation.output == "sigmoid":
            calibration = dict(zip(names, fit_calibration(truth, guesses).tolist(), strict=True))
        report = make_report(
            labels,
            scores,
            names,
            num_bootstrap=settings.evaluation.num_bootstrap,
            seed=job.seed,
            threshold=settings.evaluation.threshold,
            fitted_thresholds=fit_thresholds(truth, guesses, default=settings.evaluation.threshold),
        )
        profile = {}
        if self._has_profile:
            with context.clock.paused():
                profile = profile_scoring(test, best)
        card = make_model_card(job, objective, report, calibration, fit.best_step, settings)
        filters = record_filters(model, objective.variables, best)
        return Outcome(
            metrics=list_metrics(report),
            fields={
                **describe_training(objective, fit, settings),
                **report.to_dict(),
                **profile,
            },
            arrays={
                "scores": {
                    "track_ids": np.array(list(test.tracks.track_ids)),
                    "labels": labels.astype(np.uint8),
                    "scores": scores.astype(np.float32),
                },
                **({} if filters is None else {FILTERS: filters}),
            },
            exports={"": Export(best, card, format_model_readme(card))},
        )

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: transfers with the training from scratch on the same tracks."""
        return compare_with_scratch(jobs, records, config.evaluation.num_bootstrap)

    def list_figures(self, result: Result, folder: Path) -> list[JobFigure]:
        """See `Task.list_figures`."""
        return reports.list_figures(result, folder)

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: transfer matrices and learning curves."""
        return reports.save_figures(results, folder)


def open_target(job: Job, context: Context) -> Dataset:
    """Returns the data set of a job at its model's sample rate.

    Args:
        job: the job.
        context: of the job.
    """
    rate = model_class(job["model"]).sample_rate
    rate = given(context.settings.model).get("sample_rate", rate)
    data, options = context.config.data, {}
    # An audio folder has patterns of labels; as a source it may have its own.
    if builder_of(job["target"]) == "audio_folder":
        sources = getattr(context.config, "source", "")
        is_source = data.source_labels and job["target"] in sources and job["mode"] == SCRATCH
        labels = data.source_labels if is_source else data.labels
        options = {"labels": labels} if labels else {}
    return context.open_dataset(job["target"], rate, **options)


def list_metrics(report: TaggingReport) -> list[Metric]:
    """Returns the metrics that a tagger is judged by.

    Args:
        report: on the test split.
    """
    summary, metrics = report.to_dict(), []
    for name, title in METRIC_TITLES.items():
        low, high = summary[f"{name}_ci"]
        interval = None if low is None else (low, high)
        chance = (summary.get("random") or {}).get(name)
        value = parse_number(summary[name])
        metrics.append(Metric(name, value, interval, title=title, chance=chance))
    return metrics


def make_model_card(
    job: Job,
    objective: TaggingObjective,
    report: TaggingReport,
    calibration: Mapping[str, Sequence[float]],
    best_step: int,
    settings: ml_collections.ConfigDict,
) -> dict[str, Any]:
    """Returns what is to be known of a trained tagger.

    Args:
        job: the job.
        objective: with which it was trained.
        report: on the test split.
        calibration: label -> slope and offset fitted on validation; empty for exclusive classes.
        best_step: updates made to the weights that are kept.
        settings: of the job.
    """
    summary = report.to_dict()
    shown = {name: summary[name] for name in ("roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci")}
    return make_card(
        objective.model,
        name=job["model"],
        data=objective.dataset.spec,
        training={
            "source": job["source"],
            "mode": job["mode"],
            "seed": job.seed,
            "num_train_tracks": len(objective.train_tracks),
            "best_step": best_step,
            "loss": settings.train.loss,
        },
        metrics={"test": {**shown, "num_tracks": summary["num_tracks"]}},
        versions=run_record(),
        aggregate=settings.evaluation.aggregate,
        output=binding.output_of(settings.train.loss),
        thresholds=report.f1_fitted["thresholds"],
        calibration=calibration,
    )


def describe_training(
    objective: TaggingObjective, fit: FitResult, settings: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Returns what a result says beyond its metrics: data, size, training.

    Args:
        objective: what was trained.
        fit: what the loop returned.
        settings: of the job.
    """
    spec, leaves = objective.dataset.spec, jax.tree.leaves(objective.variables["params"])
    return to_json_safe(
        {
            "is_synthetic": spec.is_synthetic,
            "loss": settings.train.loss,
            "licence": spec.licence,
            "num_train_tracks_used": len(objective.train_tracks),
            "model_deviations": model_deviations(settings),
            "num_params": int(sum(np.size(leaf) for leaf in leaves)),
            "best_step": fit.best_step,
            "num_steps": int(fit.state.step),
            "stopped_early": fit.stopped_early,
            "validation": fit.best_metrics,
        }
    )


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What of a tagger a job trains.

    Attributes:
        trained: "model", "head" or "cached", see `binding.make_loss`.
        batch_norm: "frozen" or "update".
    """

    trained: str
    batch_norm: str

    @classmethod
    def of(cls, job: Job, settings: ml_collections.ConfigDict) -> "Scheme":
        """Returns the scheme of a job.

        BatchNorm statistics are updated by default when all layers train, and frozen when only
        the output layer does; then embeddings are computed once and kept, if that is asked for.

        Args:
            job: the job.
            settings: of the job.
        """
        only_head = job["mode"] == "output_layer"
        batch_norm = settings.transfer.batch_norm or ("frozen" if only_head else "update")
        if job["mode"] == SCRATCH:
            batch_norm = "update"
        trained = "model"
        if only_head:
            cache = settings.transfer.cache_embeddings and batch_norm == "frozen"
            trained = "cached" if cache else "head"
        return cls(trained, batch_norm)


def check_one_label(tracks: Tracks, split: str) -> None:
    """Raises unless every track has exactly one label, as the loss of exclusive classes needs.

    Args:
        tracks: of the split.
        split: its name, for the message.

    Raises:
        ConfigError: if a track has none or several, or there is only one class.
    """
    counts = np.count_nonzero(tracks.label_matrix, axis=1)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        first = wrong[0]
        raise ConfigError(
            f"train.loss is 'cross_entropy', for tracks with exactly one label, but "
            f"{len(wrong)} of {len(counts)} {split} tracks have another number, the first is "
            f"{tracks.track_ids[first]!r} with {counts[first]}: take 'binary_cross_entropy', or "
            "choose labels that exclude each other with data.labels."
        )
    if tracks.label_matrix.shape[1] < 2:
        raise ConfigError(
            f"train.loss is 'cross_entropy', but {tracks.spec.name} has only one label: it needs "
            "at least two classes to choose from."
        )
