"""Linear models where validation has few groups: judged by folds over all known groups.

One performer or instrument says little of the next. Where validation tracks are of few groups, kind
and penalty are those that do best on folds of the training and validation tracks, each fitted
without the groups that it is judged by; so are the features, see `choice`. The test tracks choose
nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np

from musrep_jax.evaluation.aggregation import aggregate_tracks
from musrep_jax.evaluation.linear import Linear, list_linear
from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.probing.folds import make_folds

MIN_GROUPS = 5
"""Groups of validation tracks from which on these alone choose."""
MAX_FOLDS, MIN_FOLDS = 5, 3


def need_folds(training: Sequence[str], validation: Sequence[str]) -> bool:
    """Returns whether penalties are chosen by folds: validation has few groups, all together not.

    Args:
        training: (tracks,), the group of each training track.
        validation: the same of validation.
    """
    is_few = len(set(validation)) < MIN_GROUPS
    return is_few and len({*training, *validation}) >= MIN_FOLDS


def weigh_rows(owner: np.ndarray) -> np.ndarray:
    """Returns how much each row counts: every track alike, however many rows it has; sums to 1.

    Args:
        owner: (rows,), the track of each.
    """
    counts = np.bincount(owner)
    return 1.0 / (counts[owner] * np.count_nonzero(counts))


def choose_by_folds(
    features: FloatArray,
    owner: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    standardize: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], FloatArray]],
    score: Callable[[np.ndarray, np.ndarray], float],
    *,
    how: str,
    output: str,
) -> tuple[int, FloatArray]:
    """Returns the place of the best classifier in what `list_linear` lists, and its scores.

    Args:
        features: (rows, features), raw, of training and validation tracks.
        owner: (rows,), the track of each.
        targets: (tracks, classes), 0 or 1.
        groups: (tracks,), performer, recording or instrument of each.
        standardize: features and weights of rows -> a function that standardizes by them.
        score: targets and scores of tracks -> what is to be largest.
        how: see `aggregate_tracks`.
        output: "sigmoid", or "softmax" for exclusive classes.

    Returns:
        The place, and float64 (tracks, classes), the probabilities of every track by the fold that
        was not fitted to its group.
    """
    num_folds = min(MAX_FOLDS, len(set(groups)))
    scores: list[np.ndarray] = []
    for fold in make_folds(targets > 0, num_folds, seed=0, groups=np.asarray(groups)):
        is_fitted, is_judged = np.isin(owner, fold.train), np.isin(owner, fold.test)
        weights = weigh_rows(owner[is_fitted])
        apply = standardize(features[is_fitted], weights)
        candidates = list_linear(
            apply(features[is_fitted]), targets[owner[is_fitted]], weights,
            is_exclusive=output == "softmax",
        )  # fmt: skip
        judged, rows = apply(features[is_judged]), np.searchsorted(fold.test, owner[is_judged])
        for place, candidate in enumerate(candidates):
            if place == len(scores):
                scores.append(np.zeros(targets.shape))
            logits = candidate.logits(judged)
            scores[place][fold.test] = aggregate_tracks(
                logits, rows, None, len(fold.test), how, output
            )
    place = int(np.argmax([np.nan_to_num(score(targets, one), nan=-np.inf) for one in scores]))
    return place, scores[place]


def take_candidate(
    place: int, features: FloatArray, targets: np.ndarray, weights: np.ndarray, output: str
) -> Linear:
    """Returns a classifier of the list, fitted.

    Args:
        place: from `choose_by_folds`.
        features: (rows, features), standardized.
        targets: (rows, classes), 0 or 1.
        weights: (rows,), how much each counts; they sum to 1.
        output: "sigmoid" or "softmax".
    """
    return list_linear(features, targets, weights, is_exclusive=output == "softmax")[place]
