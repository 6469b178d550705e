"""Bootstrap intervals against resampling by hand with scikit-learn."""

import functools
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from toy_scores import make_problem

from musrep_jax.evaluation import bootstrap, metrics
from musrep_jax.evaluation.metrics import EvaluationError


def naive_resamples(labels, scores, counts):
    """Both metrics of every label by copying tracks and asking scikit-learn."""
    roc, precision = [], []
    for weights in counts.T:
        rows = np.repeat(np.arange(len(labels)), weights)
        truth, guess = labels[rows], scores[rows]
        is_usable = truth.any(axis=0) & ~truth.all(axis=0)
        roc.append(np.full(labels.shape[1], np.nan))
        precision.append(np.full(labels.shape[1], np.nan))
        for i in np.flatnonzero(is_usable):
            roc[-1][i] = sk.roc_auc_score(truth[:, i], guess[:, i])
            precision[-1][i] = sk.average_precision_score(truth[:, i], guess[:, i])
    return np.array(roc), np.array(precision)


@pytest.mark.parametrize("prevalence", [0.02, 0.25, 0.9])
def test_resampled_metrics_equal_those_of_the_copied_tracks(prevalence):
    labels, scores = make_problem(0, prevalence=prevalence)
    counts = np.concatenate(list(bootstrap.draw_resample_counts(len(labels), 60, seed=3)), axis=1)
    roc, precision = naive_resamples(labels, scores, counts)
    ours = bootstrap.resample_metrics(labels, scores, num_resamples=60, seed=3)
    np.testing.assert_allclose(ours.roc_auc, roc, rtol=0, atol=1e-12)
    is_usable = np.isfinite(roc)
    # Average precision is 1 where a resample has lost its negatives, and must not count there.
    np.testing.assert_allclose(ours.pr_auc, precision, rtol=0, atol=1e-12)
    if prevalence == 0.02:
        assert not is_usable.all(), "the case of lost positives was not met"
    macro_roc, macro_precision = bootstrap.average_over_labels(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any usable label
        np.testing.assert_allclose(macro_roc, np.nanmean(roc, axis=1), atol=1e-12)
        np.testing.assert_allclose(macro_precision, np.nanmean(precision, axis=1), atol=1e-12)


def test_percentile_intervals_equal_naive_resampling():
    labels, scores = make_problem(1)
    counts = np.concatenate(list(bootstrap.draw_resample_counts(len(labels), 60, seed=0)), axis=1)
    roc, precision = naive_resamples(labels, scores, counts)
    ours = bootstrap.bootstrap_intervals(
        labels, scores, num_resamples=60, seed=0, method="percentile"
    )
    for metric, values in (("roc_auc", roc), ("pr_auc", precision)):
        expected = np.quantile(np.nanmean(values, axis=1), [0.025, 0.975])
        np.testing.assert_allclose(ours[metric], expected, atol=1e-12)


def test_counts_are_multinomial_and_independent_of_the_block_size():
    whole = np.concatenate(list(bootstrap.draw_resample_counts(30, 500, seed=1)), axis=1)
    parts = list(bootstrap.draw_resample_counts(30, 500, seed=1, block_entries=30 * 7))
    assert len(parts) == 72
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))
    assert whole.dtype == np.int32
    assert (whole.sum(axis=0) == 30).all()
    # A multinomial count of n draws over n tracks has mean 1 and variance 1 - 1/n.
    assert whole.var() == pytest.approx(1 - 1 / 30, abs=0.05)
    assert not np.array_equal(whole, next(bootstrap.draw_resample_counts(30, 500, seed=2)))


def test_blocks_do_not_change_the_result(monkeypatch):
    labels, scores = make_problem(2)
    expected = bootstrap.bootstrap_intervals(labels, scores, num_resamples=50, seed=5)
    small_blocks = functools.partial(bootstrap.draw_resample_counts, block_entries=40 * 3)
    monkeypatch.setattr(bootstrap, "draw_resample_counts", small_blocks)
    assert bootstrap.bootstrap_intervals(labels, scores, num_resamples=50, seed=5) == expected


def test_groups_are_drawn_as_a_whole_and_widen_the_interval():
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c", "d", "e", "f", "g", "h"], 10)
    counts = np.concatenate(list(bootstrap.draw_resample_counts(80, 50, 0, groups)), axis=1)
    by_group = counts.reshape(8, 10, 50)
    assert (by_group == by_group[:, :1]).all()
    assert (by_group[:, 0].sum(axis=0) == 8).all()
    # Tracks of a group share their luck, so that 80 tracks say little more than 8.
    labels = rng.random((80, 4)) < 0.5
    luck = np.repeat(rng.normal(size=8), 10)[:, None]
    scores = np.where(labels, 1, -1) * (luck + 0.2) + 0.3 * rng.normal(size=labels.shape)
    alone = bootstrap.bootstrap_intervals(labels, scores, seed=1)["roc_auc"]
    grouped = bootstrap.bootstrap_intervals(labels, scores, seed=1, track_groups=groups)["roc_auc"]
    assert grouped[1] - grouped[0] > 1.5 * (alone[1] - alone[0])
    with pytest.raises(EvaluationError, match="3 track groups for 80 tracks"):
        list(bootstrap.draw_resample_counts(80, 5, 0, ["a", "b", "c"]))
    # A single group tells nothing about others: no interval, and no error either.
    single = bootstrap.bootstrap_intervals(labels, scores, seed=1, track_groups=["a"] * 80)
    assert np.isnan(single["roc_auc"]).all() and np.isnan(single["pr_auc"]).all()


def test_centred_intervals_cover_what_plain_ones_miss():
    """Macro average precision is biased in resamples; see the top of bootstrap.py."""
    rng = np.random.default_rng(0)
    num_tracks, num_classes = 150, 30

    def draw():
        labels = rng.random((num_tracks, num_classes)) < 0.08
        return labels, rng.normal(size=labels.shape)

    expected = np.mean([metrics.macro_average_precision(*draw()) for _ in range(200)])
    hits = {"centred": 0, "percentile": 0}
    holds_measured = 0
    for seed in range(60):
        labels, scores = draw()
        for method in hits:
            low, high = bootstrap.bootstrap_intervals(
                labels, scores, num_resamples=150, seed=seed, method=method
            )["pr_auc"]
            hits[method] += low <= expected <= high
            if method == "centred":
                holds_measured += low <= metrics.macro_average_precision(labels, scores) <= high
    assert hits["centred"] >= 53  # of 60; 57 expected, 53 is three standard deviations below
    assert hits["percentile"] < hits["centred"] - 5
    assert holds_measured == 60


def test_intervals_of_a_perfect_scorer_have_a_width():
    """With n observations of the rarer class and none out of order, Wilson's bound is n/(n+t²)."""
    for positives, quantile in ((6, stats.t.ppf(0.975, 5)), (20, stats.t.ppf(0.975, 19))):
        labels = np.arange(50)[:, None] < positives
        result = bootstrap.bootstrap_intervals(labels, labels.astype(float), seed=0)
        expected = positives / (positives + quantile**2)
        for low, high in result.values():
            assert low == pytest.approx(expected, rel=5e-3) and high == 1.0


def test_mid_range_intervals_are_those_of_the_resamples_spread():
    """Far from 0 and 1, on many tracks, it is the value plus or minus 1.96 deviations."""
    labels, scores = make_problem(0, num_tracks=2000, num_classes=1, prevalence=0.5, decimals=6)
    low, high = bootstrap.bootstrap_intervals(labels, scores, seed=0)["roc_auc"]
    # Hanley and McNeil, 1982, of the placements: DeLong's variance, written out.
    positive, negative = scores[labels[:, 0], 0], scores[~labels[:, 0], 0]
    wins = positive[:, None] > negative[None]
    variance = wins.mean(1).var() / len(positive) + wins.mean(0).var() / len(negative)
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.08)


def test_nothing_to_resample_gives_nan_and_unknown_methods_are_refused():
    labels, scores = make_problem(0)
    low, high = bootstrap.bootstrap_intervals(labels, scores, num_resamples=0)["roc_auc"]
    assert np.isnan(low) and np.isnan(high)
    with pytest.raises(EvaluationError, match="'bca' is not known"):
        bootstrap.bootstrap_intervals(labels, scores, num_resamples=5, method="bca")


def test_speed_and_memory():
    labels, scores = make_problem(0, num_tracks=300, num_classes=30, prevalence=0.1, decimals=6)
    start = time.process_time()
    bootstrap.bootstrap_intervals(labels, scores)
    assert time.process_time() - start < 1.0
    labels, scores = make_problem(0, num_tracks=5000, num_classes=50, prevalence=0.1, decimals=6)
    tracemalloc.start()
    bootstrap.resample_metrics(labels, scores, num_resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
