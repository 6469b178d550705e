"""Attention: both ways of computing it, blocks against numpy, dropout, rematerialization."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK, build

from musrep_jax.models.attention import (
    BlockStack,
    DropPath,
    LayerNorm,
    PostNormBlock,
    PreNormBlock,
    SelfAttention,
)
from musrep_jax.models.layers import gelu
from musrep_jax.models.spectrogram_transformer import (
    SpectrogramTransformer,
    resize_positions,
    set_input_statistics,
)

X = np.random.default_rng(0).standard_normal((2, 7, 12)).astype(np.float32)
each_block = pytest.mark.parametrize("block", [PreNormBlock, PostNormBlock])


def random_variables(module, seed=1):
    """Variables with every leaf random, so that biases and scales matter."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), X)
    return jax.tree.map(
        lambda leaf: (0.5 * random.standard_normal(leaf.shape)).astype(np.float32), shapes
    )


def jitted(module, **settings):
    """The module's `apply(variables, x)` in evaluation mode."""
    apply = functools.partial(module.apply, train=False, **settings)
    return jax.jit(apply, compiler_options=QUICK)


def layer_norm(x, p, epsilon):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def attention(x, p, heads):
    """By loops over examples and heads, in float64."""
    if "qkv" in p:
        query, key, value = np.split(dense(x, p["qkv"]), 3, axis=-1)
    else:
        query, key, value = (dense(x, p[name]) for name in ("query", "key", "value"))
    size = x.shape[-1] // heads
    mixed = np.zeros_like(x)
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = query[b, :, part] @ key[b, :, part].T / math.sqrt(size)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[b, :, part] = weights / weights.sum(-1, keepdims=True) @ value[b, :, part]
    return dense(mixed, p["out"])


def feed_forward(x, p):
    h = dense(x, p["fc1"])
    return dense(h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2))), p["fc2"])


@each_block
def test_blocks_equal_numpy(block):
    module = block(num_heads=3)
    variables = random_variables(module)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = X.astype(np.float64)
    if block is PreNormBlock:
        x = x + attention(layer_norm(x, p["norm1"], 1e-6), p["attention"], 3)
        x = x + feed_forward(layer_norm(x, p["norm2"], 1e-6), p["mlp"])
    else:
        x = layer_norm(x + attention(x, p["attention"], 3), p["norm1"], 1e-12)
        x = layer_norm(x + feed_forward(x, p["mlp"]), p["norm2"], 1e-12)
    with jax.default_matmul_precision("highest"):
        actual, weights = jitted(module)(variables, X)
    assert weights is None
    np.testing.assert_allclose(actual, x, atol=2e-4)


@each_block
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_explicit_weights_give_the_same(block, dtype):
    module = block(num_heads=3)
    variables = random_variables(module)
    x = X.astype(dtype)
    short, _ = jitted(module)(variables, x)
    explicit, weights = jitted(module, return_weights=True)(variables, x)
    again, _ = jitted(module)(variables, x, override=weights)
    assert short.dtype == explicit.dtype == jnp.dtype(dtype)
    assert weights.dtype == jnp.float32
    assert weights.shape == (2, 3, 7, 7)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    tolerance = 1e-5 if dtype == "float32" else 0.1
    np.testing.assert_allclose(explicit.astype("float32"), short.astype("float32"), atol=tolerance)
    np.testing.assert_allclose(again.astype("float32"), short.astype("float32"), atol=tolerance)


def test_override_with_one_position():
    module = SelfAttention(num_heads=3)
    variables = random_variables(module)
    one_hot = jnp.zeros((1, 1, 7, 7)).at[..., 4].set(1.0)
    y, _ = jitted(module)(variables, X, override=one_hot)
    p = variables["params"]
    value = dense(X, p["qkv"])[:, :, 24:]
    expected = dense(value[:, 4], p["out"])
    np.testing.assert_allclose(y, np.repeat(expected[:, None], 7, axis=1), atol=1e-5)


def test_queries_without_bias():
    module = SelfAttention(num_heads=3, qkv_bias=False)
    params = random_variables(module)["params"]
    assert set(params["qkv"]) == {"kernel"}
    assert set(params["out"]) == {"kernel", "bias"}


def test_attention_dropout():
    module = SelfAttention(num_heads=3, attention_dropout_rate=0.5)
    variables = random_variables(module)
    run = functools.partial(module.apply, variables, X)
    plain, _ = run(train=False)
    first, weights = run(train=True, return_weights=True, rngs={"dropout": jax.random.key(1)})
    second, _ = run(train=True, rngs={"dropout": jax.random.key(2)})
    assert not np.allclose(first, second)
    assert not np.allclose(first, plain)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_drop_path_drops_whole_examples():
    x = jnp.ones((200, 3, 4))
    y = DropPath(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    per_example = y.reshape(200, -1)
    assert bool((per_example == per_example[:, :1]).all())
    assert {round(float(v), 4) for v in per_example[:, 0]} == {0.0, round(1 / 0.75, 4)}
    assert DropPath(0.25).apply({}, x, train=False) is x


@each_block
def test_rematerialisation_changes_nothing(block):
    results = []
    for remat in (False, True):
        encoder = BlockStack(
            2, functools.partial(block, num_heads=3, dropout_rate=0.2), remat=remat
        )
        variables = random_variables(encoder)

        def loss(params, encoder=encoder):
            key = {"dropout": jax.random.key(1)}
            return (encoder.apply({"params": params}, X, train=True, rngs=key)[0] ** 2).sum()

        results.append(
            jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(variables["params"])
        )
        text = str(jax.make_jaxpr(jax.grad(loss))(variables["params"]))
        assert ("remat" in text or "checkpoint" in text) == remat
    for plain, recomputed in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(plain, recomputed, rtol=1e-3, atol=1e-3)


def test_layer_norm_has_float32_statistics():
    x = (300 + X).astype(jnp.bfloat16)
    module = LayerNorm()
    y = module.apply(module.init(jax.random.key(0), x), x)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, atol=0.02)


def test_gelu_is_exact():
    assert float(gelu(jnp.float32(1.0))) == pytest.approx(0.8413447, abs=1e-6)
    exact = functools.partial(jax.nn.gelu, approximate=False)

    def compute(x):
        slopes = (
            jax.grad(lambda x: gelu(x).sum(dtype=jnp.float32))(x.astype(jnp.bfloat16)),
            jax.grad(lambda x: exact(x).sum())(x),
        )
        return gelu(x), exact(x), jax.jvp(gelu, (x,), (x,)), jax.jvp(exact, (x,), (x,)), slopes

    x = np.linspace(-6, 6, 101, dtype=np.float32)
    ours, theirs, our_jvp, their_jvp, slopes = jax.jit(compute, compiler_options=QUICK)(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(our_jvp, their_jvp, atol=2e-6)
    assert slopes[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(slopes[0].astype(np.float32), slopes[1], atol=0.02)


def test_positions_are_cut_along_frequency_and_stretched_along_time():
    random = np.random.default_rng(0)
    positions = 0.1 * random.standard_normal((2 + 24 * 24, 5)).astype(np.float32)
    resized = np.asarray(resize_positions(jnp.asarray(positions), (24, 24), (12, 49)))
    assert resized.shape == (2 + 12 * 49, 5)
    np.testing.assert_array_equal(resized[:2], positions[:2])
    rows = positions[2:].reshape(24, 24, 5)[6:18]
    at = (np.arange(49) + 0.5) * 24 / 49 - 0.5
    expected = np.stack(
        [[np.interp(at, np.arange(24), row[:, c]) for c in range(5)] for row in rows]
    ).transpose(0, 2, 1)
    np.testing.assert_allclose(resized[2:].reshape(12, 49, 5), expected, atol=1e-6)


def test_positions_are_cut_around_the_centre():
    positions = jnp.arange(2 + 12 * 49, dtype=jnp.float32)[:, None]
    cut = resize_positions(positions, (12, 49), (12, 20))
    np.testing.assert_array_equal(cut[2:22, 0], 2 + np.arange(14, 34))
    assert resize_positions(positions, (12, 49), (12, 49)) is positions


def test_transformer_reads_other_lengths():
    built = build("spectrogram_transformer")
    for num_samples in (9000, 16000, 24000):
        audio = np.zeros((1, num_samples), np.float32)
        output = jax.eval_shape(built.evaluate, built.variables, audio)
        assert output.logits.shape == (1, 5)


def test_transformer_input_statistics():
    built = build("spectrogram_transformer")
    model = built.model
    statistics = built.variables["input_statistics"]
    assert (float(statistics["mean"]), float(statistics["std"])) == (0.0, 0.5)
    log_mel = model.apply(built.variables, built.audio, method="spectrogram")
    plain = model.apply(built.variables, built.audio, train=False, method="features")
    np.testing.assert_array_equal(plain[..., 0], log_mel)
    variables = set_input_statistics(built.variables, float(log_mel.mean()), float(log_mel.std()))
    scaled = model.apply(variables, built.audio, train=False, method="features")
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-3)
    assert float(scaled.std()) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ValueError, match=r"deviation 0.0 dB"):
        set_input_statistics(built.variables, -100.0, 0.0)


def test_transformer_shows_and_takes_attention():
    built = build("spectrogram_transformer")
    model, variables = built.model, built.variables
    features = jitted(model, method="features")(variables, built.audio)
    run = functools.partial(jitted(model, method="embed"), variables, features)
    plain, _ = run()
    shown, intermediates = jitted(model, method="embed", return_weights=True)(variables, features)
    np.testing.assert_allclose(shown, plain, atol=1e-5)  # where the last block reads all tokens
    tokens = intermediates["tokens"].shape[1]
    assert intermediates["attention_2"].shape == (3, 3, tokens, tokens)
    same, _ = run(overrides={1: intermediates["attention_2"]})
    np.testing.assert_allclose(same, plain, atol=1e-5)
    one_hot = np.zeros((3, 3, tokens, tokens), np.float32)
    one_hot[..., 5] = 1
    assert not np.allclose(run(overrides={1: one_hot})[0], plain, atol=1e-3)


def test_transformer_without_distillation_token():
    model = SpectrogramTransformer(num_classes=5, variant="tiny", depth=1, distilled=False)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 127744))
    )["params"]
    assert "dist_token" not in shapes
    assert shapes["pos_embed"].shape == (1 + 12 * 49, 192)
