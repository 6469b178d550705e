"""Paired comparison of two systems on the same tracks, and correction for many comparisons.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 16 (tests); Davison
and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2 (one is added to both
counts of a p-value); Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    average_over_labels,
    centered_interval,
    resample_metrics,
)
from musrep_jax.evaluation.metrics import (
    BoolArray,
    EvaluationError,
    FloatArray,
    check_labels_and_scores,
)

MIN_EXAMPLES = 6
"""Positives and negatives below which one label is not tested: even if the systems differed the
same way on each of five, a sign test would give p = 2 / 2**5 > 0.05."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much higher one system scores than the other.

    Attributes:
        value: of the full data.
        ci: bounds of the 95 % interval.
        p_value: two-sided, of no difference.
    """

    value: float
    ci: Interval
    p_value: float

    def to_dict(self) -> dict[str, float | list[float]]:
        """Returns plain data: `difference`, `ci` and `p_value`."""
        return {"difference": self.value, "ci": list(self.ci), "p_value": self.p_value}


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """The differences of system minus baseline in both macro metrics."""

    roc_auc: Difference
    pr_auc: Difference

    def to_dict(self) -> dict[str, dict[str, float | list[float]]]:
        """Returns plain data, the field `versus_scratch` of a result."""
        return {"roc_auc": self.roc_auc.to_dict(), "pr_auc": self.pr_auc.to_dict()}


def paired_bootstrap(
    labels: ArrayLike,
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> PairedComparison:
    """Returns how far a system lies above a baseline, both scored on the same tracks.

    The same resamples are drawn for both, so what makes a track easy or hard for both cancels.
    The intervals speak of other test tracks, not of other training runs: for those, train with
    several seeds.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes) of the system, finite.
        baseline_scores: (tracks, classes) of the baseline, finite, same tracks and classes.
        num_resamples: number of resamples.
        seed: of the draws.
        track_groups: see `draw_resample_counts`.

    Returns:
        Differences system minus baseline in macro ROC-AUC and macro average precision.

    Raises:
        EvaluationError: on bad labels or scores, or when no label can be evaluated.
    """
    is_positive, systems = _check_paired_scores(labels, scores, baseline_scores)
    is_used = metrics.is_evaluable(is_positive)
    resampled = [
        average_over_labels(
            resample_metrics(
                is_positive,
                system,
                num_resamples=num_resamples,
                seed=seed,
                track_groups=track_groups,
            ),
            is_used,
        )
        for system in systems
    ]
    differences = []
    for index, per_label in enumerate((metrics.roc_auc, metrics.average_precision)):
        change = per_label(is_positive, systems[0]) - per_label(is_positive, systems[1])
        measured = metrics.average_selected(change, is_used)
        differences.append(_difference(resampled[0][index] - resampled[1][index], measured))
    return PairedComparison(*differences)


def paired_bootstrap_per_label(
    labels: ArrayLike,
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> list[PairedComparison | None]:
    """Returns how far a system lies above a baseline, label by label, on the same tracks.

    The resamples are those of `paired_bootstrap`. Many labels make some p-values small by chance:
    correct them with `apply_holm_correction`. A label with less than `MIN_EXAMPLES` positives or
    negatives has a difference, and no interval and no p-value: resamples of a single positive all
    agree.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes) of the system, finite.
        baseline_scores: (tracks, classes) of the baseline, finite, same tracks and classes.
        num_resamples: number of resamples.
        seed: of the draws.
        track_groups: see `draw_resample_counts`.

    Returns:
        One comparison per label, None for a label without positives or without negatives.

    Raises:
        EvaluationError: on bad labels or scores, or when no label can be evaluated.
    """
    is_positive, systems = _check_paired_scores(labels, scores, baseline_scores)
    ours, theirs = (
        resample_metrics(
            is_positive, system, num_resamples=num_resamples, seed=seed, track_groups=track_groups
        )
        for system in systems
    )
    roc, pr = (
        per_label(is_positive, systems[0]) - per_label(is_positive, systems[1])
        for per_label in (metrics.roc_auc, metrics.average_precision)
    )
    num_positives = is_positive.sum(axis=0)
    is_enough = np.minimum(num_positives, len(is_positive) - num_positives) >= MIN_EXAMPLES
    found: list[PairedComparison | None] = []
    for column, is_used in enumerate(metrics.is_evaluable(is_positive)):
        # Average precision counts where ROC-AUC is defined too, as in the report.
        roc_change = ours.roc_auc[:, column] - theirs.roc_auc[:, column]
        roc_change = np.where(is_enough[column], roc_change, np.nan)
        pr_change = np.where(
            np.isfinite(roc_change), ours.pr_auc[:, column] - theirs.pr_auc[:, column], np.nan
        )
        found.append(
            PairedComparison(
                _difference(roc_change, float(roc[column])),
                _difference(pr_change, float(pr[column])),
            )
            if is_used
            else None
        )
    return found


def compute_two_sided_p_value(differences: FloatArray, measured: float) -> float:
    """Returns how unusual zero is among resampled differences, both directions counted.

    The differences are moved as in `centered_interval`, so that a p-value below 0.05 and an
    interval without zero say the same.

    Args:
        differences: float64 (resamples,); NaN values are left out.
        measured: the difference of the full data.

    Returns:
        A number in (0, 1], at least `2 / (resamples + 1)`; NaN when no value is left.
    """
    finite = differences[np.isfinite(differences)]
    if not len(finite):
        return float("nan")
    moved = finite + (measured - finite.mean())
    # Equal systems differ by rounding only, which must not look like a small but sure difference.
    moved = np.where(np.abs(moved) < 1e-12, 0.0, moved)
    fewer = min(np.count_nonzero(moved <= 0), np.count_nonzero(moved >= 0))
    return float(min(1.0, 2 * (fewer + 1) / (len(finite) + 1)))


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


def _difference(resampled: FloatArray, measured: float) -> Difference:
    """Returns a measured difference with the interval and p-value of its resamples."""
    return Difference(
        measured,
        centered_interval(resampled, measured),
        compute_two_sided_p_value(resampled, measured),
    )
