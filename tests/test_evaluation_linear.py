"""Ridge and logistic regressions are scikit-learn's; the strength is chosen by the score given."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from musrep_jax.evaluation.linear import choose_linear, fit_logistic, fit_ridge


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 7))
    logits = features @ random.standard_normal((7, 3)) + random.standard_normal((60, 3))
    weights = random.uniform(0.5, 2, 60)
    return features, logits, weights / weights.sum()


def test_ridge_is_that_of_scikit_learn(examples):
    features, logits, weights = examples
    targets = (logits > 0).astype(float)
    for found in fit_ridge(features, targets, weights, (0.01, 1.0)):
        # scikit-learn's penalty stands beside the sum of weighted squares.
        reference = Ridge(alpha=found.strength).fit(features, 2 * targets - 1, weights)
        np.testing.assert_allclose(found.logits(features), reference.predict(features), atol=1e-8)


def test_logistic_regression_is_that_of_scikit_learn(examples):
    features, logits, weights = examples
    targets = (logits > 0).astype(float)
    for found in fit_logistic(features, targets, weights, (0.01, 0.1)):
        for label in range(3):
            reference = LogisticRegression(C=1 / found.strength, tol=1e-8, max_iter=1000)
            reference.fit(features, targets[:, label], weights)
            expected = reference.decision_function(features)
            np.testing.assert_allclose(found.logits(features)[:, label], expected, atol=2e-3)


def test_exclusive_classes_are_one_multinomial_regression(examples):
    features, logits, weights = examples
    classes = logits.argmax(axis=1)
    (found,) = fit_logistic(features, np.eye(3)[classes], weights, (0.05,), is_exclusive=True)
    reference = LogisticRegression(C=1 / 0.05, tol=1e-8, max_iter=1000)
    expected = reference.fit(features, classes, weights).predict_log_proba(features)
    ours = found.logits(features)
    ours = ours - np.log(np.exp(ours).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_the_best_by_the_score_is_chosen(examples):
    features, logits, weights = examples
    targets = (logits > 0).astype(float)
    wanted = {"name": "ridge", "strength": 0.1}
    chosen = choose_linear(
        features, targets, weights,
        lambda linear: (
            float("nan") if linear.name == "logistic" else -abs(linear.strength - 0.1), 0.0
        ),
    )  # fmt: skip
    assert {"name": chosen.name, "strength": chosen.strength} == wanted
    # Of equals the first, which is the logistic regression with the strongest penalty.
    assert choose_linear(features, targets, weights, lambda linear: (0.0, 0.0)).strength == 10.0
    # Between equal metrics the second number decides.
    found = choose_linear(features, targets, weights, lambda x: (0.0, -abs(x.strength - 1e-3)))
    assert found.strength == 1e-3


def test_ridge_values_get_the_sharpness_that_the_loss_wants(examples):
    features, logits, weights = examples
    targets = np.eye(3)[logits.argmax(axis=1)]

    def score(linear):
        values = linear.logits(features)
        values = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        return float(linear.name == "ridge" and linear.strength == 0.01), (values * targets).mean()

    chosen = choose_linear(features, targets, weights, score, is_exclusive=True)
    (plain,) = fit_ridge(features, targets, weights, (0.01,))
    np.testing.assert_allclose(chosen.weights / plain.weights, chosen.bias[0] / plain.bias[0])
    assert score(chosen)[1] > score(plain)[1] + 0.05
    assert (chosen.logits(features).argmax(axis=1) == plain.logits(features).argmax(axis=1)).all()


def test_a_label_that_all_or_no_examples_have_stays_finite(examples):
    features, _, weights = examples
    targets = np.stack([np.ones(60), np.zeros(60)], axis=1)
    for found in [
        *fit_logistic(features, targets, weights),
        *fit_ridge(features, targets, weights),
    ]:
        assert np.isfinite(found.logits(features)).all()
