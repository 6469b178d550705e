"""WARP against a plain loop that visits one label after the other, and the statistics of draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.losses import WARP_SCHEMES, find_violators, warp_loss

warp_loss = jax.jit(warp_loss, static_argnames="scheme")
find_violators = jax.jit(find_violators, static_argnames="scheme")
each_scheme = pytest.mark.parametrize("scheme", sorted(WARP_SCHEMES))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def visit_one_by_one(scores, labels, positive_draws, draws, scheme):
    """Returns (positive, negative, number visited) of one example, or None; nothing vectorized."""
    positives = [k for k in range(len(labels)) if labels[k] > 0]
    negatives = [k for k in range(len(labels)) if labels[k] == 0]
    if not positives or not negatives:
        return None
    positive = min(positives, key=lambda k: positive_draws[k])
    if scheme == "permutation":
        order = sorted(negatives, key=lambda k: draws[k])
    else:
        order = [negatives[int(u * np.float32(len(negatives)))] for u in draws[: len(labels) - 1]]
    for number, negative in enumerate(order, start=1):
        if scores[negative] > scores[positive] - 1:
            return positive, negative, number
    return None


def make_examples(rng, num_labels, batch=100):
    scores = rng.normal(size=(batch, num_labels)).astype(np.float32) * 1.5
    labels = (rng.random((batch, num_labels)) < min(0.4, 2 / num_labels)).astype(np.float32)
    labels[0], labels[1] = 0, 1  # no label holds, all hold
    scores[2, labels[2] == 0] = -50  # none violates
    return scores, labels


@each_scheme
@pytest.mark.parametrize("num_labels", [2, 160])
def test_violators_are_those_of_the_loop(scheme, num_labels, rng):
    scores, labels = make_examples(rng, num_labels)
    first, second = draw(rng, scores.shape)
    found = jax.device_get(find_violators(scores, labels, first, second, scheme=scheme))
    num_found = 0
    for row in range(len(scores)):
        expected = visit_one_by_one(scores[row], labels[row], first[row], second[row], scheme)
        assert found.is_found[row] == (expected is not None), row
        if expected is not None:
            chosen = (found.positive[row], found.negative[row], found.num_visited[row])
            assert chosen == expected, row
            num_found += 1
    assert num_found > 20


@each_scheme
def test_loss_and_gradients_are_those_of_the_loop(scheme, rng):
    """`dV = L (W_j' - W_j) x`, `dW_j = -L V x` and `dW_j' = L V x`, each over the batch's size."""
    num_labels, width, size = 11, 5, 7
    x = rng.normal(size=(30, size)).astype(np.float32)
    v = rng.normal(size=(width, size)).astype(np.float32)
    w = rng.normal(size=(width, num_labels)).astype(np.float32) * 0.3
    _, labels = make_examples(rng, num_labels, 30)
    mask = np.ones(30, np.float32)
    mask[-3:] = 0
    key = jax.random.key(5)

    def loss_of(v, w):
        return warp_loss(jnp.asarray(x) @ v.T @ w, jnp.asarray(labels), key, mask, scheme=scheme)

    loss, (dv, dw) = jax.value_and_grad(loss_of, argnums=(0, 1))(v, w)
    first, second = (
        np.asarray(jax.random.uniform(part, labels.shape)) for part in jax.random.split(key)
    )
    expected, expected_dv, expected_dw = 0.0, np.zeros(v.shape), np.zeros(w.shape)
    scores = x @ v.T @ w
    for row in range(27):
        one = visit_one_by_one(scores[row], labels[row], first[row], second[row], scheme)
        if one is None:
            continue
        positive, negative, number = one
        weight = sum(1 / k for k in range(1, (num_labels - 1) // number + 1))
        expected += weight * (1 - scores[row, positive] + scores[row, negative]) / 27
        expected_dv += weight * np.outer(w[:, negative] - w[:, positive], x[row]) / 27
        expected_dw[:, positive] -= weight * v @ x[row] / 27
        expected_dw[:, negative] += weight * v @ x[row] / 27
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(dv, expected_dv, atol=1e-5)
    np.testing.assert_allclose(dw, expected_dw, atol=1e-5)


def draw(rng, shape):
    return [rng.random(shape).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize(
    ("scheme", "mean_weight", "misses"),
    [("permutation", 1.475, 0.0), ("with_replacement", 1.079, 0.34)],
)
def test_mean_weight_and_misses_are_those_of_the_closed_form(scheme, mean_weight, misses, rng):
    """Nine labels, one positive and one violator: with replacement a third is not found."""
    scores = np.full((5_000, 9), -9.0, np.float32)
    scores[:, :2] = 0.0
    labels = np.zeros_like(scores)
    labels[:, 0] = 1
    found = jax.device_get(find_violators(scores, labels, *draw(rng, scores.shape), scheme=scheme))
    sums = np.cumsum(1 / np.arange(1, 9))
    weights = np.where(found.is_found, sums[8 // found.num_visited - 1], 0)
    np.testing.assert_allclose(weights.mean(), mean_weight, atol=0.05)
    np.testing.assert_allclose(1 - found.is_found.mean(), misses, atol=0.02)


@each_scheme
def test_positives_and_violators_are_drawn_uniformly(scheme, rng):
    scores = np.zeros((5_000, 9), np.float32)
    labels = np.zeros_like(scores)
    labels[:, :2] = 1
    found = find_violators(scores, labels, *draw(rng, scores.shape), scheme=scheme)
    np.testing.assert_allclose(np.bincount(found.positive) / 5_000, [1 / 2] * 2, atol=0.03)
    np.testing.assert_allclose(np.bincount(found.negative)[2:] / 5_000, [1 / 7] * 7, atol=0.03)
    assert (found.num_visited == 1).all()


def test_shapes_that_cannot_be_are_one_sentence():
    with pytest.raises(ValueError, match="at least two labels"):
        warp_loss(jnp.zeros((3, 1)), jnp.zeros((3, 1)), jax.random.key(0))
