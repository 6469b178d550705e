"""Losses against hand numbers, PyTorch-free references in float64, and their behavior at edges."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax import losses


def test_doctests():
    result = doctest.testmod(losses)
    assert result.attempted >= 4
    assert result.failed == 0


def test_binary_cross_entropy_equals_its_definition_in_float64(rng):
    logits, labels = rng.normal(size=(6, 4)) * 3, rng.integers(0, 2, (6, 4)).astype(float)
    labels[0] = 0.3
    p = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    actual = losses.binary_cross_entropy(jnp.array(logits), jnp.array(labels))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_binary_cross_entropy_is_stable_and_its_gradient_is_sigmoid_minus_label():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    labels = jnp.array([[0.0, 1.0, 0.5]])
    loss, gradient = jax.value_and_grad(losses.binary_cross_entropy)(logits, labels)
    np.testing.assert_allclose(loss, (1e4 + 1e4 + np.log(2)) / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1 / 3, -1 / 3, 0.0]], atol=1e-7)


def test_masked_examples_count_for_nothing(rng):
    logits, labels = rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3)).astype(float)
    alone = losses.binary_cross_entropy(jnp.array(logits[:3]), jnp.array(labels[:3]))
    logits[3:] = np.nan
    mask = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])
    padded = losses.binary_cross_entropy(jnp.array(logits), jnp.array(labels), mask)
    np.testing.assert_allclose(padded, alone, rtol=1e-6)
    assert losses.binary_cross_entropy(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.zeros(2)) == 0.0


def test_cross_entropy_of_indices_equals_that_of_their_rows(rng):
    logits, indices = jnp.array(rng.normal(size=(7, 5))), jnp.array(rng.integers(0, 5, 7))
    x = np.asarray(logits, np.float64)
    expected = np.mean(np.log(np.exp(x).sum(-1)) - x[np.arange(7), np.asarray(indices)])
    rows = jax.nn.one_hot(indices, 5)
    np.testing.assert_allclose(losses.cross_entropy(logits, indices), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.cross_entropy(logits, rows), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.cross_entropy])
def test_losses_are_float32_whatever_the_compute_type(loss):
    logits = jnp.ones((2, 3), jnp.bfloat16)
    assert loss(logits, jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.cross_entropy])
def test_wrong_shapes_are_refused_by_name(loss):
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)|\(2, 4\).*\(2, 3\)"):
        loss(jnp.ones((2, 3)), jnp.ones((2, 4)))


def test_tagging_loss_hands_inputs_key_and_mask_on():
    def apply(params, model_state, inputs, key, *, train, mask):
        assert train
        np.testing.assert_array_equal(mask, [1.0, 0.0])
        return inputs * params + jax.random.uniform(key), model_state + 1

    loss_fn = losses.make_tagging_loss(apply)
    inputs, labels = jnp.ones((2, 3)), jnp.ones((2, 3))
    key = jax.random.key(3)
    batch = {"audio": inputs, "labels": labels, "mask": jnp.array([1.0, 0.0])}
    loss, (model_state, metrics) = loss_fn(2.0, 10, batch, key)
    expected = np.log1p(np.exp(-(2.0 + float(jax.random.uniform(key)))))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert model_state == 11
    assert metrics == {}


@pytest.fixture
def rng():
    return np.random.default_rng(0)
