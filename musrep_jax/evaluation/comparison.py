"""Paired comparison of two systems on the same tracks, and correction for many comparisons.

The p-value is that of a permutation test (`swapping.py`). The interval is its inversion, a constant
difference being taken off: p < 0.05 and an interval without zero are the same statement. Where
the test can say little, because few tracks are out of order or few are there, its own bounds are
too near: away from zero they are widened to a quantile of Student's t times the standard deviation
of the swapped differences, and by half an observation (a correction for continuity).

Source: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2 (one is
added to both counts of a p-value) and 4.3 (permutation tests); Garthwaite, "Confidence intervals
from randomization tests", Biometrics 1996; Holm, "A simple sequentially rejective multiple test
procedure", 1979.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import NUM_RESAMPLES, Interval
from musrep_jax.evaluation.metrics import (
    BoolArray,
    EvaluationError,
    FloatArray,
    check_labels_and_scores,
)
from musrep_jax.evaluation.support import (
    MIN_EXAMPLES,
    REASON_TEXTS,
    Support,
    make_units,
    support_labels,
    support_mean,
    support_tracks,
    t_quantile,
)
from musrep_jax.evaluation.swapping import (
    are_all_swaps,
    compute_ranks,
    draw_swaps,
    swap_differences,
)

__all__ = [
    "MIN_EXAMPLES",
    "Comparison",
    "Difference",
    "PairedComparison",
    "apply_holm_correction",
    "compare_statistic",
    "compare_systems",
    "compare_values",
    "paired_bootstrap",
    "paired_bootstrap_per_label",
]

SIGNIFICANCE = 0.05
# Differences that are equal but for rounding.
TOLERANCE = 1e-9
NOT_TESTED = (float("nan"), float("nan"))


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much higher one system scores than the other.

    Attributes:
        value: of the full data.
        ci: bounds of the 95 % interval, NaN when there is none.
        p_value: two-sided, of no difference; NaN when it was not tested.
        reason: why it was not tested, a key of `support.REASON_TEXTS`, or None.
        higher_is_better: whether a positive difference is an improvement.
    """

    value: float
    ci: Interval
    p_value: float
    reason: str | None = None
    higher_is_better: bool = True

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided` at p < 0.05, or why it was not tested."""
        if self.reason is not None:
            return REASON_TEXTS[self.reason]
        if not self.p_value < SIGNIFICANCE:
            return "undecided"
        return "better" if (self.value > 0) == self.higher_is_better else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data; `difference` is the value."""
        return {
            "difference": self.value,
            "ci": list(self.ci),
            "p_value": self.p_value,
            "reason": self.reason,
            "higher_is_better": self.higher_is_better,
            "verdict": self.verdict,
        }


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """The differences of system minus baseline in both metrics.

    Attributes:
        roc_auc: in ROC-AUC.
        pr_auc: in average precision.
        resampled: `tracks` or `groups`: what was swapped as a whole.
        num_units: how many of them there are.
    """

    roc_auc: Difference
    pr_auc: Difference
    resampled: str = "tracks"
    num_units: int = 0

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns plain data, the field `versus_scratch` of a result."""
        units = {"resampled": self.resampled, "num_units": self.num_units}
        return {
            "roc_auc": {**self.roc_auc.to_dict(), **units},
            "pr_auc": {**self.pr_auc.to_dict(), **units},
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two systems compared over all labels and label by label.

    Attributes:
        overall: of the means over labels.
        per_label: one for each label, None for a label without positives or without negatives.
    """

    overall: PairedComparison
    per_label: Sequence[PairedComparison | None]


def compare_systems(
    labels: ArrayLike,
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> Comparison:
    """Returns the difference of a system from a baseline scored on the same tracks.

    What makes a track easy or hard for both cancels. Intervals and p-values speak of other test
    tracks, not of other training runs: for those, train with several seeds. Many labels make some
    p-values small by chance: correct them with `apply_holm_correction`. What too few tracks or
    groups stand behind has a difference and a reason, and neither an interval nor a p-value.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes) of the system, finite.
        baseline_scores: (tracks, classes) of the baseline, finite, same tracks and classes.
        num_resamples: number of random swaps.
        seed: of the swaps.
        track_groups: (tracks,) names or numbers of groups (performers, recordings), which are
            swapped as a whole, or None to swap tracks one by one.

    Returns:
        Differences system minus baseline in ROC-AUC and average precision.

    Raises:
        EvaluationError: on bad labels or scores, or when no label can be evaluated.
    """
    is_positive, (system, baseline) = _check_paired_scores(labels, scores, baseline_scores)
    units = make_units(len(is_positive), track_groups)
    is_used = metrics.is_evaluable(is_positive)
    columns = np.flatnonzero(is_used)
    measured = np.stack(
        [
            (per_label(is_positive, system) - per_label(is_positive, baseline))[is_used]
            for per_label in (metrics.roc_auc, metrics.average_precision)
        ]
    )
    truth = is_positive[:, is_used]
    ranks, baseline_ranks = (compute_ranks(array[:, is_used]) for array in (system, baseline))
    is_same = (ranks == baseline_ranks).all(axis=0)
    overall, supports = support_mean(truth, units), support_labels(truth, units)
    swapped = np.empty((2, 0, len(columns)))
    if overall.reason is None and num_resamples > 0 and not is_same.all():
        swapped = swap_differences(truth, ranks, baseline_ranks, units, num_resamples, seed)
    is_complete = are_all_swaps(units, num_resamples)

    def judge(chosen: Any, support: Support) -> PairedComparison:
        differences = [
            judge_difference(
                float(np.mean(measured[metric, chosen])),
                swapped[metric][:, chosen].mean(axis=1) * _widening(support),
                support,
                is_complete=is_complete,
                is_same=bool(is_same[chosen].all()),
                step=0.5 / support.size,
            )
            for metric in (0, 1)
        ]
        return PairedComparison(*differences, units.resampled, units.count)

    per_label: list[PairedComparison | None] = [None] * is_positive.shape[1]
    for place, (column, support) in enumerate(zip(columns, supports, strict=True)):
        per_label[column] = judge(slice(place, place + 1), support)
    return Comparison(judge(slice(None), overall), per_label)


def paired_bootstrap(*args: Any, **options: Any) -> PairedComparison:
    """Returns `compare_systems(...).overall`, under the name it had when the test was a bootstrap.

    Args:
        *args: of `compare_systems`.
        **options: of `compare_systems`.
    """
    return compare_systems(*args, **options).overall


def paired_bootstrap_per_label(*args: Any, **options: Any) -> list[PairedComparison | None]:
    """Returns `compare_systems(...).per_label`, under its former name.

    Args:
        *args: of `compare_systems`.
        **options: of `compare_systems`.
    """
    return list(compare_systems(*args, **options).per_label)


def compare_values(
    values: ArrayLike,
    baseline_values: ArrayLike,
    *,
    higher_is_better: bool,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> Difference:
    """Returns the difference of two systems' means over tracks, such as losses or errors.

    Args:
        values: (tracks,) of the system, finite.
        baseline_values: (tracks,) of the baseline, on the same tracks.
        higher_is_better: False for losses, errors and distances, which improve by falling.
        num_resamples: number of random swaps.
        seed: of the swaps.
        track_groups: see `compare_systems`.

    Raises:
        EvaluationError: when the values do not fit each other or are not finite.
    """
    return compare_statistic(
        lambda rows: rows.mean(axis=0),
        values,
        baseline_values,
        higher_is_better=higher_is_better,
        num_resamples=num_resamples,
        seed=seed,
        track_groups=track_groups,
    )


def compare_statistic(
    statistic: Callable[[FloatArray], float],
    outputs: ArrayLike,
    baseline_outputs: ArrayLike,
    *,
    higher_is_better: bool,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> Difference:
    """Returns the difference of any statistic of two systems, tested by swapping their outputs.

    The outputs must be of one scale: they are swapped as they are, not as ranks.

    Args:
        statistic: of outputs (tracks, ...), such as an error rate or a calibration error.
        outputs: (tracks, ...) of the system, finite.
        baseline_outputs: (tracks, ...) of the baseline, on the same tracks.
        higher_is_better: False for what improves by falling.
        num_resamples: number of random swaps.
        seed: of the swaps.
        track_groups: see `compare_systems`.

    Raises:
        EvaluationError: when the outputs do not fit each other or are not finite.
    """
    ours, theirs = (np.asarray(array, np.float64) for array in (outputs, baseline_outputs))
    if ours.shape != theirs.shape or ours.ndim < 1 or not len(ours):
        raise EvaluationError(
            f"the outputs have shapes {ours.shape} and {theirs.shape}; both need the same tracks."
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise EvaluationError("some outputs are not finite, so the systems cannot be compared.")
    units = make_units(len(ours), track_groups)
    support, swapped = support_tracks(units), []
    if support.reason is None and num_resamples > 0:
        for swaps in draw_swaps(units, num_resamples, seed):
            for swap in swaps.T.astype(bool):
                where = swap.reshape(-1, *(1,) * (ours.ndim - 1))
                swapped.append(
                    float(statistic(np.where(where, theirs, ours)))
                    - float(statistic(np.where(where, ours, theirs)))
                )
    return judge_difference(
        float(statistic(ours)) - float(statistic(theirs)),
        np.array(swapped),
        support,
        is_complete=are_all_swaps(units, num_resamples),
        is_same=bool((ours == theirs).all()),
        limit=math.inf,
        higher_is_better=higher_is_better,
    )


def apply_holm_correction(p_values: ArrayLike) -> FloatArray:
    """Returns p-values corrected for how many comparisons were made.

    >>> apply_holm_correction([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])

    Args:
        p_values: (comparisons,); NaN values stay NaN and are not counted.

    Returns:
        float64 (comparisons,), never below the given ones.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def _check_paired_scores(
    labels: ArrayLike, scores: ArrayLike, baseline_scores: ArrayLike
) -> tuple[BoolArray, tuple[FloatArray, FloatArray]]:
    """Returns labels and the scores of system and baseline, or raises when they are no use."""
    is_positive, system = check_labels_and_scores(labels, scores)
    baseline = check_labels_and_scores(labels, baseline_scores)[1]
    if not metrics.is_evaluable(is_positive).any():
        num_tracks, num_labels = is_positive.shape
        raise EvaluationError(
            f"none of the {num_labels} labels has both positives and negatives among the "
            f"{num_tracks} tracks, so the two systems cannot be compared; use more tracks."
        )
    return is_positive, (system, baseline)


def _widening(support: Support) -> float:
    """Returns by how much differences of swapped ranks are widened, see `swapping.py`."""
    size = max(min(support.size, 2 * support.label_size), 2.0)
    return math.sqrt(size / (size - 1))


def judge_difference(
    measured: float,
    swapped: FloatArray,
    support: Support,
    *,
    is_complete: bool,
    is_same: bool,
    step: float = 0.0,
    limit: float = 1.0,
    higher_is_better: bool = True,
) -> Difference:
    """Returns a measured difference with its interval and p-value.

    Args:
        measured: of the full data.
        swapped: float64 (swaps,), differences after swaps.
        support: the number of observations behind it.
        is_complete: whether these are all swaps that there are.
        is_same: whether the systems are the same but for their scale.
        step: half an observation, for the correction for continuity.
        limit: largest possible difference.
        higher_is_better: whether a positive difference is an improvement.
    """
    if support.reason is not None:
        return Difference(measured, NOT_TESTED, math.nan, support.reason, higher_is_better)
    if is_same:
        return Difference(0.0, (0.0, 0.0), 1.0, None, higher_is_better)
    if not len(swapped):
        return Difference(measured, NOT_TESTED, math.nan, None, higher_is_better)
    sizes = np.sort(np.abs(swapped))[::-1]
    added = 0 if is_complete else 1
    total = len(sizes) + added
    hits = np.count_nonzero(sizes >= abs(measured) - TOLERANCE)
    p_value = min(1.0, float(hits + added) / total)
    # The largest difference that would not be significant.
    place = math.ceil(SIGNIFICANCE * total) - added - 1
    inner = float(sizes[min(max(place, 0), len(sizes) - 1)])
    deviation = math.sqrt(float(np.mean(swapped**2)))
    outer = math.hypot(max(inner, t_quantile(support.size - 1) * deviation), step)
    below, above = outer, outer
    if p_value < SIGNIFICANCE:
        below, above = (inner, outer) if measured > 0 else (outer, inner)
    ci = (max(measured - below, -limit), min(measured + above, limit))
    return Difference(measured, ci, p_value, None, higher_is_better)
