"""Bootstrap intervals over tracks, or over whole groups of tracks.

A resample of n tracks is a vector of n counts that sum to n. ROC-AUC and average precision with
counts as weights equal the metrics of the resampled data, ties included, so the tracks are sorted
once per label and all resamples are computed together.

A label that has lost all its positives or all its negatives in a resample is left out of that
resample's mean, just as it is left out of the mean of the full data.

Resamples say how much a metric varies; the interval itself is Wilson's score interval for as many
independent observations as would vary as much, with a quantile of Student's t. It stays in [0, 1],
is longer towards the middle, and has a width at 1.000, where all resamples agree however few tracks
there are: near the ends, where few tracks are out of order, the variance of the resamples gives way
to that of one observation for each track (or group) of the rarer class, which bounds it. It covers
the expected value at the same number of tracks in 94 to 99 % of simulated cases
(`docs/statistics.md`, `benchmarks/intervals.py`). Other methods are `centred` (percentiles moved so
that the mean of the resamples lies on the measured value) and `percentile`; near 1.000 these cover
as little as a third.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Wilson, "Probable inference,
the law of succession, and statistical inference", 1927; Korn and Graubard, "Confidence intervals
for proportions with small expected number of positive counts estimated from survey data", 1998
(effective number of observations, Student's t); Birnbaum and Klose, "Bounds for the variance of the
Mann-Whitney statistic", 1957 (one observation for each member of the rarer class); Field and Welsh,
"Bootstrapping clustered data", 2007 (resampling whole groups).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musrep_jax.evaluation.metrics import (
    BoolArray,
    EvaluationError,
    FloatArray,
    check_labels_and_scores,
    is_evaluable,
    macro_average_precision,
    macro_roc_auc,
    make_ranking,
)
from musrep_jax.evaluation.support import (
    Support,
    make_units,
    support_mean,
    support_tracks,
    t_quantile,
)
from musrep_jax.evaluation.weighted import compute_weighted_areas

NUM_RESAMPLES = 1000
LEVEL = 0.95
INTERVAL_METHODS = ("score", "centred", "percentile")
# Entries of one block of counts: the working memory is some ten arrays of this size.
BLOCK_ENTRIES = 2**19

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Resamples:
    """Both metrics of every label in every resample, NaN where not defined.

    Attributes:
        roc_auc: float64 (resamples, classes).
        pr_auc: float64 (resamples, classes); defined where ROC-AUC is.
    """

    roc_auc: FloatArray
    pr_auc: FloatArray


def draw_resample_counts(
    num_tracks: int,
    num_resamples: int,
    seed: int,
    track_groups: ArrayLike | None = None,
    block_entries: int = BLOCK_ENTRIES,
) -> Iterator[NDArray[np.int32]]:
    """Yields blocks of resamples: how often each track occurs in each.

    The draws do not depend on the size of the blocks.

    Args:
        num_tracks: number of tracks.
        num_resamples: number of resamples over all blocks.
        seed: of the random draws.
        track_groups: (tracks,) names or numbers of groups (performers, albums) that are drawn as
            a whole, or None to draw tracks one by one.
        block_entries: largest number of counts in one block.

    Yields:
        int32 (tracks, resamples of this block); each column sums to `num_tracks` unless groups
        are drawn.

    Raises:
        EvaluationError: when `track_groups` has the wrong length.
    """
    units = make_units(num_tracks, track_groups)
    num_units = units.count
    rng = np.random.default_rng(seed)
    block = max(1, block_entries // num_tracks)
    for first in range(0, num_resamples, block):
        size = min(block, num_resamples - first)
        drawn = rng.integers(0, num_units, size=(size, num_units))
        flat = drawn * size + np.arange(size)[:, None]
        counts = np.bincount(flat.ravel(), minlength=num_units * size).astype(np.int32)
        counts = counts.reshape(num_units, size)
        yield counts[units.index] if units.are_groups else counts


def resample_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
) -> Resamples:
    """Returns both metrics of every label in every resample.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.
        num_resamples: number of resamples.
        seed: of the draws; the same seed and number of tracks give the same resamples, which is
            what pairs two systems.
        track_groups: see `draw_resample_counts`.

    Returns:
        A `Resamples`; without a row when all tracks are of one group.

    Raises:
        EvaluationError: on bad labels or scores.
    """
    is_positive, score_array = check_labels_and_scores(labels, scores)
    ranking = make_ranking(is_positive, score_array)
    num_tracks, num_classes = score_array.shape
    if make_units(num_tracks, track_groups).count < 2:
        num_resamples = 0
    roc = np.empty((num_resamples, num_classes))
    pr = np.empty((num_resamples, num_classes))
    if not num_resamples:
        return Resamples(roc, pr)
    first = 0
    for counts in draw_resample_counts(num_tracks, num_resamples, seed, track_groups):
        rows = slice(first, first + counts.shape[1])
        first = rows.stop
        for column in range(num_classes):
            roc[rows, column], pr[rows, column] = compute_weighted_areas(ranking, column, counts)
    return Resamples(roc, pr)


def average_over_labels(
    resamples: Resamples, is_used: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Returns the macro metrics of every resample.

    Args:
        resamples: of all labels.
        is_used: bool (classes,), the labels of the mean; None takes all.

    Returns:
        Macro ROC-AUC and macro average precision, float64 (resamples,) each, over the labels with
        positives and negatives in that resample; NaN where there is none.
    """
    chosen = slice(None) if is_used is None else is_used
    roc, pr = resamples.roc_auc[:, chosen], resamples.pr_auc[:, chosen]
    is_defined = np.isfinite(roc)
    num_defined = is_defined.sum(axis=1)
    divisor = np.where(num_defined > 0, num_defined, np.nan)
    return (
        np.where(is_defined, roc, 0.0).sum(axis=1) / divisor,
        np.where(is_defined, pr, 0.0).sum(axis=1) / divisor,
    )


def percentile_interval(values: FloatArray, level: float = LEVEL) -> Interval:
    """Returns the interval that holds the middle share of the resampled values.

    Args:
        values: float64 (resamples,); NaN values are left out.
        level: share between 0 and 1.

    Returns:
        Lower and upper bound, NaN when no value is left.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def centered_interval(values: FloatArray, measured: float, level: float = LEVEL) -> Interval:
    """Returns the percentile interval moved by the bootstrap's own estimate of the bias.

    Args:
        values: float64 (resamples,); NaN values are left out.
        measured: the value of the full data, which always lies in the interval.
        level: share between 0 and 1.

    Returns:
        Lower and upper bound, NaN when no value is left. They are not cut to the metric's range.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = percentile_interval(finite, level)
    shift = measured - float(finite.mean())
    return min(low + shift, measured), max(high + shift, measured)


def score_interval(values: FloatArray, measured: float, support: Support) -> Interval:
    """Returns Wilson's score interval for as many observations as vary like the resamples.

    Args:
        values: float64 (resamples,); NaN values are left out.
        measured: the value of the full data, in [0, 1].
        support: the number of observations behind it.

    Returns:
        Lower and upper bound within [0, 1], NaN when less than two values are left.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or not np.isfinite(measured):
        return float("nan"), float("nan")
    size, spread = max(support.size, 2.0), measured * (1 - measured)
    # How far the resamples are trusted: not at 0 and 1, where they agree whatever their number.
    evidence = (4 * size * spread) ** 2
    trust = evidence / (evidence + 1)
    variance = float(finite.var(ddof=1)) * size / (size - 1)
    per_observation = (1 - trust) / size + (trust * variance / spread if spread > 0 else 0.0)
    return _solve_score_bounds(measured, t_quantile(size - 1) ** 2 * per_observation)


def share_interval(share: float, size: float) -> Interval:
    """Returns Wilson's 95 % score interval of a share of independent observations.

    >>> [round(bound, 2) for bound in share_interval(4 / 5, 5)]
    [0.26, 0.98]

    Args:
        share: of observations that hold, in [0, 1].
        size: number of observations; of fewer than two the interval is [0, 1].

    Returns:
        Lower and upper bound within [0, 1], with a quantile of Student's t as in `score_interval`.
    """
    if size < 2:
        return 0.0, 1.0
    return _solve_score_bounds(share, t_quantile(size - 1) ** 2 / size)


def _solve_score_bounds(measured: float, square: float) -> Interval:
    """Returns the values from which a measured one is a quantile away.

    Args:
        measured: in [0, 1].
        square: of the quantile, over the number of observations.
    """
    spread = measured * (1 - measured)
    middle = (measured + square / 2) / (1 + square)
    half = np.sqrt(square * spread + square**2 / 4) / (1 + square)
    low, high = float(middle - half), float(middle + half)
    return min(max(low, 0.0), measured), max(min(high, 1.0), measured)


def metric_interval(
    values: FloatArray, measured: float, support: Support, method: str = "score"
) -> Interval:
    """Returns the 95 % interval of a metric that lies between 0 and 1.

    Args:
        values: float64 (resamples,); NaN values are left out.
        measured: the value of the full data.
        support: the observations behind it; without enough there is no interval.
        method: `score`, `centred` or `percentile`, see the top of this file.

    Returns:
        Lower and upper bound, NaN when no value is left or `support` has a reason.

    Raises:
        EvaluationError: when the method is not known.
    """
    if method not in INTERVAL_METHODS:
        raise EvaluationError(
            f"interval method {method!r} is not known; choose one of {', '.join(INTERVAL_METHODS)}."
        )
    if support.reason is not None:
        return float("nan"), float("nan")
    if method == "score":
        return score_interval(values, measured, support)
    if method == "percentile":
        return percentile_interval(values)
    low, high = centered_interval(values, measured)
    return max(low, 0.0), min(high, 1.0)


def bootstrap_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    track_groups: ArrayLike | None = None,
    method: str = "score",
) -> dict[str, Interval]:
    """Returns 95 % intervals of macro ROC-AUC and macro average precision.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.
        num_resamples: number of resamples.
        seed: of the draws.
        track_groups: see `draw_resample_counts`.
        method: `score`, `centred` or `percentile`, see the top of this file.

    Returns:
        `roc_auc` and `pr_auc`: lower and upper bound, NaN when too few tracks or groups stand
        behind them, see `support.support_mean`.
    """
    is_positive = check_labels_and_scores(labels, scores)[0]
    units = make_units(len(is_positive), track_groups)
    support = support_mean(is_positive[:, is_evaluable(is_positive)], units)
    resamples = resample_metrics(
        labels, scores, num_resamples=num_resamples, seed=seed, track_groups=track_groups
    )
    roc, pr = average_over_labels(resamples)
    return {
        "roc_auc": metric_interval(roc, macro_roc_auc(labels, scores), support, method),
        "pr_auc": metric_interval(pr, macro_average_precision(labels, scores), support, method),
    }


def bootstrap_mean(
    values: FloatArray, track_groups: ArrayLike | None = None, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, Interval | None]:
    """Returns the mean over tracks and its 95 % interval, None of too few tracks or groups.

    Args:
        values: (tracks,), finite.
        track_groups: (tracks,) groups that are drawn as a whole, or None.
        num_resamples: number of resamples; 0 for no interval.
    """
    measured = float(values.mean()) if len(values) else float("nan")
    if not len(values):
        return measured, None
    parts = [
        values @ counts / counts.sum(axis=0)
        for counts in draw_resample_counts(len(values), num_resamples, 0, track_groups)
    ]
    units = make_units(len(values), track_groups)
    resampled = np.concatenate([np.empty(0), *parts])
    low, high = metric_interval(resampled, measured, support_tracks(units))
    return measured, (low, high) if np.isfinite(low) else None
