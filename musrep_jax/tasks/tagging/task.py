"""The task of tagging: jobs, training and test of one tagger, exported model."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import ml_collections
import numpy as np

from musrep_jax.config import choose, given, split_list
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input import pipeline
from musrep_jax.evaluation.calibration import fit_calibration
from musrep_jax.evaluation.decisions import fit_thresholds
from musrep_jax.evaluation.label_sets import find_exclusive_groups
from musrep_jax.evaluation.subsets import rank_size
from musrep_jax.evaluation.support import RESAMPLE_BY, choose_groups
from musrep_jax.evaluation.tagging import make_report
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.models import model_class, model_settings
from musrep_jax.reporting.results import CHOSEN_EXPORT
from musrep_jax.runtime.progress import format_seconds
from musrep_jax.tasks import binding
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.embedding_cache import embed_once
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.overlap import refuse_shared_audio
from musrep_jax.tasks.profiling import profile_scoring
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.settings import (
    build_model,
    list_folder_options,
    list_source_labels,
    make_chunk_spec,
    merge,
    model_deviations,
)
from musrep_jax.tasks.tagging import reports
from musrep_jax.tasks.tagging.cached import cached_batches
from musrep_jax.tasks.tagging.choice import (
    CHOSEN_FIELD,
    VALIDATION_ARRAYS,
    choose_jobs,
    choose_one,
    make_validation_arrays,
)
from musrep_jax.tasks.tagging.comparison import compare_on_same_tracks
from musrep_jax.tasks.tagging.filters import FILTERS, describe_filters, record_filters
from musrep_jax.tasks.tagging.initial import find_start
from musrep_jax.tasks.tagging.linear import (
    FoldChoice,
    clear_model_settings,
    embed_standardized,
    judge_by_folds,
    make_baseline_settings,
    solve_linear,
)
from musrep_jax.tasks.tagging.matrix import (
    BASELINE,
    BEST_START,
    LINEAR,
    MAX_MINUTES,
    MODES,
    SCRATCH,
    SECONDS_PER_TRACK,
    TRAINED,
    jobs_of_config,
    share_minutes,
)
from musrep_jax.tasks.tagging.objective import (
    Scheme,
    TaggingObjective,
    check_augmented,
    check_one_label,
    resolve_loss,
)
from musrep_jax.tasks.tagging.outcome import describe_training, list_metrics, make_model_card
from musrep_jax.tasks.tagging.sources import find_settings_source
from musrep_jax.tasks.task import (
    Context,
    Export,
    JobFigure,
    Outcome,
    Records,
    Result,
    Tables,
    Task,
)
from musrep_jax.training import sharding
from musrep_jax.training.loop import FitResult
from musrep_jax.types import PyTree, TrainState


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
        "versus_baseline", "versus_scratch", "versus_best",
        "flops_per_second", "chunk_seconds", "tracks_per_second",
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
        if job["mode"] == BASELINE:
            return make_baseline_settings(settings, split_list(config.model.name))
        if job["mode"] == LINEAR:
            settings = clear_model_settings(settings)
        if job["source"] == BEST_START:
            settings = clear_model_settings(settings, is_solved=False)
        elif job["mode"] != LINEAR and find_settings_source(config, job) is not None:
            said = {*config.get("overrides", {}).get("model", {})}
            said |= {name.removeprefix("model.") for name in job.study if name.startswith("model.")}
            kept = {key: settings.model[key] for key in said}
            settings = clear_model_settings(settings, is_solved=False)
            merge(settings.model, kept | {"name": job["model"]}, "model")
        choose(settings.train.select_by, sorted(SELECTABLE), "train.select_by")
        choose(settings.evaluation.resample, RESAMPLE_BY, "evaluation.resample")
        return settings

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: models have own settings, and `transfer` is not for scratch."""
        section, _, key = setting.partition(".")
        if job["mode"] == BASELINE and section not in ("data", "evaluation"):
            return False
        if section == "model":
            return key in ("size", "start") or key in model_settings(job["model"])
        return section != "transfer" or job["mode"] != SCRATCH

    def prepare(self, job: Job, context: Context) -> TaggingObjective:
        """See `Task.prepare`."""
        settings = context.settings
        start = find_start(job, context)
        dataset = open_target(job, context)
        resolve_loss(settings, dataset)
        model = build_model(settings, len(dataset.spec.label_names))
        pipeline.check_compatible(dataset.spec, make_chunk_spec(model))
        if job["mode"] in MODES[1:] and job.needs and job["source"] != BEST_START:
            _check_shared_audio(job, dataset, model.sample_rate, context)
        if job["mode"] not in (BASELINE, LINEAR):
            check_augmented(settings, dataset.spec)
            Augmentation.of(settings.train).check(model)
        train_tracks = dataset.tracks("train").subset(job["num_train_tracks"], job.seed)
        train_tracks = train_tracks.capped(settings.train.max_seconds)
        if settings.train.max_minutes is None:
            minutes = share_minutes(context.config, job, len(train_tracks))
            with settings.ignore_type():
                settings.train.max_minutes = minutes
        variables = start.make_variables(model, train_tracks)
        host_variables = jax.device_get(variables)
        validation = SplitScorer(
            model, dataset.tracks("validation"), settings, settings.evaluation.validation_num_chunks
        )
        if validation.output == "softmax":
            for tracks, split in ((train_tracks, "training"), (validation.tracks, "validation")):
                check_one_label(tracks, split)
        scheme = Scheme.of(job, settings)
        solve = embed = cached = None
        judge: Callable[[], FoldChoice | None] = lambda: None  # noqa: E731
        if job["mode"] in (BASELINE, LINEAR):
            embed = embed_standardized
            frozen = (model, host_variables, train_tracks, validation, settings)
            judge = functools.cache(functools.partial(judge_by_folds, *frozen))

            def solve() -> PyTree:
                return solve_linear(*frozen, judge())

        if scheme.trained == "cached":
            batches = cached_batches(model, train_tracks, settings, variables, job.seed)
            embed = embed_once
            cached = embed_once(validation, variables)
        else:

            def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
                return pipeline.train_batches(
                    train_tracks,
                    make_chunk_spec(model),
                    batch_size=settings.train.batch_size,
                    seed=job.seed,
                    start_step=start_step,
                    num_workers=settings.data.num_workers,
                    rows=sharding.local_rows(settings.train.batch_size, validation.mesh),
                    as_stored=True,
                )

        def evaluate(state: TrainState) -> Mapping[str, float]:
            found = {"params": state.params, **state.model_state}
            if solve is not None:
                return validation.summary(found, embed_standardized(validation, found))
            return validation.summary(found, cached)

        loss_fn, is_trainable = binding.make_loss(
            model,
            scheme.trained,
            scheme.batch_norm,
            settings.train.loss,
            binding.NO_AUGMENTATION if solve else Augmentation.of(settings.train),
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
            embed=embed,
            start=start,
            solve=solve,
            judge_by_folds=judge,
        )

    def identify(self, job: Job, objective: TaggingObjective, context: Context) -> dict[str, Any]:
        """See `Task.identify`: the model, its labels and the data set."""
        settings, spec = context.settings, objective.dataset.spec
        return {
            "model": model_deviations(settings) | {"name": settings.model.name},
            "labels": spec.label_names,
            "data": objective.dataset.identity["fingerprint"],
        }

    def finish(
        self, job: Job, objective: TaggingObjective, fit: FitResult, context: Context
    ) -> Outcome:
        """See `Task.finish`: the best weights are tested; what is fitted is fitted on validation.

        The test tracks are cut as `evaluation.num_chunks` says, whatever validation does.
        """
        settings, model, dataset = context.settings, objective.model, objective.dataset
        trained = {"params": fit.best_state.params, **fit.best_state.model_state}
        best = sharding.to_host(objective.take_tagger(trained))
        test = SplitScorer(model, dataset.tracks("test"), settings, settings.evaluation.num_chunks)
        embed = objective.embed or (lambda scorer, variables: None)
        labels, scores = test.tracks.label_matrix, test.scores(best, embed(test, best))
        names = dataset.spec.label_names
        validation, truth = objective.validation, objective.validation.tracks.label_matrix
        guesses = validation.scores(best, embed(validation, best))
        fitted, calibration = None, {}
        if validation.output == "sigmoid":
            fitted = fit_calibration(truth, guesses)
            calibration = dict(zip(names, fitted.tolist(), strict=True))
        report = make_report(
            labels,
            scores,
            names,
            num_bootstrap=settings.evaluation.num_bootstrap,
            seed=job.seed,
            track_groups=choose_groups(test.tracks.groups, settings.evaluation.resample),
            threshold=settings.evaluation.threshold,
            fitted_thresholds=fit_thresholds(truth, guesses, default=settings.evaluation.threshold),
            calibration=fitted,
        )
        profile = {}
        if self._has_profile:
            with context.clock.paused():
                profile = profile_scoring(test, best)
        known = np.concatenate([dataset.tracks("train").label_matrix, truth]) > 0
        label_groups = find_exclusive_groups(known, names)
        card = make_model_card(job, objective, report, calibration, label_groups, fit, settings)
        filters = record_filters(model, objective.take_tagger(objective.variables), best)
        return Outcome(
            metrics=list_metrics(report),
            fields={
                **describe_training(objective, fit, settings),
                **report.to_dict(),
                **profile,
                **({} if filters is None else {FILTERS: describe_filters(filters)}),
            },
            arrays={
                "scores": {
                    "track_ids": np.array(list(test.tracks.track_ids)),
                    "labels": labels.astype(np.uint8),
                    "scores": scores.astype(np.float32),
                    "groups": np.array(list(test.tracks.groups), str),
                },
                VALIDATION_ARRAYS: make_validation_arrays(validation, guesses),
                **({} if filters is None else {FILTERS: filters}),
            },
            exports={"": Export(best, card, format_model_readme(card))},
        )

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: transfers with training from scratch, and all with the baseline.

        Of candidates the results also say which one is chosen.
        """
        found = compare_on_same_tracks(
            jobs, records, config.evaluation.num_bootstrap, config.evaluation.resample
        )
        if "candidates" in config:
            chosen = choose_jobs(jobs, records, config.train.select_by)
            for job in filter(records.is_done, jobs):
                found.setdefault(job, {})[CHOSEN_FIELD] = job in chosen
        return found

    def describe_plan(self, jobs: Sequence[Job], config: ml_collections.ConfigDict) -> str:
        """See `Task.describe_plan`: how many candidates are solved, and how long others train."""
        trained = [job for job in jobs if job["mode"] in TRAINED]
        if "candidates" not in config or not jobs:
            return ""
        solved = len(jobs) - len(trained)
        plan = f"Candidates: {solved} solved, which takes as long as reading all tracks once"
        if not trained:
            return f"{plan}, none trained."
        limit = (
            f"{SECONDS_PER_TRACK} s per training track and at most {MAX_MINUTES:g} min"
            if config.minutes is None
            else f"at most {format_seconds(60 * config.minutes)}"
        )
        return (
            f"{plan}, {len(trained)} trained until validation stops rising, {limit} together; "
            "--config.minutes=0 leaves them out."
        )

    def choose(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[str, Job]:
        """See `Task.choose`: `best`, of candidates, of those with the most training tracks."""
        if "candidates" not in config:
            return {}
        chosen = [
            job
            for job in choose_jobs(jobs, records, config.train.select_by)
            if (records.result(job) or {}).get("export")
        ]
        sizes = {job: rank_size(job["num_train_tracks"]) for job in chosen}
        largest = [job for job in chosen if sizes[job] == max(sizes.values())]
        if not largest:
            return {}
        return {CHOSEN_EXPORT: choose_one(largest, records, config.train.select_by)}

    def list_figures(self, result: Result, folder: Path) -> list[JobFigure]:
        """See `Task.list_figures`."""
        return reports.list_figures(result, folder)

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: transfer matrices and learning curves."""
        return reports.save_figures(results, folder)


def _check_shared_audio(job: Job, target: Dataset, rate: int, context: Context) -> None:
    """Raises if the source of a transfer was trained on test tracks of the target."""
    name = job["source"]
    options = list_folder_options(name, list_source_labels(name, context.config))
    source = context.open_dataset(name, rate, **options)
    seen = [source.tracks("train"), source.tracks("validation")]
    places = "--config.source and --config.target"
    refuse_shared_audio(seen, [target.tracks("test")], name, job["target"], places)


def open_target(job: Job, context: Context) -> Dataset:
    """Returns the data set of a job at its model's sample rate.

    Args:
        job: the job.
        context: of the job.
    """
    rate = model_class(job["model"]).sample_rate
    rate = given(context.settings.model).get("sample_rate", rate)
    labels = context.config.data.labels
    if job["mode"] in (SCRATCH, BASELINE):
        labels = list_source_labels(job["target"], context.config)
    options = list_folder_options(job["target"], labels)
    return context.open_dataset(job["target"], rate, **options)
