"""What is made for a GPU computes what the plain formulations compute; here on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK

from musrep_jax.kernels import formulations
from musrep_jax.kernels import gpu as gpu_kernels
from musrep_jax.models.attention import SelfAttention
from musrep_jax.models.layers import BatchNorm, Dense, convolve, max_pool
from musrep_jax.tasks.profiling import count_flops


def draw(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_gradients(function, names, *arguments):
    every = tuple(range(len(arguments)))

    def both(*arguments):
        value = function(*arguments)
        weights = draw(*value.shape, seed=9)
        return value, *jax.grad(lambda *a: (function(*a) * weights).sum(), every)(*arguments)

    with formulations.override_formulations(frozenset(names)):
        return jax.jit(both, compiler_options=QUICK)(*arguments)


def test_tall_kernels_equal_plain_ones():
    x, kernel = draw(2, 19, 40, 1), draw(7, 17, 1, 5, seed=1)
    function = lambda x, kernel: convolve(x, kernel, (1, 1), (3, 8))  # noqa: E731
    plain = value_and_gradients(function, (), x, kernel)
    with formulations.override_formulations(frozenset({"patches"})):
        assert "dot_general" not in str(jax.make_jaxpr(function)(x, kernel))
        assert str(jax.make_jaxpr(function)(x, kernel)).count("conv_general_dilated[") == 2
    for ours, theirs in zip(
        value_and_gradients(function, ("patches",), x, kernel), plain, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))


def test_short_kernels_many_channels_and_strides_are_left_alone():
    assert gpu_kernels.is_tall((7, 16, 1, 4), (1, 1))
    assert not gpu_kernels.is_tall((7, 15, 1, 4), (1, 1))
    assert not gpu_kernels.is_tall((7, 16, 2, 4), (1, 1))
    assert not gpu_kernels.is_tall((7, 16, 1, 4), (1, 2))


class FakeGPU:
    def __init__(self, compute_capability):
        self.compute_capability = compute_capability


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "chosen"),
    [
        ("9.0", jnp.bfloat16, 64, "cudnn"),
        ("8.0", jnp.float16, 32, "cudnn"),
        ("9.0", jnp.float32, 64, None),
        ("9.0", jnp.bfloat16, 20, None),
        ("9.0", jnp.bfloat16, 256, None),
        ("7.5", jnp.bfloat16, 64, None),
        ("gfx90a", jnp.bfloat16, 64, None),
    ],
)
def test_fused_attention_where_it_can_be_had(monkeypatch, capability, dtype, width, chosen):
    query = jax.ShapeDtypeStruct((2, 5, 4, width), dtype)
    assert gpu_kernels.attention_implementation(query) is None  # this is a CPU
    monkeypatch.setattr(jax, "devices", lambda: [FakeGPU(capability)])
    with formulations.override_formulations(frozenset({"flash_attention"})):
        assert gpu_kernels.attention_implementation(query) == chosen
    with formulations.override_formulations(frozenset()):
        assert gpu_kernels.attention_implementation(query) is None


def test_each_backend_takes_its_own(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert formulations.get_active_formulations() == {
        "convolution",
        "attention",
        "pooling",
        "maximum",
    }
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert formulations.get_active_formulations() == frozenset()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert formulations.get_active_formulations() == {
        "patches",
        "flash_attention",
        "pooling",
        "rows",
    }
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert formulations.get_active_formulations() == frozenset()


def test_dense_layers_of_sequences():
    layer, x = Dense(4), draw(2, 5, 3)
    variables = layer.init(jax.random.key(0), x)
    plain = value_and_gradients(lambda x: layer.apply(variables, x), (), x)
    ours = value_and_gradients(lambda x: layer.apply(variables, x), ("rows",), x)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_tokens_in_rows_are_the_same_tokens(monkeypatch):
    x = draw(2, 3, 4)
    with formulations.override_formulations(frozenset({"rows"})):
        assert gpu_kernels.make_last_axis_contiguous(x) is x  # there are several devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    function = jax.jit(lambda x: jnp.tanh(gpu_kernels.make_last_axis_contiguous(x)))
    plain = value_and_gradients(jnp.tanh, (), x)
    for one, other in zip(value_and_gradients(function, ("rows",), x), plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with formulations.override_formulations(frozenset({"rows"})):
        assert "layout_constraint" in str(jax.make_jaxpr(gpu_kernels.make_last_axis_contiguous)(x))


def test_pooling_by_large_windows():
    """Of more places than a byte can number, 272; each place is an operation to compile."""
    x = draw(1, 17, 32, 1)
    plain = value_and_gradients(lambda x: max_pool(x, (17, 16)), (), x)
    ours = value_and_gradients(lambda x: max_pool(x, (17, 16)), ("pooling",), x)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["bias", "scale"])
def test_gradients_of_bfloat16_are_summed_in_float32(name):
    """In bfloat16 a sum of ones stops at 256."""
    layer = Dense(1) if name == "bias" else BatchNorm()
    options = {} if name == "bias" else {"train": False}
    x = jnp.ones((3000, 1), jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x, **options)

    def total(params):
        y = layer.apply({**variables, "params": params}, x, **options)
        return y.sum(dtype=jnp.float32)

    jaxpr = str(jax.make_jaxpr(jax.grad(total))(variables["params"]))
    assert "bf16[1] = reduce_sum" not in jaxpr
    assert jax.grad(total)(variables["params"])[name] == pytest.approx(3000, rel=1e-3)


def test_operations_are_counted_in_the_plain_formulation():
    layer, x = SelfAttention(2), draw(1, 5, 8)
    init = jax.jit(layer.init, static_argnames="train", compiler_options=QUICK)
    variables = init(jax.random.key(0), x, train=False)
    counted = count_flops(lambda v, x: layer.apply(v, x, train=False)[0], variables, x)
    assert counted == 2 * (5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8)
    with formulations.override_formulations(frozenset({"patches"})):
        tall = count_flops(
            lambda x, k: convolve(x, k, (1, 1), (0, 0)), draw(1, 9, 20, 1), draw(3, 17, 1, 2)
        )
    assert tall == 2 * 7 * 4 * 3 * 17 * 2
