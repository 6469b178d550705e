"""The scores of a random scorer on a given set of labels."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import percentile_interval
from musrep_jax.evaluation.metrics import FloatArray

# Entries of one block of shuffled labels.
BLOCK_ENTRIES = 2**22


def evaluate_random_scorer(
    labels: ArrayLike, *, num_draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Returns the macro metrics of random scores on these labels: expectation and range.

    The interval says between which values 95 % of random scorers fall, so a tagger below its upper
    bound has not shown that it learned anything.

    Args:
        labels: (tracks, classes), 0 or 1.
        num_draws: number of random scorers; 0 leaves the intervals out.
        seed: of their scores.

    Returns:
        `roc_auc` (0.5) and `pr_auc` (see `metrics.expected_random_average_precision`), their ranges
        `roc_auc_ci` and `pr_auc_ci`, and `prevalence`, the macro share of positives, which is the
        average precision of a constant score; over the labels that can be evaluated.
    """
    is_positive = metrics.check_labels(labels)
    num_tracks = len(is_positive)
    is_used = metrics.is_evaluable(is_positive)
    num_positives = is_positive.sum(axis=0)
    expected = metrics.expected_random_average_precision(num_positives, num_tracks)
    macro_roc, macro_pr = np.zeros(num_draws), np.zeros(num_draws)
    for column in np.flatnonzero(is_used):
        # One stream per label: the draws of a label do not depend on the labels before it.
        rng = np.random.default_rng((seed, int(column)))
        roc, pr = _random_areas(num_tracks, int(num_positives[column]), num_draws, rng)
        macro_roc += roc / is_used.sum()
        macro_pr += pr / is_used.sum()
    return {
        "roc_auc": 0.5 if is_used.any() else float("nan"),
        "pr_auc": metrics.average_selected(expected, is_used),
        "roc_auc_ci": percentile_interval(macro_roc),
        "pr_auc_ci": percentile_interval(macro_pr),
        "prevalence": metrics.average_selected(num_positives / num_tracks, is_used),
    }


def _random_areas(
    num_tracks: int, num_positives: int, num_draws: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Returns ROC-AUC and average precision of one label for random orders of the tracks."""
    is_positive = np.arange(num_tracks) < num_positives
    block = max(1, BLOCK_ENTRIES // num_tracks)
    roc, pr = np.empty(num_draws), np.empty(num_draws)
    for first in range(0, num_draws, block):
        size = min(block, num_draws - first)
        shuffled = rng.permuted(np.broadcast_to(is_positive, (size, num_tracks)), axis=1)
        ranks = np.nonzero(shuffled)[1].reshape(size, num_positives)
        roc[first : first + size], pr[first : first + size] = compute_rank_areas(ranks, num_tracks)
    return roc, pr


def compute_rank_areas(ranks: NDArray[np.int64], num_tracks: int) -> tuple[FloatArray, FloatArray]:
    """Returns ROC-AUC and average precision from the ranks of the positives, without ties.

    >>> compute_rank_areas(np.array([[0, 2]]), 4)
    (array([0.75]), array([0.83333333]))

    Args:
        ranks: int64 (draws, positives), rising along a row, 0 is the best.
        num_tracks: number of tracks; more than positives.

    Returns:
        Two float64 (draws,).
    """
    num_positives = ranks.shape[1]
    positives_before = np.arange(num_positives)
    negatives_before = ranks - positives_before
    roc = 1 - negatives_before.mean(axis=1) / (num_tracks - num_positives)
    return roc, np.mean((positives_before + 1) / (ranks + 1), axis=1)
