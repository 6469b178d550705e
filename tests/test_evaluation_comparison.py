"""Paired comparisons against permutations by hand, and what is not compared."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from toy_scores import make_problem

from musrep_jax.evaluation import bootstrap, comparison, support
from musrep_jax.evaluation.comparison import compare_statistic, compare_systems, compare_values
from musrep_jax.evaluation.metrics import EvaluationError


def compare_overall(*args, **options):
    return compare_systems(*args, **options).overall


def swap_by_hand(labels, ours, theirs, groups, chosen):
    """Macro differences of both metrics after swapping ranks of some groups, by scikit-learn."""
    ranks = [np.stack([stats.rankdata(c) for c in s.T], axis=1) for s in (ours, theirs)]
    where = np.isin(groups, chosen)[:, None]
    first, second = np.where(where, ranks[1], ranks[0]), np.where(where, ranks[0], ranks[1])
    return [
        np.mean(
            [
                measure(t, a) - measure(t, b)
                for t, a, b in zip(*(x.T for x in (labels, first, second)), strict=True)
            ]
        )
        for measure in (sk.roc_auc_score, sk.average_precision_score)
    ]


def make_grouped(seed, num_groups=8, size=5, num_classes=2):
    """Scores without a rank that both systems give: no order of ties has to be drawn."""
    random = np.random.default_rng(seed)
    groups = np.repeat([f"g{number}" for number in range(num_groups)], size)
    labels = random.random((len(groups), num_classes)) < 0.5
    ours = labels + random.normal(size=labels.shape)
    return labels, ours, 0.5 * labels + random.normal(size=labels.shape), groups


def test_all_swaps_of_groups_equal_those_by_hand():
    labels, ours, theirs, groups = make_grouped(0)
    found = compare_overall(labels, ours, theirs, track_groups=groups, num_resamples=1000)
    assert (found.resampled, found.num_units) == ("groups", 8)
    assert found.to_dict()["roc_auc"]["num_units"] == 8
    names = sorted(set(groups))
    every = [
        swap_by_hand(labels, ours, theirs, groups, chosen)
        for count in range(9)
        for chosen in itertools.combinations(names, count)
    ]
    measured = swap_by_hand(labels, ours, theirs, groups, ())
    for index, difference in enumerate((found.roc_auc, found.pr_auc)):
        assert difference.value == pytest.approx(measured[index])
        # 16 positives or fewer in 8 groups stand behind each of two labels, at most 8 groups.
        sizes = np.abs(np.array(every)[:, index]) * np.sqrt(8 / 7)
        exact = np.mean(sizes >= abs(measured[index]))
        # Equal ranks of both systems are in a random order here and tie by hand.
        assert difference.p_value == pytest.approx(exact, abs=0.1)


def test_a_track_is_swapped_with_all_of_its_labels():
    """Four copies of a label say no more than the label: swapped one by one, they would."""
    labels, ours, theirs, groups = make_grouped(6, num_classes=1)
    copies = (np.repeat(array, 4, axis=1) for array in (labels, ours, theirs))
    found = compare_overall(*copies, track_groups=groups, num_resamples=1000)
    names = sorted(set(groups))
    every = [
        swap_by_hand(labels, ours, theirs, groups, chosen)
        for count in range(9)
        for chosen in itertools.combinations(names, count)
    ]
    measured = swap_by_hand(labels, ours, theirs, groups, ())[0]
    exact = np.mean(np.abs(np.array(every)[:, 0]) * np.sqrt(8 / 7) >= abs(measured))
    assert exact > 0.2
    assert found.roc_auc.p_value == pytest.approx(exact, abs=0.05)


def test_the_swaps_are_those_of_whole_groups():
    units = support.make_units(6, ["a", "a", "b", "b", "", ""])
    assert units.count == 4  # a track without a group is one of its own
    blocks = list(comparison.draw_swaps(units, 100, seed=0))
    swaps = np.concatenate(blocks, axis=1)
    assert swaps.shape == (6, 8)  # all of 2**(4 - 1)
    assert (swaps[0] == swaps[1]).all() and (swaps[2] == swaps[3]).all()
    assert (swaps[4] != swaps[5]).any()
    assert len({tuple(column) for column in swaps.T}) == 8
    many = support.make_units(30)
    drawn = np.concatenate(list(comparison.draw_swaps(many, 500, 1)), axis=1)
    parts = list(comparison.draw_swaps(many, 500, 1, block_entries=30 * 7))
    np.testing.assert_array_equal(drawn, np.concatenate(parts, axis=1))
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)


def test_equal_systems_do_not_differ():
    labels, scores = make_problem(5)
    same = compare_overall(labels, scores, scores, num_resamples=100)
    assert same.roc_auc == comparison.Difference(0.0, (0.0, 0.0), 1.0)
    # Another scale of the same ranking is the same system.
    scaled = compare_overall(labels, scores, 3 * scores + 1, num_resamples=100)
    assert scaled.pr_auc.p_value == 1.0


def test_a_clear_difference_is_seen_and_has_a_sign():
    labels, scores = make_problem(6, num_tracks=200, skill=2.0)
    noise = make_problem(7, num_tracks=200, skill=0.0)[1]
    better = compare_overall(labels, scores, noise, num_resamples=400)
    assert better.roc_auc.value > 0.2 and better.roc_auc.ci[0] > 0
    assert better.roc_auc.p_value == pytest.approx(1 / 401)
    worse = compare_overall(labels, noise, scores, num_resamples=400)
    assert worse.roc_auc.value == -better.roc_auc.value
    np.testing.assert_allclose(worse.roc_auc.ci, np.negative(better.roc_auc.ci)[::-1], atol=1e-12)
    assert better.to_dict()["roc_auc"]["difference"] == better.roc_auc.value


def test_pairing_removes_what_both_systems_share():
    labels, scores = make_problem(8, num_tracks=100, decimals=6)
    nearly = scores + 0.05 * np.random.default_rng(0).normal(size=scores.shape)
    low, high = compare_overall(labels, scores, nearly).roc_auc.ci
    alone_low, alone_high = bootstrap.bootstrap_intervals(labels, scores)["roc_auc"]
    assert high - low < 0.3 * (alone_high - alone_low)


def test_p_values_are_small_as_often_as_they_should_be():
    p_values = []
    for seed in range(150):
        labels, scores = make_problem(seed, num_tracks=60, decimals=6)
        other = np.random.default_rng(seed + 5000).normal(size=labels.shape) + 1.0 * labels
        result = compare_overall(labels, scores, other, num_resamples=100, seed=seed)
        p_values.append(result.roc_auc.p_value)
    share = np.mean(np.array(p_values) < 0.05)
    assert 0.0 < share < 0.12


def test_a_comparison_without_usable_labels_says_so():
    with pytest.raises(EvaluationError, match="none of the 2 labels"):
        compare_overall(np.ones((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)))


def test_one_misordered_pair_is_no_difference():
    """Twelve tracks, one pair out of order in one of two systems: p was 0.002 once."""
    labels = np.arange(12)[:, None] < 6
    perfect = np.where(labels, 1.0, 0.0) + np.arange(12)[:, None] / 100
    other = perfect.copy()
    other[[0, 6]] = other[[6, 0]]
    found = compare_overall(labels, perfect, other)
    assert found.roc_auc.value == pytest.approx(1 - sk.roc_auc_score(labels, other))
    assert found.roc_auc.p_value > 0.3 and found.roc_auc.verdict == "undecided"
    assert found.roc_auc.ci[0] < 0 < found.roc_auc.ci[1]


def test_too_few_positives_are_neither_tested_nor_bracketed():
    random = np.random.default_rng(0)
    labels = np.zeros((40, 3), bool)
    labels[:2, 0] = labels[:5, 1] = labels[:5, 2] = True
    ours = labels + 0.01 * random.random(labels.shape)
    few = compare_systems(labels, ours, -ours)
    for found in (few.overall, *few.per_label):
        assert found.roc_auc.reason == "too_few_positives"
        assert found.pr_auc.verdict == "too few tracks"
        assert np.isnan(found.roc_auc.p_value) and np.isnan(found.pr_auc.ci).all()
        assert found.roc_auc.value == 1.0
    labels[5, 2] = True
    enough = compare_systems(labels, labels + 0.0, -1.0 * labels)
    assert enough.overall.roc_auc.p_value < 0.05 and enough.per_label[2].roc_auc.reason is None
    assert enough.per_label[1].roc_auc.reason == "too_few_positives"
    few_negatives = compare_systems(~labels, ours, -ours)
    assert few_negatives.per_label[0].roc_auc.reason == "too_few_negatives"


def test_too_few_groups_are_neither_tested_nor_bracketed():
    _, ours, theirs, _ = make_grouped(1)
    labels = (np.arange(40)[:, None] // 6 % 2 == 1) ^ np.array([False, True])
    for count, reason in ((1, "too_few_groups"), (5, "too_few_groups"), (6, None)):
        groups = np.arange(40) % count
        found = compare_systems(labels, ours, theirs, track_groups=groups)
        assert found.overall.roc_auc.reason == reason
        assert {one.pr_auc.reason for one in found.per_label} == {reason}
    one_label = np.repeat(np.arange(8) < 4, 5)[:, None]  # positives in four groups only
    found = compare_systems(one_label, ours[:, :1], theirs[:, :1], track_groups=np.arange(40) // 5)
    assert found.per_label[0].roc_auc.verdict == "too few groups"


def test_labels_are_compared_on_the_same_swaps():
    """A label of its own and the mean over that label alone are one comparison."""
    labels, ours, theirs, _ = make_grouped(2, num_groups=20, num_classes=3)
    found = compare_systems(labels, ours, theirs, seed=4)
    nearly = ours + 1e-3 * theirs
    close = compare_systems(labels, ours, nearly, seed=4)
    for column in range(3):
        pair = [column]
        alone = compare_overall(labels[:, pair], ours[:, pair], theirs[:, pair], seed=4)
        for metric in ("roc_auc", "pr_auc"):
            one, many = getattr(alone, metric), getattr(found.per_label[column], metric)
            assert many.value == pytest.approx(one.value)
            assert many.p_value == pytest.approx(one.p_value, abs=0.04)
            # What both share cancels: unpaired, the interval would be as wide as for `theirs`.
            low, high = getattr(close.per_label[column], metric).ci
            wide = many.ci[1] - many.ci[0]
            assert high - low < 0.5 * wide


def test_per_label_swaps_by_hand():
    labels, ours, theirs, groups = make_grouped(3)
    found = compare_systems(labels, ours, theirs, track_groups=groups).per_label
    every = np.array([
        [
            swap_by_hand(labels[:, [c]], ours[:, [c]], theirs[:, [c]], groups, chosen)
            for c in range(2)
        ]
        for count in range(9)
        for chosen in itertools.combinations(sorted(set(groups)), count)
    ])  # fmt: skip
    for column, one in enumerate(found):
        for index, difference in enumerate((one.roc_auc, one.pr_auc)):
            spread = np.sqrt(np.mean(every[:, column, index] ** 2)) * np.sqrt(8 / 7)
            exact = np.mean(
                np.abs(every[:, column, index]) * np.sqrt(8 / 7) >= abs(difference.value)
            )
            assert difference.p_value == pytest.approx(exact, abs=0.1)
            outer = np.hypot(stats.t.ppf(0.975, 7) * spread, 0.5 / 8)
            half = max(difference.ci[1] - difference.value, difference.value - difference.ci[0])
            assert half == pytest.approx(outer, rel=0.15)


def test_who_is_the_baseline_changes_the_sign_only():
    labels, ours, theirs, _ = make_grouped(4, num_groups=10)
    one, other = compare_overall(labels, ours, theirs), compare_overall(labels, theirs, ours)
    assert one.pr_auc.p_value == other.pr_auc.p_value
    np.testing.assert_allclose(one.pr_auc.ci, np.negative(other.pr_auc.ci)[::-1], atol=1e-12)


def test_p_values_and_intervals_say_the_same():
    for seed in range(40):
        labels, ours, theirs, groups = make_grouped(seed, num_groups=12)
        found = compare_systems(labels, ours, theirs, track_groups=groups, num_resamples=200)
        for one in (found.overall, *found.per_label):
            for difference in (one.roc_auc, one.pr_auc):
                low, high = difference.ci
                assert low <= difference.value <= high
                if difference.reason is None:
                    assert (difference.p_value < 0.05) == (low > 0 or high < 0)


def test_metrics_that_improve_by_falling():
    random = np.random.default_rng(0)
    loss = random.random(40)
    lower = loss - 0.2 - 0.1 * random.random(40)
    better = compare_values(lower, loss, higher_is_better=False)
    assert better.verdict == "better" and better.value == pytest.approx(np.mean(lower - loss))
    assert better.ci[1] < 0 and better.to_dict()["higher_is_better"] is False
    assert compare_values(loss, lower, higher_is_better=False).verdict == "worse"
    assert compare_values(lower, loss, higher_is_better=True).verdict == "worse"
    # The exact sign test of six tracks that all differ the same way: 2 of 2**6.
    six = compare_values(np.arange(6.0), np.arange(6.0) + 1, higher_is_better=False)
    assert six.p_value == 2 / 2**6 and six.verdict == "better"
    five = compare_values(np.arange(5.0), np.arange(5.0) + 1, higher_is_better=False)
    assert five.reason == "too_few_tracks" and np.isnan(five.p_value)
    grouped = compare_values(lower, loss, higher_is_better=False, track_groups=np.arange(40) % 4)
    assert grouped.verdict == "too few groups"
    truth = random.random(40) < 0.5
    error = compare_statistic(
        lambda scores: np.mean((scores > 0.5) != truth), truth * 1.0, 1.0 - truth,
        higher_is_better=False,
    )  # fmt: skip
    assert error.value == -1 and error.verdict == "better"
    with pytest.raises(EvaluationError, match="same tracks"):
        compare_values([1.0], [1.0, 2.0], higher_is_better=True)
    with pytest.raises(EvaluationError, match="not finite"):
        compare_values([np.nan], [1.0], higher_is_better=True)


def test_groups_are_chosen_by_name():
    assert support.choose_groups(["a", "a", "b"], "tracks") is None
    assert support.choose_groups(["a", "b"]) is None
    assert support.choose_groups(None) is None
    with pytest.raises(EvaluationError, match="'group'; choose 'groups' or 'tracks'"):
        support.choose_groups(["a", "a"], "group")


def test_students_quantiles_are_those_of_scipy():
    for degrees in (5, 5.5, 7, 12, 30, 1000):
        expected = stats.t.ppf(0.975, degrees)
        assert support.t_quantile(degrees) == pytest.approx(expected, rel=2e-3)


def test_holm_by_hand():
    adjusted = comparison.apply_holm_correction([0.04, np.nan, 0.01, 0.6, 0.02])
    np.testing.assert_allclose(adjusted, [0.08, np.nan, 0.04, 0.6, 0.06])
    np.testing.assert_allclose(comparison.apply_holm_correction([0.9, 0.8]), [1.0, 1.0])
