"""Friedman's test over folds: statistic, ranks, and how often chance does as well."""

import itertools

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from musrep_jax.evaluation.friedman import NUM_DRAWS, friedman_test
from musrep_jax.evaluation.metrics import EvaluationError


@pytest.mark.parametrize("digits", [12, 1])
def test_statistic_is_that_of_scipy_also_with_ties(digits):
    scores = np.random.default_rng(0).uniform(size=(7, 4)).round(digits)
    found = friedman_test(scores)
    assert found.statistic == pytest.approx(friedmanchisquare(*scores.T).statistic)
    turned = friedman_test(-scores, is_larger_better=False)
    assert turned.statistic == found.statistic
    np.testing.assert_array_equal(turned.mean_ranks, found.mean_ranks)


def test_p_value_of_a_few_folds_counts_all_orders():
    """Three folds and three systems: all 6^3 orders of ranks, by a plain loop."""
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.6, 0.5], [0.4, 0.5, 0.3]])
    orders = list(itertools.permutations((1, 2, 3)))
    spreads = [
        sum((sum(column) - 6) ** 2 for column in zip(*rows, strict=True))
        for rows in itertools.product(orders, repeat=3)
    ]
    measured = (4 - 6) ** 2 + (5 - 6) ** 2 + (9 - 6) ** 2  # sums of ranks
    found = friedman_test(scores)
    assert found.is_exact
    assert found.p_value == pytest.approx(np.mean(np.array(spreads) >= measured))
    np.testing.assert_allclose(found.mean_ranks, [4 / 3, 5 / 3, 3])


def test_p_value_of_two_systems_is_the_sign_test():
    scores = np.stack([np.arange(5) + 0.5, np.arange(5)], axis=1)
    assert friedman_test(scores).p_value == 2 / 2**5


def test_drawn_orders_are_near_the_limit_for_many_folds_and_never_zero():
    scores = np.random.default_rng(1).normal(size=(30, 4))
    scores[:, 3] += 0.35
    found = friedman_test(scores, seed=1)
    assert not found.is_exact
    assert found.p_value == pytest.approx(friedmanchisquare(*scores.T).pvalue, abs=0.015)
    agreed = friedman_test(np.tile(np.arange(6.0), (9, 1)))
    assert agreed.p_value == 1 / (NUM_DRAWS + 1)


def test_equal_systems_and_wrong_shapes():
    assert friedman_test(np.ones((3, 4))).p_value == 1
    for wrong in (np.ones((1, 3)), np.ones((3, 1)), np.ones(3), np.full((3, 3), np.nan)):
        with pytest.raises(EvaluationError, match="needs finite numbers of at least two folds"):
            friedman_test(wrong)
