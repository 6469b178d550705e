"""A probe on the tracks of a data set: their division, the classifier on each fold, its numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import split_list
from musrep_jax.data.specs import SPLITS
from musrep_jax.evaluation.bootstrap import bootstrap_mean
from musrep_jax.evaluation.decisions import confusion_matrix
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.evaluation.subsets import draw_subset
from musrep_jax.evaluation.support import BY_TRACKS
from musrep_jax.probing import folds, measures, neighbors, protocol
from musrep_jax.probing.classifiers import Classifier
from musrep_jax.probing.folds import Fold
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.probe.matrix import parse_classifier
from musrep_jax.tasks.probe.tracks import LabeledTracks
from musrep_jax.tasks.task import Metric, Outcome
from musrep_jax.training.objective import Untrained

SPLIT, FOLDS, STRATIFIED, PLAIN, LEAVE_ONE_OUT = (
    "split", "folds", "stratified_folds", "plain_folds", "leave_one_group_out"
)  # fmt: skip
PROTOCOLS = (SPLIT, FOLDS, STRATIFIED, PLAIN, LEAVE_ONE_OUT)
"""The split of the data set; folds of whole groups with a share of every class; folds with a share
of every class, whatever the groups; folds at random; each group tested alone."""
AUTO = "auto"
SELECT_BY = (AUTO, *measures.TITLES)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProbeObjective(Untrained):
    """What a probe has in hand.

    Attributes:
        tracks: that are probed.
        examples: their features, targets and groups.
        is_synthetic: whether the audio was generated.
        notes: on the features.
    """

    tracks: LabeledTracks
    examples: protocol.Examples
    is_synthetic: bool
    notes: tuple[str, ...] = ()


def divide_tracks(
    tracks: LabeledTracks, name: str, num_folds: int, seed: int
) -> tuple[list[Fold], np.ndarray | None]:
    """Returns the folds of a protocol, and the validation tracks where it has any.

    Args:
        tracks: that are probed.
        name: one of `PROTOCOLS`.
        num_folds: of those that have a number.
        seed: of random ones.

    Raises:
        EvaluationError: if there are too few tracks or groups.
    """
    if name == SPLIT:
        train, validation, test = (np.flatnonzero(tracks.split_names == s) for s in SPLITS)
        if not (len(train) and len(validation) and len(test)):
            raise EvaluationError(
                "no track with these labels is in one of training, validation and test: take "
                f"--config.probe.protocol={FOLDS}."
            )
        return [Fold(train, test)], validation
    if name == LEAVE_ONE_OUT:
        return folds.leave_one_group_out(tracks.groups), None
    if name == PLAIN:
        return folds.make_plain_folds(len(tracks.targets), num_folds, seed=seed), None
    groups = tracks.groups if name == FOLDS else None
    return folds.make_folds(tracks.targets, num_folds, seed=seed, groups=groups), None


def score_classifier(
    job: Job, objective: ProbeObjective, settings: ml_collections.ConfigDict
) -> Outcome:
    """Returns the outcome of a classifier on all folds.

    Args:
        job: the job.
        objective: tracks and features.
        settings: of the job.
    """
    tracks, probe = objective.tracks, settings.probe
    classifier, given = parse_classifier(job["classifier"])
    parts, validation = divide_tracks(tracks, probe.protocol, probe.num_folds, job.seed)
    drawn = [_draw(fold, tracks, job) for fold in parts]
    done = [
        protocol.probe_fold(
            protocol.list_choices(classifier, given),
            objective.examples,
            fold,
            windows=probe.windows,
            # With few training tracks, validation tracks would be most of what is learned from.
            validation=None if job["num_train_tracks"] else validation,
            num_inner_folds=probe.num_inner_folds,
            default=classifier,
            select_by="" if probe.select_by == AUTO else probe.select_by,
            seed=job.seed,
        )
        for fold in drawn
    ]
    tested = np.concatenate([fold.test for fold in parts])
    order = np.argsort(tested)
    scores = np.concatenate([one.scores for one in done])[order]
    of_fold = np.repeat(np.arange(len(parts)), [len(fold.test) for fold in parts])[order]
    tested = tested[order]
    targets = tracks.targets[tested]
    thresholds = None
    if not tracks.is_exclusive:
        thresholds = np.stack([one.thresholds for one in done])[of_fold]
    values, intervals, more = _measure(
        targets, scores, thresholds, of_fold, classifier, objective, tested, settings, job.seed
    )
    blind = measures.measure_blind(targets, is_exclusive=tracks.is_exclusive)
    leaked = [] if tracks.groups is None else folds.find_shared_groups(parts, tracks.groups)
    fields = {
        **describe_tracks(objective),
        **more,
        "protocol": probe.protocol,
        "windows": probe.windows,
        "num_folds": len(parts),
        "num_test_tracks": len(tested),
        "num_train_tracks_used": float(np.mean([len(fold.train) for fold in drawn])),
        "num_shared_groups": len(leaked),
        "blind": blind,
        "chosen": [protocol.describe_choice(one.classifier) for one in done],
        "num_folds_without_choice": sum(not one.was_chosen for one in done),
        "confusion": confusion_matrix(targets, scores) if tracks.is_exclusive else None,
    }
    groups = tracks.track_ids if tracks.groups is None else tracks.groups
    return Outcome(
        metrics=_list_metrics(values, intervals, blind["chance"]),
        fields=to_json_safe(fields),
        arrays={
            "scores": {
                "track_ids": tracks.track_ids[tested],
                "labels": targets.astype(np.uint8),
                "scores": scores.astype(np.float32),
                "groups": groups[tested],
                "folds": of_fold,
            }
        },
    )


def measure_similarity(
    objective: ProbeObjective, settings: ml_collections.ConfigDict, distances: str
) -> Outcome:
    """Returns the outcome of looking for tracks with the same label among the nearest.

    Nothing is learned: the features are standardized by all tracks and compared.

    Args:
        objective: tracks and features, with one window for each track.
        settings: of the job.
        distances: names, separated by commas.
    """
    tracks, count = objective.tracks, settings.probe.precision_at
    features = objective.examples.features
    deviation = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    held = tracks.targets > 0
    groups = tracks.groups if settings.evaluation.resample != BY_TRACKS else None
    metrics = []
    for distance in split_list(distances):
        for name, left_out in (("precision", None), ("precision_across_groups", tracks.groups)):
            if name != "precision" and left_out is None:
                continue
            values = neighbors.measure_precision(
                features, tracks.targets, count, distance, groups=left_out
            )
            known = np.flatnonzero(np.isfinite(values))
            value, interval = bootstrap_mean(
                values[known],
                None if groups is None else groups[known],
                settings.evaluation.num_bootstrap,
            )
            chance = neighbors.measure_chance_precision(held, left_out)
            across = "" if left_out is None else ", other groups only"
            title = f"Precision at {count} ({distance}{across})"
            metrics.append(
                Metric(f"{name}_{distance}", value, interval, title=title, chance=chance)
            )
    return Outcome(metrics=metrics, fields=to_json_safe(describe_tracks(objective)))


def describe_tracks(objective: ProbeObjective) -> dict[str, Any]:
    """Returns the fields of a result on its tracks and features.

    Args:
        objective: tracks and features.
    """
    tracks = objective.tracks
    return {
        "is_synthetic": objective.is_synthetic,
        "is_exclusive": tracks.is_exclusive,
        "labels": list(tracks.label_names),
        "num_tracks": len(tracks.track_ids),
        "num_track_groups": None if tracks.groups is None else len(np.unique(tracks.groups)),
        "num_features": int(objective.examples.features.shape[1]),
        "notes": list(objective.notes),
    }


def _draw(fold: Fold, tracks: LabeledTracks, job: Job) -> Fold:
    """Returns the fold with as many training tracks as the job has."""
    names = tracks.track_ids[fold.train].tolist()
    rows = draw_subset(tracks.targets[fold.train], job["num_train_tracks"], job.seed, names)
    return dataclasses.replace(fold, train=fold.train[rows])


def _measure(
    targets: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray | None,
    of_fold: np.ndarray,
    classifier: Classifier,
    objective: ProbeObjective,
    tested: np.ndarray,
    settings: ml_collections.ConfigDict,
    seed: int,
) -> tuple[Mapping[str, float], Mapping[str, Any], dict[str, Any]]:
    """Returns the measures, their intervals and what else the folds say.

    Of folds these are means with a standard error; of one split, and of single groups, those of all
    test tracks with an interval over tracks or groups.
    """
    tracks = objective.tracks
    options = {
        "is_exclusive": tracks.is_exclusive,
        "are_probabilities": classifier.gives_probabilities,
    }
    num_folds = int(of_fold.max()) + 1
    if settings.probe.protocol in (SPLIT, LEAVE_ONE_OUT):
        groups = tracks.groups
        if groups is None or settings.evaluation.resample == BY_TRACKS:
            groups = None
        else:
            groups = groups[tested]
        values = measures.measure(targets, scores, thresholds=thresholds, **options)
        intervals = measures.measure_intervals(
            targets, scores, values, is_exclusive=tracks.is_exclusive, thresholds=thresholds,
            groups=groups, num_resamples=settings.evaluation.num_bootstrap, seed=seed,
        )  # fmt: skip
        return values, intervals, {"per_fold": [], "standard_errors": {}}
    per_fold = []
    for number in range(num_folds):
        rows = of_fold == number
        cuts = None if thresholds is None else thresholds[rows]
        per_fold.append(measures.measure(targets[rows], scores[rows], thresholds=cuts, **options))
    found = measures.average_folds(per_fold)
    return (
        {name: mean for name, (mean, _, _) in found.items()},
        {name: interval for name, (_, _, interval) in found.items()},
        {"per_fold": per_fold, "standard_errors": {name: e for name, (_, e, _) in found.items()}},
    )


def _list_metrics(
    values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]],
    chance: Mapping[str, float],
) -> list[Metric]:
    """Returns the metrics of a probe, the one that it is judged by first."""
    first = "accuracy" if "accuracy" in values else "roc_auc"
    names = [first, *(name for name in measures.TITLES if name in values and name != first)]
    names = [name for name in names if name != "log_loss" or np.isfinite(values[name])]
    found = []
    for name in names:
        low, high = intervals[name]
        found.append(
            Metric(
                name,
                values[name],
                (low, high) if np.isfinite(low) else None,
                is_larger_better=name != "log_loss",
                title=measures.TITLES[name],
                chance=chance[name],
            )
        )
    return found
