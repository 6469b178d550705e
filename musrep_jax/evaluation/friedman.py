"""Friedman's test: whether systems that are judged on the same folds rank alike.

Every fold ranks the systems. If there is no difference between them, every order of the systems
within a fold is as likely as any other, so the p-value is the share of orders with a statistic that
is at least as large. With few folds and systems all orders are tried instead of random ones; the
chi-squared distribution, which is the limit for many folds, is not used: three folds, as in MIREX,
are far from it.

Source: Friedman, "The use of ranks to avoid the assumption of normality implicit in the analysis of
variance", JASA 1937; ties as in Conover, "Practical nonparametric statistics".
"""

import dataclasses
import itertools
import math

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.metrics import EvaluationError, FloatArray

NUM_DRAWS = 20_000
"""Orders that are drawn where there are more than that."""


@dataclasses.dataclass(frozen=True)
class FriedmanTest:
    """The result of a test.

    Attributes:
        statistic: 0 where all folds rank the systems differently, larger the more they agree.
        p_value: share of orders with such a statistic.
        mean_ranks: float64 (systems,), over folds; 1 is the best, ties share their ranks.
        is_exact: whether all orders were tried.
    """

    statistic: float
    p_value: float
    mean_ranks: FloatArray
    is_exact: bool


def friedman_test(
    scores: ArrayLike, *, is_larger_better: bool = True, seed: int = 0
) -> FriedmanTest:
    """Returns Friedman's test of systems over folds.

    Args:
        scores: (folds, systems), finite.
        is_larger_better: whether a larger score is better.
        seed: of the orders that are drawn.

    Raises:
        EvaluationError: if there are fewer than two folds or systems, or a score is not finite.

    Example:
        >>> test = friedman_test([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.7, 0.6, 0.5]])
        >>> test.statistic, test.mean_ranks.tolist(), round(test.p_value * 36)
        (6.0, [1.0, 2.0, 3.0], 1)
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise EvaluationError(
            f"scores have shape {values.shape}; Friedman's test needs finite numbers of at least "
            "two folds and two systems, (folds, systems)."
        )
    ranks = _rank_rows(-values if is_larger_better else values)
    num_folds, num_systems = ranks.shape
    center = (num_systems + 1) / 2
    spread = ((ranks - center) ** 2).sum()
    if spread == 0:  # all are equal in every fold
        return FriedmanTest(0.0, 1.0, ranks.mean(axis=0), True)
    scale = (num_systems - 1) / spread

    def statistics(sums: FloatArray) -> FloatArray:
        return scale * ((sums - num_folds * center) ** 2).sum(axis=-1)

    measured = float(statistics(ranks.sum(axis=0)))
    # The order of one fold can be kept: what counts is how the others agree with it.
    is_exact = math.factorial(num_systems) ** (num_folds - 1) <= NUM_DRAWS
    sums = ranks[0]
    if is_exact:
        sums = sums[None]
        for row in ranks[1:]:
            orders = np.array(list(itertools.permutations(row)))
            sums = (sums[:, None] + orders[None]).reshape(-1, num_systems)
    else:
        rng = np.random.default_rng(seed)
        for row in ranks[1:]:
            sums = sums + rng.permuted(np.tile(row, (NUM_DRAWS, 1)), axis=1)
    is_as_large = statistics(sums) >= measured * (1 - 1e-9)
    p_value = is_as_large.mean() if is_exact else (is_as_large.sum() + 1) / (NUM_DRAWS + 1)
    return FriedmanTest(measured, float(p_value), ranks.mean(axis=0), is_exact)


def _rank_rows(values: FloatArray) -> FloatArray:
    """Returns the ranks within every row, from 1; equal values have the mean of their ranks."""
    below = (values[:, :, None] > values[:, None, :]).sum(axis=-1)
    equal = (values[:, :, None] == values[:, None, :]).sum(axis=-1)
    return below + (equal + 1) / 2
