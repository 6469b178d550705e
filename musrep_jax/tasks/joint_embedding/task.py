"""The task of a joint embedding: it is trained on some data sets and judged on another."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, split_list
from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.data.input import pipeline
from musrep_jax.data.specs import SPLITS, DatasetSpec
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.card import make_card
from musrep_jax.inference.tagger import load_encoder
from musrep_jax.models import create_encoder
from musrep_jax.models.joint_embedding import LogMelWindows
from musrep_jax.probing.linear import Ridge
from musrep_jax.probing.neighbors import measure_chance_precision
from musrep_jax.probing.protocol import Examples, list_choices
from musrep_jax.probing.windows import (
    count_same_names,
    divide_tracks,
    find_label_neighbors,
    measure_chance,
    measure_similarity,
    trace_curve,
)
from musrep_jax.tasks.jobs import Job, strip_parents
from musrep_jax.tasks.joint_embedding import reports
from musrep_jax.tasks.joint_embedding.jobs import PRECISIONS, TAGS, TRAINING, plan_jobs
from musrep_jax.tasks.joint_embedding.objective import (
    ENCODER,
    LABELS,
    EmbeddingObjective,
    make_objective,
    summarize_errors,
)
from musrep_jax.tasks.joint_embedding.windows import embed_windows, measure_frames
from musrep_jax.tasks.overlap import refuse_shared_audio
from musrep_jax.tasks.settings import (
    get_builder_name,
    make_chunk_spec,
    model_deviations,
    parse_integers,
    settings_of_job,
)
from musrep_jax.tasks.task import Context, Export, Metric, Outcome, Result, Tables, Task
from musrep_jax.training import sharding
from musrep_jax.training.logs import make_run_record
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective
from musrep_jax.types import PyTree, TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowsObjective(Objective):
    """Windows that are judged; nothing is trained.

    Attributes:
        model: of the windows, with or without an embedding.
        dataset: the target.
        tracks: its tracks by split.
    """

    model: LogMelWindows
    dataset: Dataset
    tracks: Mapping[str, Tracks]


class JointEmbeddingTask(Task):
    """Trains embeddings of frames with WARP, and judges windows of other data sets in them."""

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs` and `plan_jobs`."""
        return plan_jobs(config)

    def make_settings(
        self, config: ml_collections.ConfigDict, job: Job
    ) -> ml_collections.ConfigDict:
        """See `Task.make_settings`; windows without an embedding have no width of their own."""
        settings = settings_of_job(config, job)
        if job["mode"] != TRAINING:
            settings.model.width = None
        settings.train.loss = "binary_cross_entropy"  # which passes over a split have no use for
        return settings

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`: how windows are judged changes no training."""
        judging = (
            "num_folds", "folds_by", "num_per_class", "ridge", "num_neighbors", "distance"
        )  # fmt: skip
        section, _, name = setting.partition(".")
        return not (job["mode"] == TRAINING and section == job.task and name in judging)

    def prepare(self, job: Job, context: Context) -> Objective:
        """See `Task.prepare`."""
        if job["mode"] == TRAINING:
            return self._prepare_training(job, context)
        if job["source"] is None:
            model, variables = make_model(context.settings), {"params": {}}
        else:
            loaded = load_encoder(context.find_export(job_key_of_training(job, context)))
            model, variables = loaded.model, dict(loaded.variables)
        dataset, tracks = open_tracks(job["target"], model, context)
        for name in job["source"] or ():
            learned = open_tracks(name, model, context, has_all_labels=job["mode"] == TAGS)[1]
            seen = [learned["train"], learned["validation"]]
            places = "--config.source and --config.target"
            refuse_shared_audio(seen, [*tracks.values()], name, job["target"], places)
        return WindowsObjective(
            variables=variables,
            loss_fn=no_loss,
            batches=iter,
            evaluate=no_metrics,
            select_by=("accuracy", "max"),
            steps_per_epoch=1,
            solve=lambda: variables,
            model=model,
            dataset=dataset,
            tracks=tracks,
        )

    def _prepare_training(self, job: Job, context: Context) -> EmbeddingObjective:
        model = make_model(context.settings)
        is_tags = tuple(job["target"]) == split_list(context.config.source)
        opened = [
            (name, *open_tracks(name, model, context, has_all_labels=is_tags))
            for name in job["target"]
        ]
        return make_objective(job, model, opened, context.settings)

    def identify(self, job: Job, objective: Objective, context: Context) -> dict[str, Any]:
        """See `Task.identify`: the model, the data sets and their labels."""
        if not isinstance(objective, EmbeddingObjective):
            return {}
        return {
            "model": model_deviations(context.settings),
            "labels": {one.key: one.train.spec.label_names for one in objective.sets},
            "data": {one.key: one.dataset.identity["fingerprint"] for one in objective.sets},
        }

    def finish(self, job: Job, objective: Objective, fit: FitResult, context: Context) -> Outcome:
        """See `Task.finish`."""
        if isinstance(objective, EmbeddingObjective):
            return finish_training(job, objective, fit, context)
        if not isinstance(objective, WindowsObjective):
            raise TypeError(f"{type(objective).__name__} is no objective of this task.")
        return judge_windows(job, objective, fit, context)

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, split_list(config.target))

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: accuracy over examples per class."""
        return reports.save_figures(results, folder)


def no_loss(*arguments: object) -> Any:
    """Raises: there is nothing to train."""
    raise TypeError("Windows are judged, not trained.")


def no_metrics(state: TrainState) -> Mapping[str, float]:
    """Returns no validation metrics: windows are judged by folds."""
    return {}


def job_key_of_training(job: Job, context: Context) -> str:
    """Returns the key of the job whose embedding this one judges.

    Args:
        job: with exactly one job that it needs.
        context: of the job.
    """
    (key,) = job.needs
    return key


def make_model(settings: ml_collections.ConfigDict) -> LogMelWindows:
    """Returns the model of a job, without output layer.

    Args:
        settings: of the job.
    """
    model = create_encoder(settings.model.name, model_deviations(settings))
    if not isinstance(model, LogMelWindows):
        raise ConfigError(f"model.name is {settings.model.name!r}, which has no windows of frames.")
    return model


def open_tracks(
    name: str, model: LogMelWindows, context: Context, *, has_all_labels: bool = False
) -> tuple[Dataset, dict[str, Tracks]]:
    """Returns a data set, and its tracks by split with the labels that are asked for.

    Args:
        name: of the data set.
        model: that reads it.
        context: of the job.
        has_all_labels: whether `joint_embedding.labels` does not apply.

    Raises:
        ConfigError: if no label of the data set matches, or no track has one.
    """
    data, options = context.config.data, {}
    if get_builder_name(name) == "audio_folder":
        patterns = (has_all_labels and data.source_labels) or data.labels
        options = {"labels": patterns} if patterns else {}
    dataset = context.open_dataset(name, model.sample_rate, **options)
    pipeline.check_compatible(dataset.spec, make_chunk_spec(model))
    names = dataset.spec.label_names
    wanted = None if has_all_labels else context.settings.joint_embedding.labels
    columns = range(len(names))
    if wanted:
        patterns = split_list(wanted)
        columns = [
            column for column, label in enumerate(names)
            if any(fnmatch.fnmatchcase(label, pattern) for pattern in patterns)
        ]  # fmt: skip
        if len(columns) < 2:
            raise ConfigError(
                f"joint_embedding.labels is {wanted!r}, which matches {len(columns)} labels of "
                f"{strip_parents(name)}, and two are needed; it has {', '.join(names[:8])}"
                f"{', ...' if len(names) > 8 else ''}."
            )
    return dataset, {split: dataset.tracks(split).only_labels(columns) for split in SPLITS}


def finish_training(
    job: Job, objective: EmbeddingObjective, fit: FitResult, context: Context
) -> Outcome:
    """Returns errors on test tracks, the vectors of labels and the embedding for export.

    Args:
        job: the job.
        objective: what was trained.
        fit: what the loop returned.
        context: of the job.
    """
    best = sharding.to_host({"params": fit.best_state.params, **fit.best_state.model_state})
    is_tags = tuple(job["target"]) == split_list(context.config.source)
    tested = {}
    for one in objective.sets:
        _, tracks = open_tracks(one.name, objective.model, context, has_all_labels=is_tags)
        frames = measure_frames(objective.model, tracks["test"], context.settings)
        tested[one.key] = (tracks["test"], frames)
    errors = summarize_errors(best, tested)
    vectors = np.concatenate([best["params"][LABELS][one.key] for one in objective.sets])
    owners = [strip_parents(one.name) for one in objective.sets for _ in one.train.spec.label_names]
    names = [label for one in objective.sets for label in one.train.spec.label_names]
    encoder = {
        "params": best["params"][ENCODER],
        **{c: trees[ENCODER] for c, trees in best.items() if c != "params"},
    }
    card = make_embedding_card(job, objective, fit, errors)
    return Outcome(
        metrics=[
            Metric("error", errors["error"], is_larger_better=False, title="error of frames' means")
        ],
        fields={
            "is_synthetic": any(one.dataset.spec.is_synthetic for one in objective.sets),
            "num_train_tracks_used": sum(len(one.train) for one in objective.sets),
            "best_step": fit.best_step,
            "num_steps": int(fit.state.step),
            "stopped_early": fit.stopped_early,
            "validation": fit.best_metrics,
            "errors": errors,
            "label_neighbors": find_label_neighbors(vectors, owners, names),
            "same_names": count_same_names(vectors, owners, names),
        },
        arrays={
            "labels": {"vectors": vectors, "datasets": np.array(owners), "names": np.array(names)}
        },
        exports={"": Export(encoder, card, format_model_readme(card))},
    )


def make_embedding_card(
    job: Job, objective: EmbeddingObjective, fit: FitResult, errors: Mapping[str, float]
) -> dict[str, Any]:
    """Returns the card of an embedding, whose data are several data sets.

    Args:
        job: the job.
        objective: what was trained.
        fit: what the loop returned.
        errors: on test tracks.
    """
    specs = [one.dataset.spec for one in objective.sets]
    data = DatasetSpec(
        name=" + ".join(spec.name for spec in specs),
        label_names=(),
        sample_rate=objective.model.sample_rate,
        stored_form="pcm16",
        split_sizes={split: sum(spec.split_sizes[split] for spec in specs) for split in SPLITS},
        licence="; ".join(dict.fromkeys(spec.licence for spec in specs)),
        citation="\n".join(dict.fromkeys(spec.citation for spec in specs)),
        description=" ".join(dict.fromkeys(spec.description for spec in specs)),
        is_synthetic=any(spec.is_synthetic for spec in specs),
        fingerprint="+".join(one.dataset.identity["fingerprint"] for one in objective.sets),
    )
    return make_card(
        objective.model,
        name=job["model"],
        data=data,
        training={
            "source": None,
            "mode": job["mode"],
            "seed": job.seed,
            "num_train_tracks": sum(len(one.train) for one in objective.sets),
            "best_step": fit.best_step,
            "loss": "warp",
            "notes": [],
        },
        metrics={"test": dict(errors), "validation": dict(fit.best_metrics)},
        versions=make_run_record(),
    )


def judge_windows(
    job: Job, objective: WindowsObjective, fit: FitResult, context: Context
) -> Outcome:
    """Returns accuracy over folds, its curve, and precision of neighbors.

    Args:
        job: the job.
        objective: the windows.
        fit: with the variables of the model.
        context: of the job.
    """
    settings, own = context.settings, context.settings.joint_embedding
    variables: PyTree = {"params": fit.best_state.params, **fit.best_state.model_state}
    variables = jax.tree.map(jnp.asarray, variables)
    windows, owners, start = [], [], 0
    for tracks in objective.tracks.values():
        if len(tracks):
            found, owner = embed_windows(objective.model, variables, tracks, settings)
            windows.append(found)
            owners.append(owner + start)
            start += len(tracks)
    parts = objective.tracks.values()
    targets = np.concatenate([tracks.label_matrix for tracks in parts])
    whole = Examples(
        np.concatenate(windows),
        np.concatenate(owners),
        targets,
        is_exclusive=bool((np.count_nonzero(targets, axis=1) == 1).all()),
        groups=np.array([group for tracks in parts for group in tracks.groups], str),
    )
    folds = divide_tracks(whole, own.num_folds, own.folds_by, job.seed)
    counts = (*parse_integers(own.num_per_class, "joint_embedding.num_per_class"), 0)
    regressions = list_choices(Ridge()) if own.ridge is None else [Ridge(strength=own.ridge)]
    curve = trace_curve(whole, folds, dict.fromkeys(counts), regressions, seed=job.seed)
    metrics = [
        Metric("accuracy", curve[-1].mean, curve[-1].interval(), chance=measure_chance(targets))
    ]
    for name, words in PRECISIONS.items():
        across_groups = name != "precision"
        precision, interval = measure_similarity(
            whole, own.num_neighbors, own.distance, across_groups=across_groups
        )
        chance = measure_chance_precision(targets, whole.groups if across_groups else None)
        title = f"precision at {own.num_neighbors} among {words}"
        metrics.append(Metric(name, precision, interval, chance=chance, title=title))
    return Outcome(
        metrics=metrics,
        fields={
            "is_synthetic": objective.dataset.spec.is_synthetic,
            "num_tracks": len(whole.targets),
            "num_windows": len(whole.features),
            "width": whole.features.shape[1],
            "num_labels": whole.targets.shape[1],
            "num_folds": len(folds),
            "folds_by": own.folds_by,
            "ridge": own.ridge,
            "is_exclusive": whole.is_exclusive,
            "curve": [
                {"count": point.count, "accuracies": point.accuracies.tolist(),
                 "mean": point.mean, "standard_error": point.standard_error}
                for point in curve
            ],
        },
    )  # fmt: skip
