"""The formulations for CPUs equal the plain ones, in values and in every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK

from musrep_jax.kernels import cpu as cpu_kernels
from musrep_jax.kernels import cpu_maximum, formulations
from musrep_jax.models import create_model
from musrep_jax.models.attention import SelfAttention
from musrep_jax.models.band_conv import BandConv, convolve_maximum
from musrep_jax.models.layers import convolve, max_pool
from musrep_jax.training.sharding import make_mesh, replicate, shard_batch

SLOW = ("short_chunk_resnet", "tagging_transformer")
PLAIN, ALL = frozenset(), frozenset({*cpu_kernels.FORMULATIONS, "maximum"})


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def value_and_gradients(function, *arguments):
    """The value, and the gradients of a random projection of it."""

    def projected(*arguments):
        value = function(*arguments)
        return (value * draw(*value.shape, seed=9)).sum(), value

    places = tuple(range(len(arguments)))
    both = jax.jit(jax.grad(projected, argnums=places, has_aux=True), compiler_options=QUICK)
    gradients, value = both(*arguments)
    return value, *gradients


def assert_same(function, *arguments, tolerance=2e-4):
    with formulations.override_formulations(PLAIN):
        plain = value_and_gradients(function, *arguments)
    with formulations.override_formulations(ALL):
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
    monkeypatch.setattr(cpu_kernels, "BLOCK_ELEMENTS", 4000)  # several blocks, the last one partial
    x, kernel = draw(*image, channels), draw(*size, channels, features, seed=1)
    assert_same(lambda x, k: convolve(x, k, strides, padding), x, kernel)


@pytest.mark.parametrize("channels", [1, 2])
def test_tall_filters(channels):
    x, kernel = draw(2, 19, 40, channels), draw(7, 27, channels, 33, seed=1)
    assert_same(lambda x, k: convolve(x, k, (1, 1), (3, 0)), x, kernel)


@pytest.mark.parametrize(
    ("bands", "height", "length", "is_fast"),
    [(40, 27, 7, True), (41, 20, 7, True), (41, 30, 7, True), (9, 1, 17, True), (9, 1, 16, True),
     (41, 41, 3, False), (9, 3, 3, False), (9, 1, 15, False)],
)  # fmt: skip
def test_the_maximum_over_bands(bands, height, length, is_fast, monkeypatch):
    monkeypatch.setattr(cpu_maximum, "BLOCK_ELEMENTS", 2000)  # several blocks, the last one partial
    x, kernel = draw(2, 21, bands, 1), draw(length, height, 1, 5, seed=1)
    assert cpu_maximum.is_fast(x.shape, kernel.shape) == is_fast
    assert not cpu_maximum.is_fast((*x.shape[:3], 2), (length, height, 2, 5))
    pads = ((length - 1) // 2, length // 2)
    assert_same(lambda x, k: convolve_maximum(x, k, pads), x, kernel, tolerance=1e-5)


@pytest.mark.parametrize("is_rectified_first", [True, False])
@pytest.mark.parametrize("size", [(3, 18), (16, 1), (4, 3)])
def test_what_follows_the_maximum_may_fall(size, is_rectified_first):
    """Negative multipliers of BatchNorm take the minimum; the tall and the plain way alike."""
    x, layer = draw(2, 9, 25, 1), BandConv(5, size, is_rectified_first)
    variables = {
        "params": {
            "conv": {"kernel": draw(*size, 1, 5, seed=1), "bias": draw(5, seed=2)},
            "bn": {"scale": jnp.array([1.0, -2, 0, 0.5, -1]), "bias": draw(5, seed=3)},
        },
        "batch_stats": {"bn": {"mean": draw(5, seed=4), "var": draw(5, seed=5) ** 2}},
    }
    conv, bn = variables["params"]["conv"], variables["params"]["bn"]
    kernel, bias, scale, shift = map(np.array, (conv["kernel"], conv["bias"], *bn.values()))
    before = (size[0] - 1) // 2
    padded = np.pad(np.array(x)[..., 0], ((0, 0), (before, size[0] // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    y = np.einsum("btfjh,jhc->btfc", windows, kernel[:, :, 0]) + bias
    statistics = {k: np.array(v) for k, v in variables["batch_stats"]["bn"].items()}

    def normalize(y):
        return (y - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * scale + shift

    expected = normalize(np.maximum(y, 0)) if is_rectified_first else np.maximum(normalize(y), 0)
    for names in (PLAIN, ALL):
        with formulations.override_formulations(names):
            found = layer.apply(variables, x, train=False)
        np.testing.assert_allclose(found, expected.max(axis=2), atol=2e-4)


@pytest.mark.parametrize(
    ("shape", "window"), [((2, 13, 10, 3), (2, 2)), ((2, 30, 9, 2), (4, 3)), ((3, 28, 4), (3,))]
)
def test_pooling(shape, window):
    assert_same(lambda x: max_pool(x, window), draw(*shape))


@pytest.mark.parametrize("shape", [(3, 37, 4, 8), (2, 5, 1, 16)])
def test_attention(shape):
    query, key, value = (draw(*shape, seed=seed) for seed in range(3))
    assert_same(cpu_kernels.attend, query, key, value)
    plain = value_and_gradients(jax.nn.dot_product_attention, query, key, value)
    fast = value_and_gradients(cpu_kernels.attend, query, key, value)
    for ours, theirs in zip(fast, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_attention_of_the_layer_is_taken_from_here():
    layer, x = SelfAttention(num_heads=2), draw(2, 9, 8)
    variables = layer.init(jax.random.key(0), x, train=False)
    assert_same(lambda x: layer.apply(variables, x, train=True)[0], x)
    with formulations.override_formulations(ALL):
        text = str(jax.make_jaxpr(lambda x: layer.apply(variables, x, train=True)[0])(x))
    assert "custom_vjp" in text


def test_large_scores_do_not_overflow():
    query = 300 * draw(1, 6, 2, 4)
    plain = jax.nn.dot_product_attention(query, query, query)
    np.testing.assert_allclose(cpu_kernels.attend(query, query, query), plain, rtol=1e-5)


def test_the_first_of_equal_maxima_gets_the_gradient():
    gradient = jax.grad(lambda x: cpu_kernels.max_pool(x, (2,)).sum())(jnp.ones((1, 4, 1)))
    np.testing.assert_allclose(gradient.ravel(), [1, 0, 1, 0])
    # Not a number is not lost: training stops on it.
    assert jnp.isnan(cpu_kernels.max_pool(jnp.array([[[1.0], [jnp.nan]]]), (2,))).all()


def test_a_batch_split_over_devices_gives_the_same_numbers():
    kernel = draw(3, 3, 4, 32, seed=1)

    def loss(kernel, x):
        y = max_pool(convolve(x, kernel, (1, 1), (1, 1)), (2, 2))
        tokens = y.reshape(y.shape[0], -1, 4, 8)
        return (cpu_kernels.attend(tokens, tokens, tokens) ** 2).mean()

    x = draw(16, 12, 10, 4)
    mesh = make_mesh(8)
    split = shard_batch({"audio": np.asarray(x)}, mesh)["audio"]
    with formulations.override_formulations(ALL):
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        whole, sharded = gradient(kernel, x), gradient(replicate(kernel, mesh), split)
    for ours, theirs in zip(sharded, whole, strict=True):  # either is 8e-6 from float64
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_bfloat16_stays_bfloat16_and_near():
    x, kernel = draw(2, 20, 16, 8).astype(jnp.bfloat16), draw(3, 3, 8, 32, seed=1)
    function = lambda x: convolve(x, kernel.astype(jnp.bfloat16), (1, 1), (1, 1))  # noqa: E731
    with formulations.override_formulations(ALL):
        value, gradient = value_and_gradients(function, x)
    assert value.dtype == gradient.dtype == jnp.bfloat16
    assert_same(function, x, tolerance=0.02)


@pytest.mark.parametrize(
    "name",
    ["musicnn", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)],
)
def test_a_whole_model_gives_the_same_gradient(name):
    settings = {
        "short_chunk_resnet": {"n_channels": 32, "num_samples": 12000},
        "musicnn": {
            "n_mels": 32,
            "vertical_channels": 32,
            "horizontal_lengths": (9,),
            "horizontal_channels": 2,
            "backend_channels": 4,
            "dense_width": 8,
            "num_samples": 6000,
        },
        "tagging_transformer": {"conv_channels": 32, "width": 16, "num_samples": 16000},
    }[name]
    model = create_model(name, 3, settings)
    audio = 0.1 * draw(8, model.num_samples)  # with two, BatchNorm divides by almost nothing
    with formulations.override_formulations(PLAIN):
        init = lambda key: model.init(key, audio, train=False)  # noqa: E731
        variables = jax.jit(init, compiler_options=QUICK)(jax.random.key(0))

    def gradient(names):
        def loss(params):
            output, _ = model.apply(
                {**variables, "params": params}, audio, train=True, mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )  # fmt: skip
            return (output.logits * draw(8, 3, seed=4)).sum()

        with formulations.override_formulations(names):
            return jax.jit(jax.grad(loss), compiler_options=QUICK)(variables["params"])

    plain, fast = gradient(PLAIN), gradient(ALL)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * largest)


def test_several_devices_take_the_plain_path():
    assert jax.device_count() > 1
    assert not any(formulations.is_used(name) for name in cpu_kernels.FORMULATIONS)
    with formulations.override_formulations(ALL):
        assert all(formulations.is_used(name) for name in cpu_kernels.FORMULATIONS)
    assert not formulations.is_used("pooling")


def test_an_unknown_formulation_is_named():
    wrong = formulations.override_formulations(frozenset({"pool"}))
    with pytest.raises(ValueError, match="no formulation 'pool'"), wrong:
        pass
