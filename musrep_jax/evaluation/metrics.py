"""Tagging metrics in numpy: equal to scikit-learn's, vectorized over labels, and with NaN where a
metric is not defined instead of a silent zero.

All functions take `labels` of zeros and ones and finite `scores`, both (tracks, classes). Scores
need only be ordered: probabilities and logits give the same areas. Tied scores are treated as one
step of the curve, as scikit-learn does, so that the order of the tracks in memory never matters.

Source: Fawcett, "An introduction to ROC analysis", 2006 (area under the ROC curve as the
Mann-Whitney statistic, ties as one half); Manning et al., "Introduction to Information Retrieval",
2008, chapter 8 (average precision, F1, precision at k).
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


class EvaluationError(ValueError):
    """The data cannot be evaluated; the message says why and what to do."""


def check_labels(labels: ArrayLike) -> BoolArray:
    """Returns labels as booleans.

    Args:
        labels: (tracks, classes), every entry 0 or 1.

    Returns:
        bool (tracks, classes).

    Raises:
        EvaluationError: when the array is empty, not of rank 2, or holds another value.
    """
    array = np.asarray(labels)
    if array.ndim != 2 or 0 in array.shape:
        raise EvaluationError(
            f"labels have shape {array.shape}; evaluation needs (tracks, classes) with at least "
            "one track and one class."
        )
    is_positive = array == 1
    is_wrong = ~(is_positive | (array == 0))
    if is_wrong.any():
        track, column = np.argwhere(is_wrong)[0]
        raise EvaluationError(
            f"label {array[track, column]} of track {track}, class {column} is neither 0 nor 1; "
            "evaluate against hard labels (round soft ones first)."
        )
    return is_positive


def check_labels_and_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Returns labels as booleans and scores as float64 after checking both.

    Args:
        labels: (tracks, classes), every entry 0 or 1.
        scores: (tracks, classes), finite, higher means more likely.

    Returns:
        bool (tracks, classes) and float64 (tracks, classes).

    Raises:
        EvaluationError: when shapes differ, a label is not 0 or 1, or a score is not finite.
    """
    is_positive = check_labels(labels)
    score_array = np.asarray(scores, dtype=np.float64)
    if score_array.shape != is_positive.shape:
        raise EvaluationError(
            f"labels have shape {is_positive.shape} but scores {score_array.shape}; both must be "
            "(tracks, classes) of the same data set."
        )
    is_finite = np.isfinite(score_array)
    if not is_finite.all():
        track, column = np.argwhere(~is_finite)[0]
        raise EvaluationError(
            f"score {score_array[track, column]} of track {track}, class {column} is not finite "
            f"({np.count_nonzero(~is_finite)} such scores in all); the model has diverged or its "
            "input was broken."
        )
    return is_positive, score_array


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Tracks sorted by falling score, label by label; all arrays are (tracks, classes).

    Attributes:
        order: row of the track at each rank.
        is_positive: label of the track at each rank.
        start: first rank of the run of tied scores that the rank belongs to.
        end: last rank of that run.
    """

    order: IntArray
    is_positive: BoolArray
    start: IntArray
    end: IntArray


def make_ranking(is_positive: BoolArray, scores: FloatArray) -> Ranking:
    """Returns the ranking that all curve metrics are read from: one sort per label.

    Args:
        is_positive: bool (tracks, classes).
        scores: float64 (tracks, classes), finite.

    Returns:
        A `Ranking`.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    rank = np.arange(len(scores))[:, None]
    is_step = ranked[1:] != ranked[:-1]
    edge = np.ones((1, scores.shape[1]), dtype=bool)
    start = np.maximum.accumulate(np.where(np.concatenate([edge, is_step]), rank, 0), axis=0)
    last = np.where(np.concatenate([is_step, edge]), rank, len(scores))
    end = np.minimum.accumulate(last[::-1], axis=0)[::-1]
    return Ranking(order, np.take_along_axis(is_positive, order, axis=0), start, end)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Returns the area under the ROC curve of every label.

    >>> roc_auc([[0, 1], [0, 1], [1, 1], [1, 1]], [[0.1, 1], [0.4, 2], [0.35, 3], [0.8, 4]])
    array([0.75,  nan])

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        float64 (classes,), in [0, 1]; NaN for a label without positives or without negatives.

    Raises:
        EvaluationError: on bad labels or scores.
    """
    ranking = make_ranking(*check_labels_and_scores(labels, scores))
    positives_before = np.cumsum(ranking.is_positive, axis=0) - ranking.is_positive
    num_positives = np.count_nonzero(ranking.is_positive, axis=0)
    num_negatives = len(ranking.order) - num_positives
    positives_to_end = np.take_along_axis(
        positives_before + ranking.is_positive, ranking.end, axis=0
    )
    negatives_to_end = ranking.end + 1 - positives_to_end
    negatives_before = ranking.start - np.take_along_axis(positives_before, ranking.start, axis=0)
    # Twice the number of negatives that a positive beats, a tie counting one: exact in integers.
    twice_won = 2 * num_negatives - negatives_to_end - negatives_before
    total = np.sum(np.where(ranking.is_positive, twice_won, 0), axis=0)
    return _divide(total, 2 * num_positives * num_negatives)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Returns the average precision (area under the stepwise precision-recall curve) per label.

    >>> average_precision([[0, 0], [0, 0], [1, 0], [1, 0]], [[1, 1], [4, 2], [3, 3], [8, 4]])
    array([0.83333333,        nan])

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        float64 (classes,), in [0, 1]; NaN for a label without positives (scikit-learn says 0
        there, which drags a mean down) and 1 for a label without negatives.

    Raises:
        EvaluationError: on bad labels or scores.
    """
    ranking = make_ranking(*check_labels_and_scores(labels, scores))
    positives_to_end = np.take_along_axis(
        np.cumsum(ranking.is_positive, axis=0), ranking.end, axis=0
    )
    precision = positives_to_end / (ranking.end + 1)
    total = np.sum(np.where(ranking.is_positive, precision, 0.0), axis=0)
    return _divide(total, np.count_nonzero(ranking.is_positive, axis=0))


def is_evaluable(labels: ArrayLike) -> BoolArray:
    """Returns which labels have at least one positive and one negative track.

    >>> is_evaluable([[0, 1, 0], [0, 1, 1]])
    array([False, False,  True])

    Args:
        labels: (tracks, classes), 0 or 1.

    Returns:
        bool (classes,).
    """
    is_positive = check_labels(labels)
    return is_positive.any(axis=0) & ~is_positive.all(axis=0)


def macro_roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the unweighted mean ROC-AUC over the labels that can be evaluated.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        A number in [0, 1], or NaN when no label has both positives and negatives.
    """
    return average_selected(roc_auc(labels, scores), is_evaluable(labels))


def macro_average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the unweighted mean average precision over the labels that can be evaluated.

    The labels are those of `macro_roc_auc`, so that the two means speak of the same labels.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        A number in [0, 1], or NaN when no label has both positives and negatives.
    """
    return average_selected(average_precision(labels, scores), is_evaluable(labels))


def micro_roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the ROC-AUC of all (track, label) pairs pooled; it needs comparable scores.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        A number in [0, 1], or NaN when all pairs are positive or all are negative.
    """
    return float(roc_auc(np.reshape(labels, (-1, 1)), np.reshape(scores, (-1, 1)))[0])


def micro_average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the average precision of all (track, label) pairs pooled.

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.

    Returns:
        A number in [0, 1], or NaN when no pair is positive.
    """
    return float(average_precision(np.reshape(labels, (-1, 1)), np.reshape(scores, (-1, 1)))[0])


def expected_random_average_precision(num_positives: ArrayLike, num_tracks: int) -> FloatArray:
    """Returns the mean average precision of a random order of the tracks.

    It lies above the prevalence, clearly so on small test sets: with 3 positives among 30 tracks
    it is 0.19, not 0.10. With n tracks of which r are positive and H the n-th harmonic number it is
    (H + (r - 1) (n - H) / (n - 1)) / n: a track at rank i is positive with probability r / n, and
    each of the i - 1 before it then with probability (r - 1) / (n - 1).

    >>> expected_random_average_precision([0, 1, 2], 2)
    array([ nan, 0.75, 1.  ])

    Args:
        num_positives: counts (classes,), 0 to `num_tracks`.
        num_tracks: number of tracks.

    Returns:
        float64 (classes,); NaN where there is no positive.
    """
    counts = np.asarray(num_positives, dtype=np.float64)
    harmonic = np.sum(1.0 / np.arange(1, num_tracks + 1))
    expected = (harmonic + (counts - 1) * (num_tracks - harmonic) / max(num_tracks - 1, 1)) / (
        num_tracks
    )
    return np.where(counts > 0, expected, np.nan)


def precision_at_k(relevant: ArrayLike, scores: ArrayLike, k: int) -> FloatArray:
    """Returns the share of relevant items among the k best-scored items of every query.

    Items tied at the edge of the list count with the share of them that fits in: the result is
    the mean over all orders of the tied items.

    >>> precision_at_k([[1, 0, 1, 0]], [[0.9, 0.8, 0.7, 0.1]], k=2)
    array([0.5])

    Args:
        relevant: (queries, items), 0 or 1. For tags of a track the rows are tracks; for tracks
            of a tag pass transposed arrays.
        scores: (queries, items), finite.
        k: length of the list, 1 to items.

    Returns:
        float64 (queries,), in [0, 1].

    Raises:
        EvaluationError: when k is out of range, or on bad labels or scores.
    """
    is_relevant, score_array = check_labels_and_scores(relevant, scores)
    num_items = score_array.shape[1]
    if not 1 <= k <= num_items:
        raise EvaluationError(f"k is {k}; it must lie between 1 and the {num_items} items.")
    edge = np.partition(score_array, num_items - k, axis=1)[:, num_items - k, None]
    is_above, is_tied = score_array > edge, score_array == edge
    share = (k - is_above.sum(axis=1)) / is_tied.sum(axis=1)
    hits = (is_relevant & is_above).sum(axis=1) + share * (is_relevant & is_tied).sum(axis=1)
    return hits / k


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Returns the quotient in float64, NaN where the denominator is zero."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def average_selected(values: FloatArray, is_used: BoolArray) -> float:
    """Returns the mean of the chosen values, NaN when none is chosen.

    Args:
        values: float64 (classes,).
        is_used: bool (classes,).

    Returns:
        The mean.
    """
    return float(np.mean(values[is_used])) if is_used.any() else float("nan")
