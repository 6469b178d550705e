"""One cell: initial parameters, training, the test, and the exported model."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, choose, given, plain
from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.evaluation.calibration import fit_calibration
from musrep_jax.evaluation.decisions import fit_thresholds
from musrep_jax.evaluation.tagging import TaggingReport, make_report
from musrep_jax.experiments.cells import Cell
from musrep_jax.experiments.workdir import identity
from musrep_jax.models import Tagger
from musrep_jax.runtime import distributed
from musrep_jax.tasks import binding
from musrep_jax.tasks.cached import cached_batches
from musrep_jax.tasks.filters import FilterRecord, record_filters
from musrep_jax.tasks.initial import initial_variables
from musrep_jax.tasks.profiling import profile_scoring
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.settings import chunk_of, duration, model_deviations, model_of
from musrep_jax.training import checkpoints, loop, sharding
from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.training.step import assert_frozen_identical, create_state
from musrep_jax.types import PyTree, TrainState


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a cell leaves in memory.

    Attributes:
        model: the tagger.
        variables: the best weights, on the host.
        report: on the test split.
        labels: float32 (tracks, classes), of the test split.
        scores: float64 (tracks, classes), of the test split.
        track_ids: of the test split.
        fit: what the loop returned.
        num_train_tracks: tracks that were trained on.
        seconds: wall time of the whole cell, profiling left out.
        filters: harmonic filters before and after, see `record_filters`.
        calibration: label -> slope and offset fitted on validation; empty for exclusive classes.
        profile: what scoring costs, see `profile_scoring`; empty when it was not asked for.
    """

    model: Tagger
    variables: PyTree
    report: TaggingReport
    labels: np.ndarray
    scores: np.ndarray
    track_ids: tuple[str, ...]
    fit: loop.FitResult
    num_train_tracks: int
    seconds: float
    filters: FilterRecord | None
    calibration: Mapping[str, Sequence[float]]
    profile: Mapping[str, Any]


def train_cell(
    cell: Cell,
    settings: ml_collections.ConfigDict,
    dataset: Dataset,
    source: Path | None,
    folder: Path,
    *,
    has_profile: bool = False,
) -> Trained:
    """Trains, selects and tests one cell.

    Args:
        cell: what to train.
        settings: of the cell.
        dataset: the target.
        source: exported directory to start from, or None.
        folder: where the cell keeps its metric rows and training checkpoints.
        has_profile: whether to measure what scoring costs.

    Returns:
        The model, its report and its scores.

    Raises:
        ConfigError: if source and target do not fit each other.
        FrozenChangedError: if a parameter that was to stay frozen moved.
    """
    started = time.perf_counter()
    model = model_of(settings, len(dataset.spec.label_names))
    pipeline.check_compatible(dataset.spec, chunk_of(model))
    train_tracks = dataset.tracks("train")
    if cell.num_train_tracks:
        train_tracks = train_tracks.subset(cell.num_train_tracks, seed=cell.seed)
    train_tracks = train_tracks.capped(settings.train.max_seconds)
    plan = Plan.make(cell, settings, len(train_tracks))
    selecting = choose(settings.train.select_by, sorted(SELECTABLE), "train.select_by")
    variables = initial_variables(model, settings, cell, train_tracks, source)
    before = jax.device_get(variables)
    validation = SplitScorer(
        model, dataset.tracks("validation"), settings, settings.evaluation.validation_num_chunks
    )
    if validation.output == "softmax":
        for tracks, split in ((train_tracks, "training"), (validation.tracks, "validation")):
            check_one_label(tracks, split)
    layout = sharding.Layout(validation.mesh, settings.train.shard_params_over)
    optimizer, train_step = binding.make_program(
        model,
        trained=plan.trained,
        batch_norm=plan.batch_norm,
        optimizer=given(settings.optimizer),
        steps_per_epoch=plan.steps_per_epoch,
        num_steps=plan.num_steps,
        loss=settings.train.loss,
        num_microbatches=settings.train.num_microbatches,
        layout=None if layout.shard_over is None else layout,
    )
    is_trainable = None if plan.trained == "model" else binding.is_head
    if plan.trained == "cached":
        batches = cached_batches(model, train_tracks, settings, variables, cell.seed)
        cached = validation.embeddings(variables)
    else:
        cached = None

        def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
            return pipeline.train_batches(
                train_tracks,
                chunk_of(model),
                batch_size=settings.train.batch_size,
                seed=cell.seed,
                start_step=start_step,
                num_workers=settings.data.num_workers,
                rows=sharding.local_rows(settings.train.batch_size, layout.mesh),
                as_stored=True,
            )

    def evaluate(state: TrainState) -> Mapping[str, float]:
        return validation.summary({"params": state.params, **state.model_state}, cached)

    with contextlib.ExitStack() as stack:
        checkpointer = None
        if settings.train.checkpoint:
            run = {
                "model": model_deviations(settings) | {"name": settings.model.name},
                "labels": dataset.spec.label_names,
                "data": dataset.spec.fingerprint,
                "cell": cell.key,
                "settings": identity(plain(settings)),
            }
            checkpointer = stack.enter_context(
                checkpoints.TrainCheckpoints(folder / "checkpoints", run)
            )
        log = progress = None
        if distributed.is_first():
            log = stack.enter_context(MetricsLog(folder / "metrics.jsonl"))
            progress = Progress(plan.num_steps, label=cell.describe())
            stack.callback(progress.close)
        fit = loop.fit(
            layout.place(create_state(variables, optimizer.tx, is_trainable)),
            train_step,
            batches,
            key=jax.random.key(cell.seed),
            num_steps=plan.num_steps,
            eval_every=plan.evaluate_every,
            evaluate=evaluate,
            select_by=(selecting, SELECTABLE[selecting]),
            learning_rate=optimizer.learning_rate,
            patience=settings.train.patience,
            reload_best_at=optimizer.switch_steps if settings.train.reload_best_at_switch else (),
            mesh=layout.mesh,
            log_every=settings.train.log_every_steps,
            log=log,
            progress=progress,
            checkpointer=checkpointer,
            save_every_seconds=60 * settings.train.checkpoint_every_minutes,
            trace=folder / "trace" if settings.train.trace and distributed.is_first() else None,
        )
    best = sharding.to_host({"params": fit.best_state.params, **fit.best_state.model_state})
    assert_frozen_identical(before["params"], best["params"], is_trainable)
    test = SplitScorer(model, dataset.tracks("test"), settings, settings.evaluation.num_chunks)
    labels, scores = test.tracks.label_matrix, test.scores(best)
    names, truth = dataset.spec.label_names, validation.tracks.label_matrix
    guesses = validation.scores(best, cached)
    calibration = {}
    if validation.output == "sigmoid":
        calibration = dict(zip(names, fit_calibration(truth, guesses).tolist(), strict=True))
    report = make_report(
        labels,
        scores,
        names,
        num_bootstrap=settings.evaluation.num_bootstrap,
        seed=cell.seed,
        threshold=settings.evaluation.threshold,
        fitted_thresholds=fit_thresholds(truth, guesses, default=settings.evaluation.threshold),
    )
    seconds = time.perf_counter() - started
    return Trained(
        model=model,
        variables=best,
        report=report,
        labels=labels,
        scores=scores,
        track_ids=tuple(test.tracks.track_ids),
        fit=fit,
        num_train_tracks=len(train_tracks),
        seconds=seconds,
        filters=record_filters(model, before, best),
        calibration=calibration,
        profile=profile_scoring(test, best) if has_profile else {},
    )


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


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one cell is trained, in steps.

    Attributes:
        trained: "model", "head" or "cached", see `binding.make_program`.
        batch_norm: "frozen" or "update".
        steps_per_epoch: batches in one pass over the training tracks.
        num_steps: length of the training.
        evaluate_every: steps between evaluations.
    """

    trained: str
    batch_norm: str
    steps_per_epoch: int
    num_steps: int
    evaluate_every: int

    @classmethod
    def make(cls, cell: Cell, settings: ml_collections.ConfigDict, num_tracks: int) -> "Plan":
        """Returns the plan of a cell.

        BatchNorm statistics are updated by default when all layers train, and frozen when only
        the output layer does; then embeddings are computed once and kept, if that is asked for.

        Args:
            cell: the cell.
            settings: its settings.
            num_tracks: training tracks.
        """
        train = settings.train
        steps_per_epoch = max(1, num_tracks // train.batch_size)
        only_head = cell.mode == "output_layer"
        batch_norm = settings.transfer.batch_norm or ("frozen" if only_head else "update")
        if cell.mode == "scratch":
            batch_norm = "update"
        trained = "model"
        if only_head:
            cache = settings.transfer.cache_embeddings and batch_norm == "frozen"
            trained = "cached" if cache else "head"
        return cls(
            trained=trained,
            batch_norm=batch_norm,
            steps_per_epoch=steps_per_epoch,
            num_steps=duration(train.num_steps, train.num_epochs, steps_per_epoch, "num"),
            evaluate_every=duration(
                train.evaluate_every_steps,
                train.evaluate_every_epochs,
                steps_per_epoch,
                "evaluate_every",
            ),
        )
