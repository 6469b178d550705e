"""Calibration: probabilities that mean what they say, fitted on validation data.

Source: Platt, "Probabilistic outputs for support vector machines", 1999: a logistic function of the
score, fitted by maximum likelihood to smoothed targets. Here the score is the logit of the
probability of a track, so that slope 1 and offset 0 change nothing. Unlike there, the slope is
drawn to 1 as by one observation of variance 1: a few validation tracks do not make it steep.
"""

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.aggregation import sigmoid
from musrep_jax.evaluation.metrics import FloatArray, check_labels_and_scores

_MIN_PROBABILITY = 1e-7
_MAX_NEWTON_STEPS = 50


def fit_calibration(labels: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Returns slope and offset of every label.

    A label without positives or without negatives stays as it is. Where the score says nothing of
    the label, so that the best slope is not positive, the slope stays 1 and the offset brings the
    mean to its frequency: the order of tracks never changes.

    Args:
        labels: (tracks, classes), 0 or 1, of the validation split.
        scores: (tracks, classes), probabilities.

    Returns:
        float64 (classes, 2).

    Raises:
        EvaluationError: on bad labels or scores.
    """
    is_positive, values = check_labels_and_scores(labels, scores)
    x = logit(values)
    return np.array([_fit(x[:, column], is_positive[:, column]) for column in range(x.shape[1])])


def calibrate(scores: ArrayLike, calibration: ArrayLike) -> FloatArray:
    """Returns calibrated probabilities.

    >>> calibrate([0.2], [[1.0, 0.0]]).round(6)
    array([0.2])

    Args:
        scores: (..., classes), probabilities.
        calibration: (classes, 2), from `fit_calibration`.
    """
    slope, offset = np.asarray(calibration, np.float64).T
    return sigmoid(slope * logit(scores) + offset)


def calibration_error(labels: ArrayLike, scores: ArrayLike, num_bins: int = 10) -> float:
    """Returns the expected calibration error: how far probabilities are from frequencies.

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI
    2015, over all pairs of track and label, in bins of equal width.

    >>> calibration_error([[1], [0]], [[0.5], [0.5]])
    0.0

    Args:
        labels: (tracks, classes), 0 or 1.
        scores: (tracks, classes), probabilities.
        num_bins: of [0, 1].
    """
    is_positive, values = check_labels_and_scores(labels, scores)
    truth, guess = is_positive.ravel(), values.ravel()
    bins = np.minimum((guess * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=truth - guess, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(guess))


def logit(probabilities: ArrayLike) -> FloatArray:
    """Returns the logits of probabilities, which are kept 1e-7 away from 0 and 1."""
    values = np.clip(np.asarray(probabilities, np.float64), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.log(values) - np.log1p(-values)


def _fit(x: FloatArray, is_positive: np.ndarray) -> tuple[float, float]:
    num_positive = int(is_positive.sum())
    num_negative = len(x) - num_positive
    if not (num_positive and num_negative):
        return 1.0, 0.0
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2)
    targets = np.where(is_positive, high, low)
    design, start = np.stack([x, np.ones_like(x)], axis=1), np.array([1.0, 0.0])
    slope, offset = _newton(design, targets, start, weight=start)  # of the slope only
    if slope > 0:
        return slope, offset
    (offset,) = _newton(np.ones((len(x), 1)), targets, np.zeros(1), np.zeros(1), base=x)
    return 1.0, offset


def _newton(
    design: FloatArray,
    targets: FloatArray,
    start: FloatArray,
    weight: FloatArray,
    base: FloatArray | float = 0.0,
) -> list[float]:
    """Returns the most probable parameters: Newton's steps, halved until one helps.

    Args:
        design: (tracks, parameters).
        targets: (tracks,), in (0, 1).
        start: (parameters,), which are also those of the prior.
        weight: (parameters,), of the prior: one over its variance.
        base: (tracks,), added to the logits.
    """

    def loss(at: FloatArray) -> float:
        z = design @ at + base
        prior = 0.5 * float(np.sum(weight * (at - start) ** 2))
        return prior + float(np.sum(np.logaddexp(0, z) - targets * z))

    now, best = start, loss(start)
    for _ in range(_MAX_NEWTON_STEPS):
        p = sigmoid(design @ now + base)
        gradient = design.T @ (p - targets) + weight * (now - start)
        curvature = (design.T * (p * (1 - p))) @ design + np.diag(weight + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > 1e-9 and not (found := loss(now - step)) < best:
            step = step / 2
        if np.abs(step).max() <= 1e-9:
            break
        now, best = now - step, found
    return now.tolist()
