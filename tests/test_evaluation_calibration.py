"""Calibration against scikit-learn and by what it does to probabilities."""

import numpy as np
import pytest
from scipy import optimize

from musrep_jax.evaluation.aggregation import sigmoid
from musrep_jax.evaluation.calibration import (
    calibrate,
    calibration_error,
    fit_calibration,
    logit,
)


def draw(num: int = 4000, seed: int = 0):
    """Returns labels of known probability, and scores that are too sure and shifted."""
    random = np.random.default_rng(seed)
    true = sigmoid(random.normal([-2.0, 0.0, 1.0], 1.5, (num, 3)))
    labels = (random.random(true.shape) < true).astype(int)
    return labels, sigmoid(3 * logit(true) + 2), true


def test_the_true_probabilities_come_back():
    labels, scores, _ = draw()
    calibration = fit_calibration(labels, scores)
    assert np.allclose(calibration, [[1 / 3, -2 / 3]] * 3, atol=0.1)
    others, other_scores, other_true = draw(seed=1)
    assert np.abs(calibrate(other_scores, calibration) - other_true).max() < 0.05
    before = calibration_error(others, other_scores)
    assert calibration_error(others, calibrate(other_scores, calibration)) < before / 5


def test_equal_to_logistic_regression_without_penalty():
    from sklearn.linear_model import LogisticRegression

    labels, scores, _ = draw(20_000)  # where the smoothing of targets is negligible
    found = fit_calibration(labels, scores)
    for column in range(3):
        model = LogisticRegression(C=1e9, tol=1e-8)
        model.fit(logit(scores[:, [column]]), labels[:, column])
        expected = [model.coef_[0, 0], model.intercept_[0]]
        assert np.allclose(found[column], expected, atol=5e-3)


def test_order_never_changes_and_edge_cases_stay():
    random = np.random.default_rng(0)
    scores = random.random((60, 4))
    labels = np.zeros((60, 4), int)
    labels[:, 1] = 1
    labels[:, 2] = scores[:, 2] < 0.3  # the score says the opposite
    labels[:, 3] = scores[:, 3] > 0.5  # separable
    calibration = fit_calibration(labels, scores)
    assert calibration[:2].tolist() == [[1.0, 0.0]] * 2
    assert calibration[2, 0] == 1.0
    assert np.isfinite(calibration).all()
    found = calibrate(scores, calibration)
    assert np.allclose(found[:, 2].mean(), labels[:, 2].mean(), atol=0.02)
    for column in range(4):
        assert np.array_equal(np.argsort(found[:, column]), np.argsort(scores[:, column]))


def test_few_tracks_make_no_steep_slope():
    scores = 0.5 + 0.001 * np.arange(8)[:, None]  # hardly trained, and by chance in order
    ((slope, _),) = fit_calibration((np.arange(8) > 3)[:, None], scores)
    assert 0 < slope < 3


def test_eight_tracks_are_fitted_to_smoothed_targets():
    """Platt's targets (n + 1) / (n + 2) and 1 / (n + 2), minimized by scipy: here they matter."""
    x = np.array([-2.0, -1.5, -0.5, 0.2, 0.4, 0.9, 1.4, 2.5])
    holds = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
    high, low = 5 / 6, 1 / 6  # of four positives and four negatives
    target = np.where(holds, high, low)

    def loss(parameters, target):
        z = parameters[0] * x + parameters[1]
        likelihood = target * -np.logaddexp(0, -z) + (1 - target) * -np.logaddexp(0, z)
        return -likelihood.sum() + (parameters[0] - 1) ** 2 / 2

    ((slope, offset),) = fit_calibration(holds[:, None], sigmoid(x)[:, None])
    expected = optimize.minimize(loss, [1.0, 0.0], args=(target,), tol=1e-12).x
    np.testing.assert_allclose([slope, offset], expected, atol=1e-4)
    plain = optimize.minimize(loss, [1.0, 0.0], args=(holds.astype(float),), tol=1e-12).x
    assert plain[0] > slope + 0.3  # without smoothing the slope would be steeper


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_certainty_stays_finite(score):
    assert np.isfinite(calibrate([score], [[2.0, 1.0]])).all()
