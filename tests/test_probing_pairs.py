"""Paired tests of all systems at once: equal to those of two, to a plain loop, and level."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from musrep_jax.evaluation.comparison import compare_values
from musrep_jax.probing.pairs import compare_all_areas, compare_all_resamples, compare_all_values


@pytest.mark.parametrize("groups", [None, np.arange(120) // 3, np.arange(120) // 15])
def test_all_pairs_are_tested_as_two(groups):
    random = np.random.default_rng(0)
    right = (random.random((4, 120)) < np.array([0.5, 0.6, 0.6, 0.8])[:, None]).astype(float)
    right[2] = right[1]
    found = compare_all_values(right, num_resamples=300, seed=3, track_groups=groups)
    assert set(found) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    for (first, second), one in found.items():
        expected = compare_values(
            right[second], right[first], higher_is_better=True, num_resamples=300, seed=3,
            track_groups=groups,
        )  # fmt: skip
        assert one.p_value == expected.p_value
        assert one.ci == pytest.approx(expected.ci) and one.value == pytest.approx(expected.value)
    assert found[1, 2].p_value == 1


def spread_by_loop(truth, scores):
    """Returns the area and the structural components of DeLong et al., of one class."""
    above = np.array(
        [
            [(x > y) + 0.5 * (x == y) for y in scores[~truth]] for x in scores[truth]
        ],
        float,
    )  # fmt: skip
    moves = np.zeros(len(truth))
    moves[truth] = (above.mean(axis=1) - above.mean()) / truth.sum()
    moves[~truth] = (above.mean(axis=0) - above.mean()) / (~truth).sum()
    return above.mean(), moves


def test_areas_are_those_of_a_plain_loop():
    random = np.random.default_rng(1)
    labels = random.random((60, 3)) < 0.4
    labels[:, 2] = False  # cannot be ranked
    scores = [np.round(labels + random.standard_normal((60, 3)), 1) for _ in range(3)]
    found = compare_all_areas(labels, scores, np.arange(60) // 2)
    for (first, second), one in found.items():
        areas, sums = [], []
        for system in (first, second):
            parts = [spread_by_loop(labels[:, k], scores[system][:, k]) for k in range(2)]
            areas.append(np.mean([area for area, _ in parts]))
            sums.append(np.mean([m for _, m in parts], axis=0).reshape(30, 2).sum(axis=1))
        assert one.value == pytest.approx(areas[1] - areas[0])
        assert areas[1] == pytest.approx(
            np.mean([roc_auc_score(labels[:, k], scores[second][:, k]) for k in range(2)])
        )
        error = np.sqrt(30 / 29 * np.sum((sums[1] - sums[0]) ** 2))
        assert one.p_value == pytest.approx(2 * stats.t.sf(abs(one.value) / error, 29))
        assert (one.p_value < 0.05) == (one.ci[0] > 0 or one.ci[1] < 0)


def test_what_says_nothing_is_not_significant():
    labels = np.arange(40)[:, None] % 2
    perfect, tied = labels.astype(float), np.zeros((40, 1))
    same = compare_all_areas(labels, [perfect, perfect])[0, 1]
    assert same.value == 0 and same.p_value == 1
    far = compare_all_areas(labels, [perfect, -perfect])[0, 1]
    assert far.value == -1 and 0 < far.p_value < 1e-5
    few = compare_all_areas(labels, [perfect, tied], np.arange(40) // 20)[0, 1]
    assert few.reason == "too_few_groups" and np.isnan(few.p_value)


def test_rows_that_do_not_differ_are_seldom_said_to():
    """Of 300 pairs without a difference about 5 % may be significant, groups being as one track."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        labels = random.random((60, 2)) < 0.4
        shared = labels + np.repeat(random.standard_normal((30, 2)), 2, axis=0)
        scores = [shared + np.repeat(random.standard_normal((30, 2)), 2, axis=0) for _ in range(2)]
        hits += compare_all_areas(labels, scores, np.arange(60) // 2)[0, 1].p_value < 0.05
    assert hits <= 27


def test_resampled_numbers_are_paired():
    random = np.random.default_rng(0)
    shared = random.standard_normal(500)
    rows = 0.6 + 0.1 * np.stack([shared, shared + 0.01 * random.standard_normal(500), -shared])
    found = compare_all_resamples([0.6, 0.62, 0.65], rows, 30)
    assert found[0, 1].p_value < 1e-6  # both vary alike
    assert found[0, 2].p_value > 0.5 and found[0, 2].value == pytest.approx(0.05)
    rows[0] = np.nan
    assert np.isnan(compare_all_resamples([0.6, 0.62, 0.65], rows, 30)[0, 1].p_value)
