"""The formulations for CPUs equal the plain ones, in values and in every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.models import cpu_kernels, create_model
from musrep_jax.models.layers import BatchNorm, convolve, max_pool

PLAIN, ALL = frozenset(), frozenset(cpu_kernels.FORMULATIONS)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def value_and_gradients(function, *arguments):
    """The value, and the gradients of a random projection of it."""
    value = function(*arguments)
    weights = draw(*value.shape, seed=9)
    gradients = jax.grad(
        lambda *a: (function(*a) * weights).sum(), argnums=tuple(range(len(arguments)))
    )(*arguments)
    return value, *gradients


def assert_same(function, *arguments, tolerance=2e-4):
    with cpu_kernels.restricted_to(PLAIN):
        plain = value_and_gradients(function, *arguments)
    with cpu_kernels.restricted_to(ALL):
        fast = value_and_gradients(function, *arguments)
    for ours, theirs in zip(fast, plain, strict=True):
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("image", "size", "channels", "features", "strides", "padding"),
    [
        ((4, 23, 17), (3, 3), 6, 32, (1, 1), (1, 1)),
        ((3, 24, 18), (3, 3), 5, 40, (2, 2), (1, 1)),
        ((2, 40, 33), (3, 3), 1, 32, (1, 1), (1, 1)),
        ((4, 6, 5), (3, 3), 12, 32, (1, 1), (1, 1)),
        ((2, 30, 20), (5, 1), 3, 32, (1, 1), (2, 0)),
        ((2, 31, 21), (3, 3), 4, 8, (2, 1), (1, 1)),
    ],
)
def test_convolution(image, size, channels, features, strides, padding, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "GRADIENT_BLOCK", 4000)  # several blocks, the last one partial
    x, kernel = draw(*image, channels), draw(*size, channels, features, seed=1)
    assert_same(lambda x, k: convolve(x, k, strides, padding), x, kernel)


@pytest.mark.parametrize("channels", [1, 2])
def test_tall_filters(channels):
    x, kernel = draw(2, 19, 40, channels), draw(7, 27, channels, 33, seed=1)
    assert_same(lambda x, k: convolve(x, k, (1, 1), (3, 0)), x, kernel)


@pytest.mark.parametrize(
    ("shape", "window"), [((2, 13, 10, 3), (2, 2)), ((2, 30, 9, 2), (4, 3)), ((3, 28, 4), (3,))]
)
def test_pooling(shape, window):
    assert_same(lambda x: max_pool(x, window), draw(*shape))


def test_batch_norm_and_its_running_statistics():
    x, layer = 3 * draw(6, 7, 5, 4) + 1, BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    params = {"scale": draw(4, seed=2), "bias": draw(4, seed=3)}

    def apply(x, scale, bias):
        variables["params"] = {"scale": scale, "bias": bias}
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])

    assert_same(lambda *a: apply(*a)[0], x, params["scale"], params["bias"])
    found = []
    for names in (PLAIN, ALL):
        with cpu_kernels.restricted_to(names):
            found.append(apply(x, params["scale"], params["bias"])[1]["batch_stats"])
    for name in ("mean", "var"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)


def test_bfloat16_stays_bfloat16_and_near():
    x, kernel = draw(2, 20, 16, 8).astype(jnp.bfloat16), draw(3, 3, 8, 32, seed=1)
    function = lambda x: convolve(x, kernel.astype(jnp.bfloat16), (1, 1), (1, 1))  # noqa: E731
    with cpu_kernels.restricted_to(ALL):
        value, gradient = value_and_gradients(function, x)
    assert value.dtype == gradient.dtype == jnp.bfloat16
    assert_same(function, x, tolerance=0.02)


@pytest.mark.parametrize("name", ["short_chunk_resnet", "musicnn"])
def test_a_whole_model_gives_the_same_gradient(name):
    settings = {
        "short_chunk_resnet": {"n_channels": 32, "num_samples": 12000},
        "musicnn": {"vertical_channels": 32, "backend_channels": 8, "num_samples": 12000},
    }[name]
    model = create_model(name, 3, settings)
    audio = 0.1 * draw(8, model.num_samples)  # with two, BatchNorm divides by almost nothing
    with cpu_kernels.restricted_to(PLAIN):
        variables = jax.jit(lambda key: model.init(key, audio, train=False))(jax.random.key(0))

    def gradient(names):
        def loss(params):
            output, _ = model.apply(
                {**variables, "params": params}, audio, train=True, mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )  # fmt: skip
            return (output.logits * draw(8, 3, seed=4)).sum()

        with cpu_kernels.restricted_to(names):
            return jax.jit(jax.grad(loss))(variables["params"])

    plain, fast = gradient(PLAIN), gradient(ALL)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * largest)


def test_several_devices_take_the_plain_path():
    assert jax.device_count() > 1
    assert not any(cpu_kernels.is_used(name) for name in cpu_kernels.FORMULATIONS)
    with cpu_kernels.restricted_to(ALL):
        assert all(cpu_kernels.is_used(name) for name in cpu_kernels.FORMULATIONS)
    assert not cpu_kernels.is_used("pooling")
