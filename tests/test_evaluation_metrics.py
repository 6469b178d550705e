"""Metrics against scikit-learn, hand numbers and edge cases."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from musrep_jax.evaluation import decisions, metrics
from musrep_jax.evaluation.metrics import EvaluationError

NAN = float("nan")


def make_problem(seed, num_tracks=120, num_classes=7, decimals=None, prevalence=0.3):
    """Random labels with both kinds in every column, and scores that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.random((num_tracks, num_classes)) < prevalence
    labels[0], labels[1] = True, False
    scores = rng.normal(size=labels.shape) + labels
    return labels, scores if decimals is None else np.round(scores, decimals)


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", range(5))
def test_areas_equal_scikit_learn(seed, decimals):
    labels, scores = make_problem(seed, decimals=decimals, prevalence=[0.05, 0.3, 0.9][seed % 3])
    expected = sk.roc_auc_score(labels, scores, average=None)
    np.testing.assert_allclose(metrics.roc_auc(labels, scores), expected, rtol=0, atol=1e-12)
    expected = sk.average_precision_score(labels, scores, average=None)
    np.testing.assert_allclose(
        metrics.average_precision(labels, scores), expected, rtol=0, atol=1e-12
    )
    for average, roc, precision in (
        ("macro", metrics.macro_roc_auc, metrics.macro_average_precision),
        ("micro", metrics.micro_roc_auc, metrics.micro_average_precision),
    ):
        assert roc(labels, scores) == pytest.approx(
            sk.roc_auc_score(labels, scores, average=average), abs=1e-12
        )
        assert precision(labels, scores) == pytest.approx(
            sk.average_precision_score(labels, scores, average=average), abs=1e-12
        )


def test_areas_of_many_tracks_equal_scikit_learn():
    labels, scores = make_problem(9, num_tracks=20_000, num_classes=3, decimals=2)
    np.testing.assert_allclose(
        metrics.roc_auc(labels, scores), sk.roc_auc_score(labels, scores, average=None), atol=1e-12
    )
    np.testing.assert_allclose(
        metrics.average_precision(labels, scores),
        sk.average_precision_score(labels, scores, average=None),
        atol=1e-12,
    )


def test_areas_by_hand():
    # Scores 4 > 3 = 3 > 1: positives at 4 and in the tie. AUC = (2 + 0.5 + 1) / 4; the precision
    # is 1 at the first step and 2/3 where the tie ends.
    labels, scores = [[1], [1], [0], [0]], [[4], [3], [3], [1]]
    np.testing.assert_allclose(metrics.roc_auc(labels, scores), [3.5 / 4])
    np.testing.assert_allclose(metrics.average_precision(labels, scores), [(1 + 2 / 3) / 2])


def test_constant_scores_give_one_half_and_the_prevalence():
    labels = [[1], [0], [0], [0], [0]]
    np.testing.assert_allclose(metrics.roc_auc(labels, np.zeros((5, 1))), [0.5])
    np.testing.assert_allclose(metrics.average_precision(labels, np.zeros((5, 1))), [0.2])


def test_areas_see_only_the_order_of_scores_not_of_tracks():
    labels, scores = make_problem(3, decimals=1)
    for metric in (metrics.roc_auc, metrics.average_precision):
        expected = metric(labels, scores)
        np.testing.assert_array_equal(metric(labels, np.exp(scores)), expected)
        shuffle = np.random.default_rng(0).permutation(len(labels))
        # Equal up to the order of summation.
        np.testing.assert_allclose(metric(labels[shuffle], scores[shuffle]), expected, atol=1e-14)


def test_undefined_labels_are_nan_without_warnings():
    labels = np.array([[0, 1, 0], [0, 1, 1]])
    scores = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(metrics.roc_auc(labels, scores), [NAN, NAN, 1.0])
        np.testing.assert_array_equal(metrics.average_precision(labels, scores), [NAN, 1.0, 1.0])
        assert metrics.macro_roc_auc(labels, scores) == 1.0
        assert np.isnan(metrics.macro_roc_auc(labels[:, :2], scores[:, :2]))
        np.testing.assert_array_equal(metrics.roc_auc([[1]], [[0.5]]), [NAN])


def test_macro_means_leave_out_what_cannot_be_ranked():
    labels, scores = make_problem(4)
    expected = metrics.macro_average_precision(labels, scores)
    none, every = np.zeros((len(labels), 1), bool), np.ones((len(labels), 1), bool)
    wider = np.concatenate([labels, none, every], axis=1)
    wider_scores = np.concatenate([scores, scores[:, :2]], axis=1)
    assert metrics.macro_average_precision(wider, wider_scores) == expected
    assert metrics.macro_roc_auc(wider, wider_scores) == metrics.macro_roc_auc(labels, scores)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([[0], [1]], [[0.1], [NAN]], "score nan of track 1, class 0"),
        ([[0], [1]], [[0.1], [np.inf]], "not finite"),
        ([[0.0], [0.3]], [[0.1], [0.2]], "label 0.3 of track 1, class 0"),
        ([[0], [-1]], [[0.1], [0.2]], "neither 0 nor 1"),
        ([[0, 1]], [[0.1], [0.2]], r"\(1, 2\) but scores \(2, 1\)"),
        ([0, 1], [0.1, 0.2], r"shape \(2,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "at least one track"),
    ],
)
def test_bad_input_is_one_clear_sentence(labels, scores, words):
    with pytest.raises(EvaluationError, match=words):
        metrics.roc_auc(labels, scores)
    with pytest.raises(EvaluationError, match=words):
        metrics.average_precision(labels, scores)


@pytest.mark.parametrize(("num_tracks", "num_positives"), [(7, 1), (7, 3), (7, 7), (30, 3)])
def test_expected_average_precision_of_random_orders(num_tracks, num_positives):
    labels = np.arange(num_tracks)[:, None] < num_positives
    rng = np.random.default_rng(num_positives)
    num_draws = 20_000
    scores = rng.random((num_tracks, num_draws))
    drawn = metrics.average_precision(np.repeat(labels, num_draws, axis=1), scores)
    expected = metrics.expected_random_average_precision([num_positives], num_tracks)[0]
    assert drawn.mean() == pytest.approx(expected, abs=5 * drawn.std() / np.sqrt(num_draws) + 1e-12)
    assert expected >= num_positives / num_tracks


def test_precision_at_k_by_hand():
    relevant = [[1, 0, 1, 0], [0, 0, 0, 1]]
    scores = [[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]]
    np.testing.assert_allclose(metrics.precision_at_k(relevant, scores, 1), [1, 0])
    np.testing.assert_allclose(metrics.precision_at_k(relevant, scores, 3), [2 / 3, 0])
    np.testing.assert_allclose(metrics.precision_at_k(relevant, scores, 4), [0.5, 0.25])
    for k in (0, 5):
        with pytest.raises(EvaluationError, match=f"k is {k}"):
            metrics.precision_at_k(relevant, scores, k)


def test_precision_at_k_averages_over_ties():
    rng = np.random.default_rng(0)
    relevant = rng.random((1, 12)) < 0.4
    scores = rng.integers(0, 4, size=(1, 12)).astype(float)
    broken = scores + 1e-6 * rng.random((20_000, 12))
    for k in (1, 4, 9):
        expected = metrics.precision_at_k(np.repeat(relevant, 20_000, axis=0), broken, k).mean()
        assert metrics.precision_at_k(relevant, scores, k)[0] == pytest.approx(expected, abs=0.01)


def test_f1_equals_scikit_learn():
    for seed in range(4):
        labels, scores = make_problem(seed, num_tracks=40, prevalence=[0.02, 0.4][seed % 2])
        guesses = decisions.predict(scores, 1.5)
        ours = decisions.f1_scores(labels, guesses)
        np.testing.assert_allclose(
            ours["per_label"], sk.f1_score(labels, guesses, average=None, zero_division=0)
        )
        for average in ("macro", "micro", "weighted", "samples"):
            expected = sk.f1_score(labels, guesses, average=average, zero_division=0)
            assert ours[average] == pytest.approx(expected, abs=1e-12), average


def test_one_half_is_not_predicted():
    assert decisions.predict([[0.5, np.nextafter(0.5, 1)]]).tolist() == [[False, True]]


@pytest.mark.parametrize("decimals", [None, 1])
def test_fitted_thresholds_reach_the_best_f1_with_no_more_predictions_than_positives(decimals):
    labels, scores = make_problem(5, num_tracks=60, decimals=decimals)
    thresholds = decisions.fit_thresholds(labels, scores, default=-np.inf)
    guesses = decisions.predict(scores, thresholds)
    reached = decisions.f1_scores(labels, guesses)["per_label"]
    assert np.all(guesses.sum(axis=0) <= labels.sum(axis=0))
    for column in range(labels.shape[1]):
        best = max(
            sk.f1_score(labels[:, column], scores[:, column] > cut, zero_division=0)
            for cut in np.unique(scores[:, column])
            if np.sum(scores[:, column] > cut) <= labels[:, column].sum()
        )
        assert reached[column] == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.05, 0.5, 0.9])
def test_thresholds_of_a_model_at_chance_do_not_say_yes_to_everything(prevalence):
    rng = np.random.default_rng(1)
    labels = rng.random((200, 40)) < prevalence
    chance = np.clip(prevalence + 0.01 * rng.normal(size=labels.shape), 0, 1)
    weak = np.clip(chance + 0.004 * labels, 0, 1)
    for scores in (chance, weak, np.full(labels.shape, 0.7)):
        thresholds = decisions.fit_thresholds(labels, scores)
        share = decisions.predict(scores, thresholds).mean(axis=0)
        assert share.mean() <= prevalence + 0.01 and share.max() < 1
    # Below one half, labels that the scores do not rank are hardly ever predicted.
    if prevalence < 0.5:
        thresholds = decisions.fit_thresholds(labels, chance)
        assert np.mean(thresholds >= 0.5) > 0.85


def test_labels_that_are_ranked_are_told_from_chance_as_by_scipy():
    labels, scores = make_problem(3, num_tracks=40, num_classes=60, decimals=1)
    scores -= 0.7 * labels  # some are ranked, some are not
    pairs = [(scores[y, k], scores[~y, k]) for k, y in enumerate(labels.T)]
    p = [
        stats.mannwhitneyu(
            *pair, alternative="greater", method="asymptotic", use_continuity=False
        ).pvalue
        for pair in pairs
    ]
    is_default = decisions.fit_thresholds(labels, scores, default=99.0) == 99.0
    assert is_default.tolist() == [value >= 0.05 for value in p]
    assert 5 < is_default.sum() < 55


def test_fitted_thresholds_at_the_edges():
    # Without positives, or without negatives, there is nothing to fit.
    labels = np.array([[0, 1], [0, 1]])
    scores = np.array([[0.2, 0.2], [0.4, 0.4]])
    thresholds = decisions.fit_thresholds(labels, scores, default=0.7)
    assert thresholds.tolist() == [0.7, 0.7]
    # Neighboring floating-point numbers have no middle.
    above = np.nextafter(0.25, 1)
    scores = [[above]] * 3 + [[0.25]] * 3
    thresholds = decisions.fit_thresholds([[1]] * 3 + [[0]] * 3, scores)
    assert decisions.predict(scores, thresholds).ravel().tolist() == [True] * 3 + [False] * 3


def test_accuracies_equal_scikit_learn():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 80)
    labels = np.eye(5)[truth]  # the fifth class does not occur
    scores = rng.normal(size=(80, 5)) + labels
    guess = scores.argmax(axis=1)
    confusion = decisions.confusion_matrix(labels, scores)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(truth, guess, labels=range(5)))
    ours = decisions.accuracies(confusion)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that class 4 is never true
        assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, guess))
    assert ours["chance_balanced_accuracy"] == 0.25
    assert ours["majority_accuracy"] == pytest.approx(np.bincount(truth).max() / 80)


def test_accuracy_needs_one_label_per_track():
    with pytest.raises(EvaluationError, match="track 1 has 2 labels"):
        decisions.confusion_matrix([[1, 0], [1, 1]], [[0.1, 0.2], [0.3, 0.4]])
    assert not decisions.has_one_label_per_track([[1], [1]])


@pytest.mark.parametrize(
    "name",
    [
        "aggregation",
        "chance",
        "comparison",
        "decisions",
        "label_sets",
        "metrics",
        "support",
        "swapping",
    ],
)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"musrep_jax.evaluation.{name}"))
    assert result.attempted > 0 and result.failed == 0
