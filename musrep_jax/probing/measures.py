"""The numbers that a probe is judged by, their intervals, and what blind guesses reach.

All are in [0, 1] and rise with skill, but `log_loss`, which falls. Those that are not defined are
NaN: an area without positives or negatives, the loss of scores that are no probabilities.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation import decisions, metrics
from musrep_jax.evaluation.bootstrap import (
    Interval,
    average_over_labels,
    centered_interval,
    draw_resample_counts,
    metric_interval,
    resample_metrics,
)
from musrep_jax.evaluation.metrics import BoolArray, FloatArray
from musrep_jax.evaluation.support import make_units, support_mean, support_tracks, t_quantile

TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "Macro F1",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log-loss",
}
"""Measure -> its title, in the order of tables."""
_SMALLEST = 1e-15
"""Probability that a loss is cut at, as in scikit-learn for float64."""


def measure(
    targets: ArrayLike,
    scores: FloatArray,
    *,
    is_exclusive: bool,
    thresholds: ArrayLike | None = None,
    are_probabilities: bool = True,
) -> dict[str, float]:
    """Returns the numbers of `TITLES` on some tracks.

    Args:
        targets: (tracks, classes), 0 or 1.
        scores: (tracks, classes), finite.
        is_exclusive: whether every track has exactly one class; the highest score is the decision.
        thresholds: of the decisions of classes that are not exclusive, (classes,).
        are_probabilities: whether the scores have a log-loss.

    Returns:
        Measure -> value. Of exclusive classes, `accuracy` and the log-loss of the right class; of
        others no accuracy, the mean over labels of `balanced_accuracy`, and the log-loss per label.
    """
    held = metrics.check_labels_and_scores(targets, scores)[0]
    guesses = decide(scores, is_exclusive, thresholds)
    ones = np.ones((len(held), 1))
    found = {name: float(values[0]) for name, values in _count(held, guesses, ones).items()}
    if not is_exclusive:
        del found["accuracy"]
    used = metrics.is_evaluable(held)
    found["roc_auc"] = metrics.average_selected(metrics.roc_auc(held, scores), used)
    found["pr_auc"] = metrics.average_selected(metrics.average_precision(held, scores), used)
    found["log_loss"] = float("nan")
    if are_probabilities:
        found["log_loss"] = float(measure_losses(held, scores, is_exclusive).mean())
    return {name: found[name] for name in TITLES if name in found}


def decide(
    scores: FloatArray, is_exclusive: bool, thresholds: ArrayLike | None = None
) -> BoolArray:
    """Returns which classes are said to hold, bool (tracks, classes).

    Args:
        scores: (tracks, classes).
        is_exclusive: the highest score is the decision, the first one on a tie.
        thresholds: (classes,), of classes that are not exclusive; None takes 0.5.
    """
    if is_exclusive:
        return np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    return decisions.predict(scores, 0.5 if thresholds is None else thresholds)


def measure_losses(held: BoolArray, scores: FloatArray, is_exclusive: bool) -> FloatArray:
    """Returns the log-loss of every track, float64 (tracks,).

    Args:
        held: (tracks, classes).
        scores: (tracks, classes), probabilities.
        is_exclusive: the loss of the right class, with probabilities that sum to 1; else the mean
            over labels of both outcomes.
    """
    scores = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    if is_exclusive:
        scores = scores / scores.sum(axis=1, keepdims=True)
        return -np.where(held, np.log(scores), 0).sum(axis=1)
    return -np.where(held, np.log(scores), np.log1p(-scores)).mean(axis=1)


def measure_intervals(
    targets: ArrayLike,
    scores: FloatArray,
    measured: Mapping[str, float],
    *,
    is_exclusive: bool,
    thresholds: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns 95 % intervals by the bootstrap over tracks, or over whole groups of them.

    Args:
        targets: see `measure`.
        scores: see `measure`.
        measured: by `measure`, of these tracks.
        is_exclusive: see `measure`.
        thresholds: see `measure`.
        groups: (tracks,) performers or recordings that are drawn as a whole, or None.
        num_resamples: number of resamples; 0 gives no interval.
        seed: of the draws.

    Returns:
        Measure -> bounds, NaN where too few tracks or groups stand behind it.
    """
    held = metrics.check_labels_and_scores(targets, scores)[0]
    units = make_units(len(held), groups)
    if units.count < 2 or num_resamples < 1:
        return dict.fromkeys(measured, (float("nan"), float("nan")))
    guesses = decide(scores, is_exclusive, thresholds)
    losses = None
    if np.isfinite(measured["log_loss"]):
        losses = measure_losses(held, scores, is_exclusive)
    drawn: dict[str, list[FloatArray]] = {name: [] for name in measured}
    for counts in draw_resample_counts(len(held), num_resamples, seed, groups):
        weights = counts.astype(np.float64)
        for name, values in _count(held, guesses, weights).items():
            if name in drawn:
                drawn[name].append(values)
        if losses is not None:
            drawn["log_loss"].append(losses @ weights / weights.sum(axis=0))
    used = metrics.is_evaluable(held)
    areas = resample_metrics(
        held, scores, num_resamples=num_resamples, seed=seed, track_groups=groups
    )
    drawn["roc_auc"], drawn["pr_auc"] = ([a] for a in average_over_labels(areas, used))
    of_labels, of_tracks = support_mean(held[:, used], units), support_tracks(units)
    bounds = {}
    for name, parts in drawn.items():
        values = np.concatenate([np.empty(0), *parts])
        if name == "log_loss":
            none = (float("nan"), float("nan"))
            is_few = of_tracks.reason is not None
            bounds[name] = none if is_few else centered_interval(values, measured[name])
            continue
        support = of_tracks if name == "accuracy" else of_labels
        bounds[name] = metric_interval(values, measured[name], support)
    return bounds


def average_folds(folds: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float, Interval]]:
    """Returns the mean over folds of every measure, its standard error and a 95 % interval.

    Folds share training examples, so that the true error is larger than the standard error says.

    Args:
        folds: measures of each; a fold in which one is not defined does not count for it.

    Returns:
        Measure -> mean, standard deviation over folds by the root of their number, and the mean
        plus and minus a quantile of Student's t times that; NaN of less than two folds.

    Source: Bengio and Grandvalet, "No unbiased estimator of the variance of K-fold
    cross-validation", JMLR 2004.
    """
    found = {}
    for name in folds[0]:
        values = np.array([fold[name] for fold in folds])
        values = values[np.isfinite(values)]
        mean = float(values.mean()) if len(values) else float("nan")
        error = float("nan")
        if len(values) > 1:
            error = float(values.std(ddof=1) / np.sqrt(len(values)))
        half = t_quantile(len(values) - 1) * error
        low, high = max(0.0, mean - half), mean + half
        if name != "log_loss":
            high = min(1.0, high)
        interval = (low, high) if np.isfinite(error) else (float("nan"), float("nan"))
        found[name] = (mean, error, interval)
    return found


def measure_blind(targets: ArrayLike, *, is_exclusive: bool) -> dict[str, dict[str, float]]:
    """Returns what guesses reach that hear nothing, in expectation.

    Args:
        targets: (tracks, classes), 0 or 1, of the test tracks.
        is_exclusive: see `measure`.

    Returns:
        `chance`: of random scores, of which every class is the decision equally often, or every
        label for as many tracks as have it. `everything`: of always the most frequent class, or of
        every label for every track. The loss is that of the shares of the classes.
    """
    held = metrics.check_labels(targets)
    count, num_classes = held.shape
    share = held.mean(axis=0)
    used = metrics.is_evaluable(held)
    areas = metrics.expected_random_average_precision(held.sum(axis=0), count)
    order = {
        "roc_auc": 0.5 if used.any() else float("nan"),
        "pr_auc": metrics.average_selected(areas, used),
        "log_loss": float(
            measure_losses(held, np.broadcast_to(share, held.shape), is_exclusive).mean()
        ),
    }
    constant = {**order, "pr_auc": metrics.average_selected(share, used)}
    occurs = share > 0
    if is_exclusive:
        recall = 1 / num_classes
        chance = {
            "accuracy": recall,
            "balanced_accuracy": recall,
            "f1_macro": float(np.mean(2 * share * recall / (share + recall))),
        }
        everything = {
            "accuracy": float(share.max()),
            "balanced_accuracy": 1 / int(occurs.sum()),
            "f1_macro": float(2 * share.max() / (1 + share.max()) / num_classes),
        }
    else:
        chance = {"balanced_accuracy": 0.5, "f1_macro": float(share.mean())}
        everything = {"balanced_accuracy": 0.5, "f1_macro": float(np.mean(2 * share / (1 + share)))}
    return {"chance": {**chance, **order}, "everything": {**everything, **constant}}


def _count(held: BoolArray, guesses: BoolArray, weights: FloatArray) -> dict[str, FloatArray]:
    """Returns what follows from counts of right and wrong decisions, one value per resample.

    Args:
        held: (tracks, classes).
        guesses: (tracks, classes).
        weights: (tracks, resamples), how often each track occurs.
    """
    right = (held & guesses).T.astype(np.float64) @ weights
    support = held.T.astype(np.float64) @ weights
    guessed = guesses.T.astype(np.float64) @ weights
    total = weights.sum(axis=0)
    recall = right / np.where(support > 0, support, 1)
    if (held.sum(axis=1) == 1).all() and (guesses.sum(axis=1) == 1).all():
        occurs = support > 0
        balanced = np.where(occurs, recall, 0).sum(axis=0) / occurs.sum(axis=0)
    else:
        without = total - support
        rejected = (without - guessed + right) / np.where(without > 0, without, 1)
        is_defined = (support > 0) & (without > 0)
        both = np.where(is_defined, (recall + rejected) / 2, 0).sum(axis=0)
        number = is_defined.sum(axis=0)
        balanced = np.where(number > 0, both / np.where(number > 0, number, 1), np.nan)
    either = support + guessed
    f1 = np.where(either > 0, 2 * right / np.where(either > 0, either, 1), 0).mean(axis=0)
    return {"accuracy": right.sum(axis=0) / total, "balanced_accuracy": balanced, "f1_macro": f1}
