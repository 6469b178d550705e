"""Layers and architectures against numbers worked out by hand, from what the papers' code does."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK, build, draw_variables, make_audio
from flax import traverse_util
from toy_tracks import CHUNK, NUM_SAMPLES, ToyTracks

from musrep_jax.data.audio import log_mel as stored_log_mel
from musrep_jax.data.input.pipeline import make_chunk_table
from musrep_jax.models import create_model
from musrep_jax.models.layers import BatchNorm, ConvBlock, ResBlock, max_pool
from musrep_jax.models.sample_cnn import SEResBlock
from musrep_jax.models.short_chunk_cnn import ShortChunkCNN
from musrep_jax.models.spectrogram_transformer import SpectrogramTransformer
from musrep_jax.weights.state_dicts import variable_shapes


def zeros_like(module, x):
    """The module's variables with all parameters zero, but for scales, which stay 1."""
    variables = module.init(jax.random.key(0), x, train=False)
    leaves, tree = jax.tree_util.tree_flatten_with_path(variables["params"])
    zero = [leaf * (path[-1].key == "scale") for path, leaf in leaves]
    return {**variables, "params": jax.tree.unflatten(tree, zero)}


def test_running_statistics_are_those_of_pytorch():
    """Of 1, 2, 6: mean 3, variance 14/3 in the batch and 7 unbiased; a tenth of it is new.

    PyTorch 2: BatchNorm1d(1)(tensor([[1], [2], [6]])) leaves running_mean 0.3, running_var 1.6; the
    second batch 5, 5, 5, 9 (mean 6, variance 3, unbiased 4) leaves 0.87 and 1.84.
    """
    layer, first = BatchNorm(), jnp.array([[1.0], [2.0], [6.0]])
    variables = layer.init(jax.random.key(0), first, train=False)
    y, updated = layer.apply(variables, first, train=True, mutable=["batch_stats"])
    expected = np.array([[-2], [-1], [3]]) / np.sqrt(14 / 3 + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.3], rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.6], rtol=1e-5)
    second = jnp.array([[[5.0], [5.0]], [[5.0], [9.0]]])  # steps count as examples do
    _, again = layer.apply({**variables, **updated}, second, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(again["batch_stats"]["mean"], [0.87], rtol=1e-5)
    np.testing.assert_allclose(again["batch_stats"]["var"], [1.84], rtol=1e-5)


def test_batch_norm_adds_a_hundred_thousandth_to_the_variance():
    layer, x = BatchNorm(), jnp.array([[1.0, 1.0]])
    variables = layer.init(jax.random.key(0), x, train=False)
    statistics = {"mean": jnp.zeros(2), "var": jnp.array([3e-5, 0.0])}
    y = layer.apply({**variables, "batch_stats": statistics}, x, train=False)
    np.testing.assert_allclose(y, [[158.113883, 316.227766]], rtol=1e-5)


def test_pooling_is_the_maximum_and_leaves_a_remainder_out():
    x = jnp.array([1.0, 5.0, -2.0, -3.0, 9.0]).reshape(1, 5, 1)
    np.testing.assert_array_equal(max_pool(x, (2,))[0, :, 0], [5, -2])
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(image, (2, 2))[0, :, :, 0], [[5, 7], [13, 15]])
    block = ConvBlock(1, (1,), pool=(2,))
    variables = zeros_like(block, x)
    variables["params"]["conv"]["kernel"] = jnp.ones((1, 1, 1))
    # ReLU stands before the pooling; BatchNorm divides by sqrt(1 + 1e-5).
    np.testing.assert_allclose(block.apply(variables, x, train=False)[0, :, 0], [5, 0], rtol=1e-5)


def test_residual_blocks_add_before_the_last_relu():
    """Both convolutions zero; the second BatchNorm moves by -1/2: relu(x - 1/2).

    With ReLU before the addition it would be x, which keeps its negative values.
    """
    x = jnp.array([-1.0, 2.0]).reshape(1, 2, 1, 1)
    block = ResBlock(1, (1, 1))
    variables = zeros_like(block, x)
    variables["params"]["bn_2"]["bias"] = jnp.array([-0.5])
    np.testing.assert_array_equal(block.apply(variables, x, train=False).ravel(), [0, 1.5])
    gated = SEResBlock(1, 1)
    variables = zeros_like(gated, x[..., 0])
    variables["params"]["bn_2"]["bias"] = jnp.array([-0.5])
    # The gate of zeros is sigmoid(0) = 1/2.
    np.testing.assert_array_equal(gated.apply(variables, x[..., 0], train=False).ravel(), [0, 1.75])


def test_shortcuts_that_change_the_shape_have_no_relu():
    """The shortcut gives -x, the other branch +1: relu(1 - x)."""
    x = jnp.array([0.25, 2.0, -3.0]).reshape(1, 3, 1, 1)
    block = ResBlock(1, (1, 1), strides=(1, 1))
    variables = zeros_like(block, x)
    variables["params"]["conv_3"]["kernel"] = -jnp.ones((1, 1, 1, 1))
    variables["params"]["bn_2"]["bias"] = jnp.array([1.0])
    found = block.apply(variables, x, train=False).ravel()
    np.testing.assert_allclose(found, [0.75, 0, 4], rtol=1e-4)


@pytest.mark.parametrize("name", ["musicnn", "musicnn_big"])
def test_musicnn_adds_its_second_and_third_layer_to_what_comes_in(name):
    """The map before pooling holds f, r1, r1 + l2, r1 + l2 + l3; maximum first, then mean."""
    built = build(name)
    found = jax.tree.map(np.asarray, built.evaluate(built.variables, built.audio).intermediates)
    front = np.concatenate([found[f"branch_{index}"] for index in range(5)], axis=-1)
    first = found["layer_1"]
    second = first + found["layer_2"]
    third = second + found["layer_3"]
    whole = np.concatenate([front, first, second, third], axis=-1)
    np.testing.assert_allclose(found["feature_map"], whole, rtol=1e-6)
    pooled = np.concatenate([whole.max(axis=1), whole.mean(axis=1)], axis=-1)
    np.testing.assert_allclose(found["pooled"], pooled, rtol=1e-4, atol=1e-5)


class Pass(nn.Module):
    """A block that changes nothing, so that the last map is the spectrogram itself."""

    def __call__(self, x, *, train):
        return x


class Unpooled(ShortChunkCNN):
    """The end of a short-chunk CNN, over a map of many cells."""

    def make_block(self, index, features):
        return Pass()


@pytest.mark.parametrize(
    "model",
    [
        Unpooled(num_classes=2, n_channels=2, num_samples=33000),
        # Nine steps are left of the 313.
        create_model("harmonic_cnn", 2, {"n_channels": 2, "pools": ((2, 2),) * 5 + ((1, 2),) * 2}),
    ],
    ids=["short_chunk_cnn", "harmonic_cnn"],
)
def test_the_last_map_is_pooled_by_its_maximum(model):
    audio, variables = make_audio(model.num_samples, batch=2), draw_variables(model)
    run = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)
    output = run(variables, audio)
    feature_map = np.asarray(output.intermediates["feature_map"])
    assert feature_map.shape[1] * feature_map.shape[2] > 8
    params, statistics = (
        jax.tree.map(np.asarray, variables[kind]) for kind in ("params", "batch_stats")
    )
    x = feature_map.max(axis=(1, 2)) @ params["dense1"]["kernel"] + params["dense1"]["bias"]
    x = (x - statistics["bn"]["mean"]) / np.sqrt(statistics["bn"]["var"] + 1e-5)
    x = np.maximum(x * params["bn"]["scale"] + params["bn"]["bias"], 0)
    assert x.max() > 0
    np.testing.assert_allclose(output.embedding, x, rtol=1e-3, atol=1e-3)


def test_the_distillation_token_is_half_of_the_embedding():
    built = build("spectrogram_transformer")
    found = built.evaluate(built.variables, built.audio).intermediates
    tokens = np.asarray(found["tokens"])
    assert tokens.shape[1] == 2
    np.testing.assert_allclose(found["pooled"], (tokens[:, 0] + tokens[:, 1]) / 2, atol=1e-6)
    params = dict(built.variables["params"])
    params["dist_token"] = params["dist_token"] + np.sin(np.arange(24, dtype=np.float32))
    moved = built.evaluate({**built.variables, "params": params}, built.audio).intermediates
    assert np.abs(moved["tokens"][:, 1] - tokens[:, 1]).max() > 0.1
    assert np.abs(moved["patch_tokens"] - found["patch_tokens"]).max() == 0


def test_special_tokens_stand_in_front_and_have_positions_of_their_own():
    """Without blocks: norm(token + position), class token first."""
    model = SpectrogramTransformer(
        num_classes=2, variant="tiny", width=6, num_heads=1, depth=0, num_samples=8000
    )
    random, flat = np.random.default_rng(3), {}
    for path, shape in variable_shapes(model).items():
        flat[path] = random.uniform(0.5, 1, shape.shape).astype(np.float32)
    variables = traverse_util.unflatten_dict(flat)
    audio = build("spectrogram_transformer").audio[:1, :8000]
    run = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)
    tokens = run(variables, audio).intermediates["tokens"]
    params = jax.tree.map(np.asarray, variables["params"])
    for place, name in enumerate(("cls_token", "dist_token")):
        x = params[name] + params["pos_embed"][place]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        x = x * params["norm"]["scale"] + params["norm"]["bias"]
        np.testing.assert_allclose(tokens[0, place], x, rtol=1e-3, atol=1e-3)


def test_stored_spectrograms_end_at_minus_100_decibels():
    """Below a power of 1e-10 there is nothing; above, the value is its own: a thousandth of the
    level is 60 dB less."""
    silence = stored_log_mel.log_mel(np.zeros(1024, np.float32))
    assert silence.shape == (5, 128)
    assert (silence == -100).all()
    noise = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    assert (stored_log_mel.log_mel(1e-8 * noise) == -100).all()
    loud, quiet = (stored_log_mel.log_mel(level * noise) for level in (1.0, 1e-3))
    seen = stored_log_mel.mel_filters(16000, 512, 128, 0.0, 8000.0).any(axis=0)
    np.testing.assert_allclose(loud[:, seen] - quiet[:, seen], 60, atol=1e-2)
    assert (loud[:, ~seen] == -100).all()


def test_the_last_whole_chunk_is_kept_where_the_tail_is_dropped():
    """A track of three whole chunks has three; one of two and a half has two."""
    tracks = ToyTracks(5, seed=0)
    tracks.num_samples = np.array([1, 2, 3, 2, 1]) * NUM_SAMPLES + np.array([0, 0, 0, 8, -3])
    table = make_chunk_table(tracks, CHUNK, tail="drop")
    by_track = [table[table[:, 0] == index, 1].tolist() for index in range(5)]
    assert by_track == [[0], [0, 16], [0, 16, 32], [0, 16], [0]]
    half = make_chunk_table(tracks, CHUNK, hop_seconds=0.008, tail="drop")
    assert half[half[:, 0] == 1, 1].tolist() == [0, 8, 16]
    assert half[half[:, 0] == 3, 1].tolist() == [0, 8, 16, 24]
    kept = make_chunk_table(tracks, CHUNK)
    assert kept[kept[:, 0] == 3, 1].tolist() == [0, 16, 24]
    assert kept[kept[:, 0] == 2, 1].tolist() == [0, 16, 32]
