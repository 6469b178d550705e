"""The report on a tagger: macro metrics with intervals, per-label table, chance level.

Labels without positives or without negatives cannot be ranked. They are left out of every mean and
listed with the reason, instead of counting as zero or turning the mean into NaN.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation import decisions, metrics
from musrep_jax.evaluation.bootstrap import (
    Interval,
    Resamples,
    average_over_labels,
    metric_interval,
    resample_metrics,
)
from musrep_jax.evaluation.calibration import calibrate
from musrep_jax.evaluation.chance import evaluate_random_scorer
from musrep_jax.evaluation.label_sets import (
    duplicate_labels,
    find_exclusive_label_sets,
    find_label_groups,
)
from musrep_jax.evaluation.metrics import BoolArray, EvaluationError, FloatArray
from musrep_jax.evaluation.support import Units, make_units, support_labels, support_mean
from musrep_jax.runtime.files import to_json_safe

# Enough for the range of random scorers; more take seconds on thousands of tracks.
NUM_RANDOM_SCORERS = 250
FITTED = "_fitted"
"""Ending of fields at thresholds that were fitted on validation data."""

NO_POSITIVES = "no positives"
NO_NEGATIVES = "no negatives"


@dataclasses.dataclass(frozen=True)
class TaggingReport:
    """The scores of a tagger on a set of tracks.

    Attributes:
        roc_auc: macro ROC-AUC over the evaluated labels.
        pr_auc: macro average precision over the evaluated labels.
        roc_auc_ci: 95 % bootstrap interval; NaN bounds when none was asked for or `ci_reason` says
            why there is none.
        pr_auc_ci: as above.
        ci_reason: a key of `support.REASON_TEXTS`, or None.
        num_tracks: number of tracks.
        num_labels: number of evaluated labels.
        per_label: name -> `roc_auc`, `pr_auc`, `positives`, `random_pr_auc`; `f1`, `precision` and
            `recall` at `threshold`, `f1_fitted`, `precision_fitted` and `recall_fitted` at the
            fitted ones; intervals `roc_auc_ci`, `pr_auc_ci` with their `ci_reason`; all labels, in
            the order of the output units.
        skipped_labels: names left out of the means.
        skip_reasons: name -> `no positives` or `no negatives`.
        random: what a random scorer reaches on these tracks, see `chance.evaluate_random_scorer`.
        micro: `roc_auc` and `pr_auc` of all (track, label) pairs pooled.
        f1: `macro`, `micro`, `weighted` and `samples` F1 over all labels at one `threshold`.
        f1_fitted: the same at `thresholds`, name -> threshold; None when none were given.
        label_groups: group -> macro metrics over its labels, with intervals.
        single_label: set of labels of which every track has exactly one -> accuracies and their
            intervals; `all labels` is the whole vocabulary without labels that every track has.
        duplicate_labels: groups of names whose labels are identical on all tracks.
        merged: macro metrics when each such group counts as one label, None without such groups.
        num_bootstrap: number of resamples.
        resampled: `groups` or `tracks`: what was resampled as a whole.
        num_track_groups: number of groups that were resampled, None for tracks.
        seed: of the resamples.
    """

    roc_auc: float
    pr_auc: float
    roc_auc_ci: Interval
    pr_auc_ci: Interval
    ci_reason: str | None
    num_tracks: int
    num_labels: int
    per_label: Mapping[str, Mapping[str, Any]]
    skipped_labels: tuple[str, ...]
    skip_reasons: Mapping[str, str]
    random: Mapping[str, Any]
    micro: Mapping[str, float]
    f1: Mapping[str, Any]
    f1_fitted: Mapping[str, Any] | None
    label_groups: Mapping[str, Mapping[str, Any]]
    single_label: Mapping[str, Mapping[str, Any]]
    duplicate_labels: tuple[tuple[str, ...], ...]
    merged: Mapping[str, Any] | None
    num_bootstrap: int
    resampled: str
    num_track_groups: int | None
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data that any JSON parser reads, with None for undefined values."""
        return {
            field.name: to_json_safe(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }


def make_report(
    labels: ArrayLike,
    scores: ArrayLike,
    label_names: Sequence[str],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
    label_groups: Mapping[str, Sequence[str]] | None = None,
    threshold: float = decisions.DEFAULT_THRESHOLD,
    fitted_thresholds: ArrayLike | None = None,
    calibration: ArrayLike | None = None,
) -> TaggingReport:
    """Returns the full report on one tagger and one set of tracks.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite, from `aggregation.aggregate_tracks`.
        label_names: of the classes, in order, each one once.
        num_bootstrap: number of resamples; 0 leaves the intervals out.
        seed: of the resamples and of the random scorers.
        track_groups: (tracks,) performers or albums; when given, whole groups are resampled, which
            widens the intervals to what tracks of the same performer really say.
        label_groups: name -> labels, for macro metrics over parts of the vocabulary. None takes the
            prefixes of names such as `instrument--ney` or `makam_rast`, see
            `label_sets.find_label_groups`.
        threshold: of all labels, for F1.
        fitted_thresholds: (classes,), from `decisions.fit_thresholds` on validation data, for a
            second F1.
        calibration: (classes, 2), from `calibration.fit_calibration` on validation data: of a set
            of exclusive labels the most probable one is the decision, and probabilities of
            different labels must mean the same for that. None compares the scores as they are.

    Returns:
        A `TaggingReport`.

    Raises:
        EvaluationError: when no label has both positives and negatives, when names do not fit, or
            on bad labels or scores.
    """
    is_positive, score_array = metrics.check_labels_and_scores(labels, scores)
    names = _check_names(label_names, is_positive.shape[1])
    num_tracks, num_classes = is_positive.shape
    num_positives = is_positive.sum(axis=0)
    is_used = metrics.is_evaluable(is_positive)
    skip_reasons = {
        names[i]: NO_POSITIVES if num_positives[i] == 0 else NO_NEGATIVES
        for i in np.flatnonzero(~is_used)
    }
    if not is_used.any():
        raise EvaluationError(_nothing_to_evaluate(skip_reasons, num_tracks))

    point = {
        "roc_auc": np.where(is_used, metrics.roc_auc(is_positive, score_array), np.nan),
        "pr_auc": np.where(is_used, metrics.average_precision(is_positive, score_array), np.nan),
    }
    resamples = resample_metrics(
        is_positive,
        score_array,
        num_resamples=num_bootstrap,
        seed=seed,
        track_groups=track_groups,
    )
    units = make_units(num_tracks, track_groups)
    supports = support_labels(is_positive, units)
    f1 = decisions.f1_scores(is_positive, decisions.predict(score_array, threshold))
    decided = _take_per_label(f1, "")
    f1_fitted = None
    if fitted_thresholds is not None:
        cuts = np.broadcast_to(np.asarray(fitted_thresholds, np.float64), (num_classes,))
        f1_fitted = decisions.f1_scores(is_positive, decisions.predict(score_array, cuts))
        decided |= _take_per_label(f1_fitted, FITTED)
        f1_fitted["thresholds"] = dict(zip(names, cuts.tolist(), strict=True))
    else:
        decided |= {f"{name}{FITTED}": np.full(num_classes, np.nan) for name in list(decided)}
    random_pr_auc = metrics.expected_random_average_precision(num_positives, num_tracks)
    per_label = {
        name: {
            "roc_auc": point["roc_auc"][i],
            "pr_auc": point["pr_auc"][i],
            "positives": int(num_positives[i]),
            "roc_auc_ci": metric_interval(
                resamples.roc_auc[:, i], point["roc_auc"][i], supports[i]
            ),
            "pr_auc_ci": metric_interval(resamples.pr_auc[:, i], point["pr_auc"][i], supports[i]),
            "ci_reason": supports[i].reason,
            "random_pr_auc": random_pr_auc[i] if is_used[i] else np.nan,
            **{field: values[i] for field, values in decided.items()},
        }
        for i, name in enumerate(names)
    }
    groups = find_label_groups(is_positive, names) if label_groups is None else label_groups
    columns = {group: _columns(names, members, group) for group, members in groups.items()}
    comparable = score_array if calibration is None else calibrate(score_array, calibration)

    def average(chosen: BoolArray) -> dict[str, Any]:
        return _macro(point, resamples, chosen, is_positive, units)

    overall = average(is_used)
    duplicates = duplicate_labels(is_positive, is_used)
    return TaggingReport(
        roc_auc=overall["roc_auc"],
        pr_auc=overall["pr_auc"],
        roc_auc_ci=overall["roc_auc_ci"],
        pr_auc_ci=overall["pr_auc_ci"],
        ci_reason=overall["ci_reason"],
        num_tracks=num_tracks,
        num_labels=overall["num_labels"],
        per_label=per_label,
        skipped_labels=tuple(skip_reasons),
        skip_reasons=skip_reasons,
        random=evaluate_random_scorer(
            is_positive, num_draws=min(num_bootstrap, NUM_RANDOM_SCORERS), seed=seed
        ),
        micro={
            "roc_auc": metrics.micro_roc_auc(is_positive, score_array),
            "pr_auc": metrics.micro_average_precision(is_positive, score_array),
        },
        f1={**f1, "threshold": threshold},
        f1_fitted=f1_fitted,
        label_groups={
            group: average(is_used & np.isin(np.arange(num_classes), members))
            for group, members in columns.items()
        },
        single_label={
            set_name: decisions.make_single_label_report(
                is_positive[:, members],
                comparable[:, members],
                [names[i] for i in members],
                num_bootstrap,
                seed,
                track_groups,
            )
            for set_name, members in find_exclusive_label_sets(is_positive, names, columns).items()
        },
        duplicate_labels=tuple(tuple(names[i] for i in members) for members in duplicates),
        merged=_merged(point, is_used, duplicates),
        num_bootstrap=num_bootstrap,
        resampled=units.resampled,
        num_track_groups=units.count if units.are_groups else None,
        seed=seed,
    )


def _take_per_label(f1: dict[str, Any], ending: str) -> dict[str, FloatArray]:
    """Takes what is said of single labels out of `f1`, and returns it as fields of `per_label`."""
    fields = {"f1": "per_label", "precision": "precision", "recall": "recall"}
    return {f"{field}{ending}": f1.pop(name) for field, name in fields.items()}


def _macro(
    point: Mapping[str, FloatArray],
    resamples: Resamples,
    is_used: BoolArray,
    is_positive: BoolArray,
    units: Units,
) -> dict[str, Any]:
    """Returns macro metrics over the chosen labels with their intervals."""
    resampled = dict(
        zip(("roc_auc", "pr_auc"), average_over_labels(resamples, is_used), strict=True)
    )
    support = support_mean(is_positive[:, is_used], units)
    result: dict[str, Any] = {"num_labels": int(is_used.sum()), "ci_reason": support.reason}
    for metric, values in point.items():
        result[metric] = metrics.average_selected(values, is_used)
        result[f"{metric}_ci"] = metric_interval(resampled[metric], result[metric], support)
    return result


def _merged(
    point: Mapping[str, FloatArray], is_used: BoolArray, duplicates: Sequence[Sequence[int]]
) -> dict[str, Any] | None:
    """Returns macro metrics in which labels that are the same on all tracks share one vote."""
    if not duplicates:
        return None
    votes = is_used.astype(np.float64)
    for members in duplicates:
        votes[list(members)] /= len(members)
    result: dict[str, Any] = {"num_labels": round(votes.sum())}
    for metric, values in point.items():
        result[metric] = float(np.sum(np.where(is_used, values, 0.0) * votes) / votes.sum())
    return result


def _check_names(label_names: Sequence[str], num_classes: int) -> list[str]:
    """Returns the names as a list, or raises when they do not name the classes one by one."""
    names = [str(name) for name in label_names]
    if len(names) != num_classes:
        raise EvaluationError(
            f"there are {len(names)} label names for {num_classes} classes; give one per class."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EvaluationError(
            f"the label names {', '.join(repeated)} occur more than once; names must differ."
        )
    return names


def _columns(names: Sequence[str], members: Sequence[str], group: str) -> list[int]:
    """Returns the columns of a group's labels, or raises when a label is not known."""
    unknown = [member for member in members if member not in names]
    if unknown:
        raise EvaluationError(
            f"label group {group!r} names {', '.join(unknown)}, not in the vocabulary of "
            f"{len(names)} labels; correct the group."
        )
    return [names.index(member) for member in members]


def _nothing_to_evaluate(skip_reasons: Mapping[str, str], num_tracks: int) -> str:
    """Returns the sentence that says why no label can be evaluated."""
    parts = []
    for reason in (NO_POSITIVES, NO_NEGATIVES):
        names = [name for name, why in skip_reasons.items() if why == reason]
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            parts.append(f"{len(names)} with {reason} ({shown})")
    return (
        f"none of the {len(skip_reasons)} labels can be evaluated on these {num_tracks} tracks: "
        f"{' and '.join(parts)}; a label needs at least one track with it and one without it, so "
        "use another split, more tracks or other labels."
    )
