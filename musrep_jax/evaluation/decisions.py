"""Metrics of hard decisions: F1 at a threshold, thresholds fitted on validation data, and
accuracies of tasks with one label per track.

Source: Manning et al., "Introduction to Information Retrieval", 2008, chapters 8 and 13; Brodersen
et al., "The balanced accuracy and its posterior distribution", 2010. The published evaluation of
the cross-cultural tagging paper decides at 0.5, where rare labels are hardly ever predicted;
`fit_thresholds` is the remedy.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.bootstrap import draw_resample_counts, metric_interval
from musrep_jax.evaluation.metrics import (
    BoolArray,
    EvaluationError,
    FloatArray,
    IntArray,
    check_labels,
    check_labels_and_scores,
    make_ranking,
    roc_auc,
)
from musrep_jax.evaluation.support import make_units, support_mean, support_tracks

DEFAULT_THRESHOLD = 0.5
_ONE_SIDED_Z = 1.6449  # of a normal distribution, beyond which 5 % lie


def predict(scores: ArrayLike, thresholds: ArrayLike = DEFAULT_THRESHOLD) -> BoolArray:
    """Returns which labels are predicted: those with a score above the threshold.

    >>> predict([[0.5, 0.6]])
    array([[False,  True]])

    Args:
        scores: (tracks, classes).
        thresholds: one number, or (classes,). A score equal to its threshold is not a prediction,
            as in the published evaluation, which rounds halves to zero.

    Returns:
        bool (tracks, classes).
    """
    return np.asarray(scores, dtype=np.float64) > np.asarray(thresholds, dtype=np.float64)


def choose_tags(
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    exclusive_groups: Iterable[Sequence[int]] = (),
) -> BoolArray:
    """Returns the labels to show: those above their threshold, one of an exclusive group at most.

    >>> choose_tags([[0.7, 0.6, 0.9]], 0.5, [[0, 1]])
    array([[ True, False,  True]])

    Args:
        probabilities: (tracks, classes), calibrated, so that those of different labels compare.
        thresholds: one number, or (classes,).
        exclusive_groups: columns of labels of which a track has one; of these only the most
            probable can be shown, the first one on a tie.

    Returns:
        bool (tracks, classes).
    """
    values = np.asarray(probabilities, dtype=np.float64)
    is_tag = predict(values, thresholds)
    for group in exclusive_groups:
        columns = np.asarray(group)
        best = columns[values[:, columns].argmax(axis=1)]
        is_tag[:, columns] &= columns == best[:, None]
    return is_tag


def fit_thresholds(
    labels: ArrayLike, scores: ArrayLike, default: float = DEFAULT_THRESHOLD
) -> FloatArray:
    """Returns for every label the threshold with the best F1, to be fitted on validation data.

    The threshold lies midway between two neighboring scores. Among equally good ones the highest
    is taken, which predicts the fewest tracks. Two rules keep a weak model from saying yes to
    everything, where F1 alone would have it:

    - no label is predicted for more of these tracks than have it;
    - a label whose scores do not rank its tracks above the others better than chance (one-sided
      Mann-Whitney test, p >= 0.05) is not predicted below `default` either.

    >>> fit_thresholds([[1], [1], [1], [0], [0], [0]], [[0.9], [0.5], [0.25], [0.125], [0.1], [0]])
    array([0.1875])

    Args:
        labels: (tracks, classes), 0 or 1, of the validation split.
        scores: (tracks, classes), finite, of the validation split.
        default: threshold of a label without positives or without negatives, and the lowest one of
            a label that the scores are not shown to rank.

    Returns:
        float64 (classes,).

    Raises:
        EvaluationError: on bad labels or scores.
    """
    is_positive, score_array = check_labels_and_scores(labels, scores)
    ranking = make_ranking(is_positive, score_array)
    num_tracks, num_classes = score_array.shape
    ranked = np.take_along_axis(score_array, ranking.order, axis=0)
    num_positives = is_positive.sum(axis=0)
    num_predicted = np.arange(1, num_tracks + 1)[:, None]
    f1 = 2 * np.cumsum(ranking.is_positive, axis=0) / (num_predicted + num_positives)
    # A threshold cannot separate tied scores: only the last rank of a run is possible.
    is_possible = (ranking.end == num_predicted - 1) & (num_predicted <= num_positives)
    f1 = np.where(is_possible, f1, -1.0)
    best = np.argmax(f1, axis=0)
    columns = np.arange(num_classes)
    above = ranked[best, columns]
    is_last = best == num_tracks - 1
    below = ranked[np.minimum(best + 1, num_tracks - 1), columns]
    below = np.where(is_last, np.nextafter(above, -np.inf), below)
    middle = below + (above - below) / 2
    # Between two neighboring floating-point numbers the middle rounds to one of them.
    middle = np.where(middle < above, middle, below)
    # Where more tracks are tied at the top than have the label, none is predicted.
    fitted = np.where(is_possible.any(axis=0), middle, ranked[0])
    is_fitted = (num_positives > 0) & (num_positives < num_tracks)
    is_shown = _ranks_above_chance(is_positive, score_array)
    fitted = np.where(is_shown, fitted, np.maximum(fitted, default))
    return np.where(is_fitted, fitted, default)


def f1_scores(labels: ArrayLike, predictions: ArrayLike) -> dict[str, float | FloatArray]:
    """Returns F1 per label and averaged in the four customary ways.

    >>> f1_scores([[1, 0], [1, 1]], [[1, 0], [0, 1]])["per_label"]
    array([0.66666667, 1.        ])

    Args:
        labels: (tracks, classes), 0 or 1.
        predictions: (tracks, classes), 0 or 1, for example from `predict`.

    Returns:
        `per_label` float64 (classes,), `macro` (mean over labels), `micro` (all pairs pooled),
        `weighted` (mean over labels weighted by support) and `samples` (mean over tracks), all F1;
        `precision` and `recall` float64 (classes,): of the tracks that get a label, the share that
        have it, and of those that have it, the share that get it. As in scikit-learn with
        `zero_division=0`, all are 0 where nothing is positive or predicted.

    Raises:
        EvaluationError: on bad labels or predictions.
    """
    truth, guess = check_labels(labels), check_labels(predictions)
    if truth.shape != guess.shape:
        raise EvaluationError(
            f"labels have shape {truth.shape} but predictions {guess.shape}; they must agree."
        )
    per_label = _f1(truth, guess, axis=0)
    support, hits = truth.sum(axis=0), (truth & guess).sum(axis=0)
    return {
        "per_label": per_label,
        "precision": hits / np.maximum(guess.sum(axis=0), 1),
        "recall": hits / np.maximum(support, 1),
        "macro": float(per_label.mean()),
        "micro": float(_f1(truth, guess, axis=None)),
        "weighted": float(np.sum(per_label * support) / max(support.sum(), 1)),
        "samples": float(_f1(truth, guess, axis=1).mean()),
    }


def has_one_label_per_track(labels: ArrayLike) -> bool:
    """Returns whether every track has exactly one label, so that accuracy makes sense.

    >>> has_one_label_per_track([[1, 0], [0, 1]]), has_one_label_per_track([[1, 1], [0, 1]])
    (True, False)

    Args:
        labels: (tracks, classes), 0 or 1.

    Returns:
        True when each row has exactly one 1 and there are at least two classes.
    """
    is_positive = check_labels(labels)
    return is_positive.shape[1] > 1 and bool(np.all(is_positive.sum(axis=1) == 1))


def confusion_matrix(labels: ArrayLike, scores: ArrayLike) -> IntArray:
    """Returns how many tracks of each class were taken for each class.

    >>> confusion_matrix([[1, 0], [1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.3], [0.1, 0.2]])
    array([[1, 1],
           [0, 1]])

    Args:
        labels: (tracks, classes) with exactly one 1 per row.
        scores: (tracks, classes), finite; the highest score of a row is the decision, the first
            one on a tie.

    Returns:
        int64 (classes, classes): rows are true classes, columns decisions.

    Raises:
        EvaluationError: when a track has no label or several, or on bad scores.
    """
    is_positive, score_array = check_labels_and_scores(labels, scores)
    counts = is_positive.sum(axis=1)
    if np.any(counts != 1):
        track = int(np.flatnonzero(counts != 1)[0])
        raise EvaluationError(
            f"track {track} has {counts[track]} labels; accuracy needs exactly one per track."
        )
    num_classes = is_positive.shape[1]
    flat = is_positive.argmax(axis=1) * num_classes + score_array.argmax(axis=1)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracies(confusion: ArrayLike) -> Mapping[str, float]:
    """Returns accuracy and balanced accuracy, with what the best blind guess would reach.

    >>> accuracies([[3, 1], [1, 1]])["balanced_accuracy"]
    0.625

    Args:
        confusion: (classes, classes) counts, rows are true classes.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall over the classes that occur;
        `majority_accuracy`, of always answering the commonest class; `chance_balanced_accuracy`,
        one over the number of classes that occur.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    support = counts.sum(axis=1)
    is_present = support > 0
    recall = np.diag(counts)[is_present] / support[is_present]
    return {
        "accuracy": float(np.trace(counts) / counts.sum()),
        "balanced_accuracy": float(recall.mean()),
        "majority_accuracy": float(support.max() / counts.sum()),
        "chance_balanced_accuracy": float(1 / np.count_nonzero(is_present)),
    }


def make_single_label_report(
    labels: ArrayLike,
    scores: ArrayLike,
    names: Sequence[str],
    num_bootstrap: int,
    seed: int,
    track_groups: ArrayLike | None = None,
) -> dict[str, Any]:
    """Returns accuracies of a set of labels of which every track has one, with intervals.

    Args:
        labels: (tracks, classes) with exactly one 1 per row.
        scores: (tracks, classes), finite.
        names: of the classes.
        num_bootstrap: number of resamples.
        seed: of the resamples.
        track_groups: see `bootstrap.draw_resample_counts`.

    Returns:
        The entries of `accuracies`, `accuracy_ci` and `balanced_accuracy_ci` (95 % intervals),
        `accuracy_ci_reason` and `balanced_accuracy_ci_reason` (why there is none, or None),
        `labels` (the names) and `confusion`, int64 (classes, classes).

    Raises:
        EvaluationError: when a track has no label or several, or on bad scores.
    """
    is_positive, score_array = check_labels_and_scores(labels, scores)
    confusion = confusion_matrix(is_positive, score_array)
    result: dict[str, Any] = dict(accuracies(confusion))
    is_right = is_positive[np.arange(len(score_array)), score_array.argmax(axis=1)]
    accuracy, balanced = [], []
    units = make_units(len(score_array), track_groups)
    num_resamples = num_bootstrap if units.count > 1 else 0
    for counts in draw_resample_counts(len(score_array), num_resamples, seed, track_groups):
        weights = counts.astype(np.float64)
        support = is_positive.T.astype(np.float64) @ weights
        right = (is_positive & is_right[:, None]).T.astype(np.float64) @ weights
        accuracy.append(right.sum(axis=0) / support.sum(axis=0))
        recall = right / np.maximum(support, 1)
        balanced.append(recall.sum(axis=0) / np.count_nonzero(support, axis=0))
    occurring = is_positive[:, is_positive.any(axis=0)]
    for metric, values, support in (
        ("accuracy", accuracy, support_tracks(units)),
        ("balanced_accuracy", balanced, support_mean(occurring, units)),
    ):
        resampled = np.concatenate([np.empty(0), *values])
        result[f"{metric}_ci"] = metric_interval(resampled, result[metric], support)
        result[f"{metric}_ci_reason"] = support.reason
    return {**result, "labels": list(names), "confusion": confusion}


def _f1(truth: BoolArray, guess: BoolArray, axis: int | None) -> FloatArray:
    """Returns F1 along an axis, 0 where there is neither a positive nor a prediction."""
    total = np.sum(truth, axis=axis) + np.sum(guess, axis=axis)
    return 2 * np.sum(truth & guess, axis=axis) / np.maximum(total, 1)


def _ranks_above_chance(is_positive: BoolArray, scores: FloatArray) -> BoolArray:
    """Returns for which labels the scores rank positives above negatives better than chance.

    Source: Mann and Whitney, "On a test of whether one of two random variables is stochastically
    larger than the other", 1947: one-sided, normal approximation with the variance of ties.

    Args:
        is_positive: bool (tracks, classes).
        scores: float64 (tracks, classes).
    """
    num_tracks = len(scores)
    num_positives = is_positive.sum(axis=0)
    ties = np.array([np.sum(np.unique(x, return_counts=True)[1] ** 3.0) for x in scores.T])
    spread = (num_tracks**3 - ties) / np.maximum(num_tracks * (num_tracks - 1), 1)
    pairs = np.maximum(num_positives * (num_tracks - num_positives), 1)
    deviation = np.sqrt(spread / (12 * pairs))
    excess = np.nan_to_num(roc_auc(is_positive, scores) - 0.5)
    return excess > _ONE_SIDED_Z * deviation
