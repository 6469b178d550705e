"""Waveform in, logits out: short-chunk, MusiCNN and AST equal the public PyTorch code.

Tolerances are those of the reference outputs: logits of hash weights 2e-5, probabilities of
published weights 1e-5, log-mel 0.02 dB above -60 dB.
"""

import functools

import hash_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_files import load_arrays, load_clip

from musrep_jax.models import create_model
from musrep_jax.models.spectrogram_transformer import set_input_statistics
from musrep_jax.weights.state_dicts import convert_state_dict, rename

LOGITS = 2e-5
PROBABILITIES = 1e-5

SOTA = {
    "sota_short": ("short_chunk_cnn", 59049),
    "sota_short_res": ("short_chunk_resnet", 59049),
    "sota_musicnn_small": ("musicnn", 48000),
    "sota_musicnn_msd": ("musicnn_big", 48000),
}
CCML = {
    "ccml_vgg_ish": ("vgg_ish", {}, "time_frequency"),
    "ccml_musicnn": (
        "musicnn",
        {"n_mels": 128, "vertical_heights": (67, 38), "orientation": "time_first"},
        "frequency_time",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def run(model, variables, inputs):
    """The output, and what every module of the model returned."""

    @jax.jit
    def forward(variables, inputs):
        return model.apply(
            variables, inputs, train=False, capture_intermediates=True, mutable=["intermediates"]
        )

    output, captured = forward(variables, inputs)
    return output, captured["intermediates"]


def channel_first(value):
    """(batch, time, frequency, channels) -> (batch, channels, frequency, time), and likewise."""
    value = np.asarray(value)
    return value.transpose(0, *range(value.ndim - 1, 0, -1)) if value.ndim > 2 else value


def compare_layers(model, output, captured, names, stats):
    """Compares statistics and first values of every layer that exists on both sides."""
    compared = set()
    for described, expected in zip(names, stats, strict=True):
        name = str(described).partition("|")[0]
        own = rename(f"{name}.", model.TORCH_NAMES).rstrip(".")
        value = output.intermediates.get(own)
        if value is None and own in captured and "__call__" in captured[own]:
            value = captured[own]["__call__"][0]
        if value is None:
            continue
        value = channel_first(value)
        actual = [value.mean(), value.std(), value.min(), value.max(), *value.ravel()[:6]]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, atol=2e-5 * scale, err_msg=name)
        compared.add(name)
    return compared


@pytest.mark.parametrize("variant", SOTA)
def test_hash_weights(variant):
    name, num_samples = SOTA[variant]
    model = create_model(name, 50)
    assert model.num_samples == num_samples
    variables = convert_state_dict(hash_weights.load_state_dict(variant), model)
    waveform = load_clip()
    audio = np.stack([waveform[i : i + num_samples] for i in (100000, 140000)])
    stored = load_arrays(f"synthetic_{variant}")
    output, captured = run(model, variables, audio)
    assert np.abs(output.logits - stored["logits"]).max() < LOGITS
    assert np.abs(output.embedding - stored["penultimate"]).max() < LOGITS
    assert np.abs(jax.nn.sigmoid(output.logits) - stored["output"]).max() < PROBABILITIES
    compared = compare_layers(model, output, captured, stored["layer_names"], stored["layer_stats"])
    expected = {"spec_bn", "layer1", "layer2", "layer3", "dense1", "bn", "dense2"}
    assert compared >= expected | ({"layer7"} if "short" in variant else set())


@pytest.mark.parametrize("variant", CCML)
def test_hash_weights_of_the_cross_cultural_code(variant):
    name, settings, spatial = CCML[variant]
    model = create_model(name, 50, settings)
    state_dict = hash_weights.load_state_dict(variant)
    variables = convert_state_dict(state_dict, model, spatial=spatial)
    stored = load_arrays(f"synthetic_{variant}")
    output, _ = run(model, variables, stored["log_mel"])
    assert np.abs(jax.nn.sigmoid(output.logits) - stored["probs"]).max() < PROBABILITIES


def test_orientation_matters():
    """The same weights, read the other way round, give something else."""
    stored = load_arrays("synthetic_ccml_vgg_ish")
    model = create_model("vgg_ish", 50)
    state_dict = hash_weights.load_state_dict("ccml_vgg_ish")
    variables = convert_state_dict(state_dict, model, spatial="frequency_time")
    output, _ = run(model, variables, stored["log_mel"])
    assert np.abs(jax.nn.sigmoid(output.logits) - stored["probs"]).max() > 1e-3


def test_audio_spectrogram_transformer():
    model = create_model("ast", 50)
    stored = load_arrays("synthetic_ccml_ast")
    variables = convert_state_dict(hash_weights.load_state_dict("ccml_ast"), model)
    variables = set_input_statistics(variables, *map(float, stored["normalise"]))

    @jax.jit
    def forward(variables, log_mel):
        features = model.apply(variables, log_mel, train=False, method="features")
        embed = functools.partial(model.apply, variables, features, train=False, method="embed")
        embedding, intermediates = embed(return_weights=True, all_tokens=True)
        logits = model.apply(variables, embedding, train=False, method="classify")
        first_tokens = {name: intermediates[name][:, :8] for name in ("patch_tokens", "layer_1")}
        return logits, intermediates["pooled"], first_tokens

    logits, pooled, tokens = forward(variables, stored["log_mel"])
    assert np.abs(logits - stored["logits"]).max() < LOGITS
    assert np.abs(pooled - stored["embedding"]).max() < LOGITS
    assert np.abs(tokens["patch_tokens"] - stored["patch_tokens_0_8"]).max() < LOGITS
    assert np.abs(tokens["layer_1"] - stored["block0_tokens_0_8"]).max() < LOGITS


def load_published(shared_dir, name):
    with np.load(shared_dir / "parity" / f"{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def published(shared_dir):
    """MusiCNN with the weights that were published for MagnaTagATune."""
    torch = pytest.importorskip("torch")
    path = shared_dir / "parity/weights/mtat_musicnn.pth"
    tensors = torch.load(path, weights_only=True, map_location="cpu")
    model = create_model("musicnn", 50)
    return model, convert_state_dict({k: v.numpy() for k, v in tensors.items()}, model)


@pytest.mark.parametrize("clip", ["fishin", "sugarplum"])
def test_published_musicnn(shared_dir, published, clip):
    model, variables = published
    stored = {
        key.partition("/")[2]: value
        for key, value in load_published(shared_dir, "out_mtat_musicnn").items()
        if key.startswith(clip)
    }
    waveform = load_published(shared_dir, f"input_{clip}_3s")["waveform"]
    output, captured = run(model, variables, waveform[None])
    assert np.abs(jax.nn.sigmoid(output.logits[0]) - stored["probs"]).max() < PROBABILITIES
    assert np.abs(output.logits[0] - stored["logits"]).max() < 1e-4
    assert np.abs(output.embedding[0] - stored["penultimate"]).max() < 1e-4
    assert np.abs(output.intermediates["pooled"][0] - stored["pooled_embedding"]).max() < 1e-4
    compared = compare_layers(model, output, captured, stored["layer_names"], stored["layer_stats"])
    assert compared >= {f"layers.{i}" for i in range(5)} | {"layer1", "layer2", "layer3"}


@pytest.mark.parametrize("clip", ["fishin", "sugarplum"])
def test_published_musicnn_over_a_song(shared_dir, published, clip):
    model, variables = published
    stored = load_published(shared_dir, "out_mtat_musicnn")
    waveform = load_published(shared_dir, f"input_{clip}_29s")["waveform"]
    chunks = np.stack([waveform[i * 26000 : i * 26000 + 48000] for i in range(16)])
    logits = jax.jit(functools.partial(model.apply, train=False))(variables, chunks).logits
    probabilities = jax.nn.sigmoid(logits)
    assert np.abs(probabilities - stored[f"{clip}/song_chunk_probs"]).max() < PROBABILITIES
    mean = jnp.mean(probabilities, axis=0)
    assert np.abs(mean - stored[f"{clip}/song_mean_probs"]).max() < PROBABILITIES
