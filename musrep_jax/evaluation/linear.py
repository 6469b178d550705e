"""Linear classifiers by ridge and logistic regression, with a strength chosen on validation.

They are what every trained model is held against, and what suits a frozen backbone on little data.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from musrep_jax.evaluation.metrics import FloatArray

RIDGE_STRENGTHS = tuple(10.0**power for power in range(-3, 4))
LOGISTIC_STRENGTHS = tuple(10.0**power for power in range(-4, 2))
SHARPNESS = tuple(2.0**power for power in range(6))
"""Factors of the values of a ridge regression before a softmax."""
_MAX_ITERATIONS = 200


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear classifier.

    Attributes:
        name: "ridge" or "logistic".
        strength: of its L2 penalty, per example.
        weights: float64 (features, classes).
        bias: float64 (classes,).
    """

    name: str
    strength: float
    weights: FloatArray
    bias: FloatArray

    def logits(self, features: FloatArray) -> FloatArray:
        """Returns the logits of examples, float64 (examples, classes).

        Args:
            features: (examples, features).
        """
        return features @ self.weights + self.bias

    def scale(self, factor: float) -> "Linear":
        """Returns the classifier whose logits are `factor` times as large."""
        return dataclasses.replace(self, weights=factor * self.weights, bias=factor * self.bias)


def fit_ridge(
    features: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    strengths: Sequence[float] = RIDGE_STRENGTHS,
) -> Iterator[Linear]:
    """Yields the ridge regressions of targets coded -1 and 1, one per strength.

    Args:
        features: (examples, features), standardized.
        targets: (examples, classes), 0 to 1.
        weights: (examples,), how much each counts; they sum to 1.
        strengths: the penalty is `strength * sum(weights ** 2)` beside the weighted mean square; of
            0, the slopes of the least norm where several fit alike.

    Yields:
        Classifiers whose logits are the regression's values.
    """
    coded = 2.0 * np.asarray(targets, np.float64) - 1.0
    center, level = weights @ features, weights @ coded
    root = np.sqrt(weights)[:, None]
    if len(features) > 2 * features.shape[1] and min(strengths) > 0:
        # Of many examples their products suffice, for a penalty far above what rounding takes.
        scaled = root * (features - center)
        squares, directions = np.linalg.eigh(scaled.T @ scaled)
        projected = directions.T @ (scaled.T @ (root * (coded - level)))
        for strength in strengths:
            slopes = directions @ (projected / (np.maximum(squares, 0) + strength)[:, None])
            yield Linear("ridge", strength, slopes, level - center @ slopes)
        return
    left, values, right = np.linalg.svd(root * (features - center), full_matrices=False)
    projected = left.T @ (root * (coded - level))
    has_direction = values > np.finfo(np.float64).eps * max(features.shape) * values.max(initial=0)
    for strength in strengths:
        gains = np.where(has_direction, values, 0) / np.where(
            has_direction, values**2 + strength, 1
        )
        slopes = right.T @ (gains[:, None] * projected)
        yield Linear("ridge", strength, slopes, level - center @ slopes)


def fit_logistic(
    features: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    strengths: Sequence[float] = LOGISTIC_STRENGTHS,
    *,
    is_exclusive: bool = False,
) -> Iterator[Linear]:
    """Yields logistic regressions, one per strength, the strongest penalty first.

    Args:
        features: (examples, features), standardized.
        targets: (examples, classes), 0 to 1; rows sum to 1 for exclusive classes.
        weights: (examples,), how much each counts; they sum to 1. Or (examples, classes), where
            each class has its own.
        strengths: the penalty is `strength / 2 * sum(weights ** 2)` beside the weighted mean loss.
        is_exclusive: one multinomial regression instead of one regression per class; then all
            classes have the same weights.

    Yields:
        Classifiers for a sigmoid, or for a softmax when classes are exclusive.
    """
    from scipy.optimize import minimize

    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    shape = (features.shape[1] + 1, targets.shape[1])
    parameters = np.zeros(shape)
    weights = weights[:, None] if weights.ndim == 1 else weights
    if not is_exclusive:  # each class starts at its own frequency
        frequency = np.clip((weights * targets).sum(axis=0), 1e-4, 1 - 1e-4)
        parameters[-1] = np.log(frequency / (1 - frequency))

    def loss(flat: FloatArray, strength: float) -> tuple[float, FloatArray]:
        matrix = flat.reshape(shape)
        logits = features @ matrix[:-1] + matrix[-1]
        if is_exclusive:
            shifted = logits - logits.max(axis=1, keepdims=True)
            total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            losses, guesses = (total - shifted) * targets, np.exp(shifted - total)
        else:
            losses = np.logaddexp(0, logits) - targets * logits
            guesses = 0.5 * (1 + np.tanh(0.5 * logits))
        errors = weights * (guesses - targets)
        gradient = np.concatenate([features.T @ errors, errors.sum(axis=0, keepdims=True)])
        gradient[:-1] += strength * matrix[:-1]
        value = float((weights * losses).sum() + 0.5 * strength * (matrix[:-1] ** 2).sum())
        return value, gradient.ravel()

    for strength in sorted(strengths, reverse=True):
        found = minimize(
            loss, parameters.ravel(), args=(strength,), jac=True, method="L-BFGS-B",
            options={"maxiter": _MAX_ITERATIONS},
        )  # fmt: skip
        parameters = found.x.reshape(shape)  # the next one, weaker, goes on from there
        yield Linear("logistic", strength, parameters[:-1], parameters[-1])


def list_linear(
    features: FloatArray, targets: FloatArray, weights: FloatArray, *, is_exclusive: bool = False
) -> list[Linear]:
    """Returns logistic and ridge regressions of all strengths, always in the same order.

    Args:
        features: (examples, features), standardized.
        targets: (examples, classes), 0 to 1.
        weights: (examples,), how much each counts; they sum to 1.
        is_exclusive: whether each example is of exactly one class; then every ridge regression is
            there with all factors of `SHARPNESS`.
    """
    logistic = list(fit_logistic(features, targets, weights, is_exclusive=is_exclusive))
    ridges = fit_ridge(features, targets, weights)
    if not is_exclusive:
        return [*logistic, *ridges]
    return [*logistic, *(ridge.scale(factor) for ridge in ridges for factor in SHARPNESS)]


def choose_linear(
    features: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    score: Callable[[Linear], tuple[float, float]],
    *,
    is_exclusive: bool = False,
) -> Linear:
    """Returns the best of ridge and logistic regressions of all strengths.

    Args:
        features: (examples, features), standardized.
        targets: (examples, classes), 0 to 1.
        weights: (examples,), how much each counts; they sum to 1.
        score: of a classifier on validation data: its metric, and what decides between equal
            metrics, such as the negative loss. The largest is the best, of equals the first: the
            stronger penalty of a logistic regression. NaN beats nothing.
        is_exclusive: whether each example is of exactly one class. The values of a ridge
            regression, which lie around -1 and 1, are then multiplied by what makes the second
            number of the score largest: for a softmax they are all nearly the same.
    """
    candidates = list(fit_logistic(features, targets, weights, is_exclusive=is_exclusive))
    for ridge in fit_ridge(features, targets, weights):
        if is_exclusive:
            ridge = max(map(ridge.scale, SHARPNESS), key=lambda one: _rank(score(one))[1])
        candidates.append(ridge)
    scores = [_rank(score(candidate)) for candidate in candidates]
    return candidates[max(range(len(scores)), key=scores.__getitem__)]


def _rank(score: tuple[float, float]) -> tuple[float, float]:
    """Returns a score in which NaN is the lowest."""
    metric, other = (-math.inf if math.isnan(value) else value for value in score)
    return metric, other
