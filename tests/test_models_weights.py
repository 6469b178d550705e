"""Conversion of PyTorch state dictionaries: layouts, prefixes, and every misfit by name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import COMPACT
from flax import traverse_util

from musrep_jax.models import MODELS, create_model
from musrep_jax.models.spectrogram_transformer import resize_positions
from musrep_jax.weights.state_dicts import (
    WeightsError,
    convert_state_dict,
    rename,
    strip_prefixes,
    torch_name,
    variable_shapes,
)

NUM_CLASSES = 5


def make_state_dict(model):
    """Random weights under the names and in the layout of the public PyTorch code."""
    random = np.random.default_rng(0)
    state_dict = {}
    for path, shape in variable_shapes(model).items():
        if path[0] in ("params", "batch_stats"):
            value = random.standard_normal(shape.shape).astype(np.float32)
            name = torch_name(path, model.TORCH_NAMES)
            state_dict[name] = value.transpose() if path[-1] == "kernel" else value
    return state_dict


@pytest.fixture
def short_chunk():
    model = create_model("short_chunk_cnn", NUM_CLASSES, {"n_channels": 2})
    return model, make_state_dict(model)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_variable_has_a_pytorch_name(name):
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    names = make_state_dict(model)
    assert not [n for n in names if "/" in n]
    assert all(rename(n, model.TORCH_NAMES) for n in names)


def test_there_and_back(short_chunk):
    model, state_dict = short_chunk
    assert {"spec_bn.running_var", "layer3.conv.weight", "dense1.bias", "dense2.weight"} <= set(
        state_dict
    )
    variables = convert_state_dict(state_dict, model)
    flat = traverse_util.flatten_dict(variables)
    assert set(flat) == set(variable_shapes(model))
    kernel = variables["params"]["layer3"]["conv"]["kernel"]
    time, frequency, inputs, outputs = 2, 0, 1, 3
    stored = state_dict["layer3.conv.weight"]
    assert kernel[time, frequency, inputs, outputs] == stored[outputs, inputs, frequency, time]
    head = variables["params"]["head"]
    assert head["kernel"][3, 4] == state_dict["dense2.weight"][4, 3]
    assert all(value.dtype == np.float32 for value in flat.values())


def test_layout_with_time_first(short_chunk):
    model, state_dict = short_chunk
    kernel = convert_state_dict(state_dict, model, spatial="time_frequency")["params"]["layer3"]
    stored = state_dict["layer3.conv.weight"]
    assert kernel["conv"]["kernel"][2, 0, 1, 3] == stored[3, 1, 2, 0]
    with pytest.raises(ValueError, match=r"'sideways'.*'frequency_time' or 'time_frequency'"):
        convert_state_dict(state_dict, model, spatial="sideways")


@pytest.mark.parametrize("prefix", ["module.", "network.", "module.network.", ""])
def test_prefixes_counters_and_constants_are_ignored(short_chunk, prefix):
    model, state_dict = short_chunk
    wrapped = {prefix + name: value for name, value in state_dict.items()}
    wrapped[f"{prefix}layer1.bn.num_batches_tracked"] = np.int64(7)
    wrapped[f"{prefix}spec.spectrogram.window"] = np.ones(512)
    wrapped[f"{prefix}spec.mel_scale.fb"] = np.ones((257, 128))
    plain, converted = convert_state_dict(state_dict, model), convert_state_dict(wrapped, model)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(converted), strict=True):
        np.testing.assert_array_equal(a, b)
    assert strip_prefixes("layer1.module.weight") == "layer1.module.weight"


def test_every_misfit_is_named(short_chunk):
    model, state_dict = short_chunk
    del state_dict["layer2.bn.running_mean"], state_dict["dense1.bias"]
    state_dict["layer9.conv.weight"] = np.zeros((2, 2, 3, 3))
    state_dict["extra"] = np.zeros(3)
    state_dict["layer4.conv.weight"] = np.zeros((4, 4, 5, 3))
    state_dict["spec_bn.bias"] = np.zeros(2)
    with pytest.raises(WeightsError) as error:
        convert_state_dict(state_dict, model)
    text = str(error.value)
    unknown, missing, wrong = re.search(
        r"unknown keys: (.*); missing keys: (.*); wrong shapes: (.*)\. Choose", text
    ).groups()
    assert set(unknown.split(", ")) == {"layer9.conv.weight", "extra"}
    assert set(missing.split(", ")) == {"layer2.bn.running_mean", "dense1.bias"}
    assert "layer4.conv.weight (4, 4, 5, 3) gives (3, 5, 4, 4), the model has (3, 3, 4, 4)" in wrong
    assert "spec_bn.bias (2,)" in wrong
    assert "ShortChunkCNN with 5 classes" in text


def test_same_number_of_values_is_not_the_same_shape(short_chunk):
    model, state_dict = short_chunk
    state_dict["layer4.conv.weight"] = np.zeros((4, 3, 4, 3))
    with pytest.raises(WeightsError, match=r"layer4.conv.weight \(4, 3, 4, 3\)"):
        convert_state_dict(state_dict, model)


def test_other_label_set(short_chunk):
    model, state_dict = short_chunk
    other = model.clone(num_classes=3)
    with pytest.raises(WeightsError, match=r"dense2.bias \(5,\).*keep_head=False"):
        convert_state_dict(state_dict, other)
    variables = convert_state_dict(state_dict, other, keep_head=False)
    assert variables["params"]["head"]["kernel"].shape == (8, 3)
    assert np.abs(variables["params"]["head"]["kernel"]).max() <= 8**-0.5
    np.testing.assert_array_equal(variables["params"]["dense1"]["bias"], state_dict["dense1.bias"])
    again = convert_state_dict(state_dict, other, keep_head=False, key=jax.random.key(1))
    assert not np.array_equal(
        again["params"]["head"]["kernel"], variables["params"]["head"]["kernel"]
    )
    del state_dict["layer1.bn.bias"]
    with pytest.raises(WeightsError, match=r"missing keys: layer1.bn.bias\. "):
        convert_state_dict(state_dict, other, keep_head=False)


@pytest.fixture
def transformer():
    settings = {"variant": "tiny", "width": 12, "depth": 2, "num_samples": 127744}
    model = create_model("ast", NUM_CLASSES, settings)
    return model, make_state_dict(model)


def test_unused_imagenet_heads_are_ignored(transformer):
    model, state_dict = transformer
    state_dict["v.head.weight"] = np.zeros((1000, 12))
    state_dict["v.head_dist.bias"] = np.zeros(1000)
    state_dict["v.cls_token"] = state_dict["v.cls_token"].reshape(1, 1, 12)
    state_dict["v.pos_embed"] = state_dict["v.pos_embed"][None]
    variables = convert_state_dict(state_dict, model)
    np.testing.assert_array_equal(variables["params"]["pos_embed"], state_dict["v.pos_embed"][0])
    assert variables["input_statistics"] == {"mean": 0.0, "std": 0.5}


def test_imagenet_weights(transformer):
    model, state_dict = transformer
    random = np.random.default_rng(1)
    image = {
        name.removeprefix("v."): value
        for name, value in state_dict.items()
        if name.startswith("v.")
    }
    image["patch_embed.proj.weight"] = random.standard_normal((12, 3, 16, 16)).astype(np.float32)
    image["pos_embed"] = random.standard_normal((1, 2 + 24 * 24, 12)).astype(np.float32)
    image["head.weight"] = image["head_dist.weight"] = np.zeros((1000, 12))
    image["head.bias"] = image["head_dist.bias"] = np.zeros(1000)
    with pytest.raises(
        WeightsError, match=r"missing keys: mlp_head\.1\.bias, mlp_head\.1\.weight\."
    ):
        convert_state_dict(image, model)
    params = convert_state_dict(image, model, keep_head=False)["params"]
    np.testing.assert_allclose(
        params["patch_embed"]["kernel"][2, 7, 0, 5],
        image["patch_embed.proj.weight"][5, :, 7, 2].sum(),
        rtol=1e-5,
    )
    expected = resize_positions(jnp.asarray(image["pos_embed"][0]), (24, 24), (12, 49))
    np.testing.assert_array_equal(params["pos_embed"], expected)
    np.testing.assert_array_equal(params["head_norm"]["scale"], np.ones(12))
    np.testing.assert_array_equal(
        params["encoder"]["block_1"]["attention"]["qkv"]["kernel"],
        image["blocks.1.attn.qkv.weight"].T,
    )


def test_another_transformers_positions_are_cut(transformer):
    """AudioSet's AST reads 10.24 s: 12 x 101 patches."""
    model, state_dict = transformer
    positions = np.random.default_rng(0).standard_normal((2 + 12 * 101, 12)).astype(np.float32)
    state_dict = {f"module.{name}": value for name, value in state_dict.items()}
    state_dict["module.v.pos_embed"] = positions[None]
    params = convert_state_dict(state_dict, model)["params"]
    cut = positions[2:].reshape(12, 101, 12)[:, 50 - 24 : 50 - 24 + 49].reshape(-1, 12)
    np.testing.assert_array_equal(params["pos_embed"][2:], cut)


def test_recurrent_names():
    assert rename("layer5.weight_ih_l1", ()) == "layer5.layer_1.ih.weight"
    assert torch_name(("params", "layer5", "layer_0", "hh", "bias"), ()) == "layer5.bias_hh_l0"
