"""Waveform in, logits out: equal to the public PyTorch code, from the same weights.

Tolerances are those of the reference outputs: logits 2e-5, models with harmonic filters 2e-4 (their
logits are ten times as large), probabilities of published weights 1e-5.
"""

import functools
import json
from typing import Any, NamedTuple

import hash_weights
import jax
import numpy as np
import pytest
from parity_files import load_arrays, load_clip, load_log_mel, load_manifest

from musrep_jax.models import create_model
from musrep_jax.models.attention_maps import attention_maps, tag_contributions
from musrep_jax.models.harmonic_cnn import TASK_SETTINGS
from musrep_jax.models.token_tagger import constant_class_token
from musrep_jax.weights.state_dicts import convert_state_dict, rename


class Variant(NamedTuple):
    """How a stored variant is built and what it is fed with."""

    model: str
    settings: dict[str, Any]
    num_samples: int | None
    """None: two spectrograms of 256 frames."""
    num_classes: int = 50
    tolerance: float = 2e-5


VARIANTS = {
    "sota_fcn": Variant("fcn", {}, 464000),
    "sota_crnn": Variant("crnn", {}, 464000),
    "sota_sample": Variant("sample_cnn", {}, 59049),
    "sota_se": Variant("sample_cnn_se", {}, 59049),
    "sota_attention": Variant("cnnsa", {}, 240000),
    "sota_hcnn": Variant("harmonic_cnn", {}, 80000, tolerance=2e-4),
    "ddhf_mtat_n80000_fft512": Variant(
        "harmonic_cnn", TASK_SETTINGS["music"], 80000, tolerance=2e-4
    ),
    "ddhf_dcase_n48000_fft512": Variant(
        "harmonic_cnn", TASK_SETTINGS["sound_events"], 48000, num_classes=17, tolerance=2e-4
    ),
    "ddhf_keyword_n16000_fft256": Variant(
        "harmonic_cnn", TASK_SETTINGS["keywords"], 16000, num_classes=35, tolerance=2e-4
    ),
    "ddhf_keyword_n32000_fft512": Variant(
        "harmonic_cnn", TASK_SETTINGS["keywords_512"], 32000, num_classes=35, tolerance=2e-4
    ),
    "mtt_teacher": Variant("tagging_transformer", {}, 220500),
    "mtt_student": Variant("tagging_transformer", {"width": 64}, 220500),
    "mtsa_spec_sinusoidal_c16_len257": Variant("self_attention", {"spec_channels": 16}, None),
    "mtsa_spec_cnnp_c8": Variant("self_attention", {"back": "cnn"}, None),
    "mtsa_raw_transformer_c128_len271": Variant(
        "self_attention", {"front": "raw", "num_samples": 65610}, 65610
    ),
    "mtsa_raw_cnn_lee_c128": Variant(
        "self_attention", {"front": "raw", "back": "cnn", "num_samples": 59049}, 59049
    ),
}

NOT_THE_SAME_MODULE = ("pooler", "back_end.pooler")  # ours is the dense layer, theirs the tanh too


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def two_rows(num_samples):
    if num_samples is None:
        return np.stack([load_log_mel(start, start + 256).T for start in (500, 900)])
    waveform = load_clip()
    if num_samples == len(waveform):
        return waveform[None]
    return np.stack([waveform[start : start + num_samples] for start in (100000, 140000)])


def load(name, variant):
    model = create_model(variant.model, variant.num_classes, variant.settings)
    weights = hash_weights.load_state_dict(name)
    return model, convert_state_dict(weights, model), load_arrays(f"synthetic_{name}")


def check_layers(captured, stored, model):
    """Compares mean, deviation, minimum and maximum of every layer that exists on both sides."""
    compared = []
    for described, (mean, std, low, high, *_) in zip(
        stored["layer_names"], stored["layer_stats"], strict=True
    ):
        name, _, shape = str(described).partition("|")
        own = rename(f"{name}.", model.TORCH_NAMES).rstrip(".")
        place = captured
        for part in own.split("."):
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if name in NOT_THE_SAME_MODULE or "__call__" not in place:
            continue
        value = place["__call__"][0]
        value = np.asarray(value[0] if isinstance(value, tuple) else value)
        assert value.size == np.prod([int(n) for n in shape.split("x")]), name
        scale = max(1.0, float(std))
        actual = [value.mean(), value.std(), value.min(), value.max()]
        np.testing.assert_allclose(
            actual, [mean, std, low, high], atol=1e-4 * scale, rtol=1e-4, err_msg=name
        )
        compared.append(name)
    return compared


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_public_code(name):
    variant = VARIANTS[name]
    model, variables, stored = load(name, variant)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == load_manifest(name)["trainable_parameters"]

    @jax.jit
    def run(variables, inputs):
        apply = functools.partial(
            model.apply,
            variables,
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        output, state = apply(inputs)
        captured = state["intermediates"]
        if "encoder" in captured:  # every token of the last block, too
            features, _ = apply(inputs, method="features")
            _, state = apply(features, method="embed", return_weights=True)
            captured |= state["intermediates"]
        return output, captured

    output, captured = run(variables, two_rows(variant.num_samples))
    np.testing.assert_allclose(output.logits, stored["logits"], atol=variant.tolerance)
    np.testing.assert_allclose(output.embedding, stored["penultimate"], atol=variant.tolerance)
    compared = check_layers(captured, stored, model)
    assert len(compared) >= 3, compared
    if name == "sota_hcnn":
        level = np.asarray(output.intermediates["harmonic_spectrogram"])[:, 100:116]
        expected = stored["hstft_frames_100_116"].transpose(0, 3, 2, 1)
        assert np.abs(level - expected)[expected > -60].max() < 0.02
    if name == "sota_attention":
        np.testing.assert_array_equal(constant_class_token(256), stored["cls_vector"])
    if name.startswith("mtt"):
        tokens = output.intermediates["front_end_tokens"][:, :8]
        np.testing.assert_allclose(tokens, stored["frontend_out"], atol=5e-5)
        audio = two_rows(variant.num_samples)[:, : 34 * 512]
        level = np.asarray(model.apply(variables, audio, method="spectrogram"))[:, :32]
        expected = stored["logmel_frames_0_32"].transpose(0, 2, 1)
        assert np.abs(level - expected)[expected > -60].max() < 0.02


def test_attention_of_the_released_self_attention_tagger():
    variant = Variant("self_attention", {"positions": "learned"}, None)
    model, variables, stored = load("mtsa_spec_learnedpos_c8_vis", variant)
    excerpts = [load_log_mel(500, 628), load_log_mel(1400, 1528)]
    inputs = np.concatenate(excerpts, axis=1).T[None]
    output = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, inputs)
    np.testing.assert_allclose(output.logits, stored["logits"], atol=2e-5)
    np.testing.assert_allclose(output.embedding, stored["penultimate"], atol=2e-5)
    maps = jax.jit(lambda v, x: attention_maps(model, v, x))(variables, inputs)
    for ours, theirs in (
        ("attention_map_per_head", "layer2_attention_cls_row_per_head"),
        ("attention_map", "layer2_attention_cls_row_sum_over_heads"),
        ("first_block_attention_map", "layer1_attention_sum_heads_mean_over_queries"),
    ):
        np.testing.assert_allclose(maps[ours][0], stored[theirs], atol=1e-5)
    np.testing.assert_allclose(maps["attention_2"].sum(-1), 1.0, atol=1e-5)
    contribution = jax.jit(lambda v, x: tag_contributions(model, v, x))(variables, inputs)
    np.testing.assert_allclose(contribution[0], stored["layer2_tag_contribution"], atol=1e-5)


@pytest.mark.parametrize(("dataset", "name"), [("jamendo", "fcn"), ("msd", "crnn")])
def test_published_weights(dataset, name, shared_dir):
    torch = pytest.importorskip("torch", reason="torch reads the published .pth files")
    parity = shared_dir / "parity"
    file = parity / "weights" / f"{dataset}_{name}.pth"
    weights = torch.load(file, weights_only=True, map_location="cpu")
    model = create_model(name, 50)
    variables = convert_state_dict({k: v.numpy() for k, v in weights.items()}, model)
    clips = ("sugarplum", "fishin")
    waveforms = [np.load(parity / f"input_{c}_29s.npz")["waveform"] for c in clips]
    run = jax.jit(lambda v, x: model.apply(v, x, train=False))
    output = run(variables, np.stack(waveforms))
    tags = json.loads((parity / f"tags_{dataset}.json").read_text())
    top5 = json.loads((parity / "top5.json").read_text())
    with np.load(parity / f"out_{dataset}_{name}.npz") as stored:
        for row, clip_name in enumerate(clips):
            probabilities = np.asarray(jax.nn.sigmoid(output.logits[row]))
            embedding = output.embedding[row]
            np.testing.assert_allclose(probabilities, stored[f"{clip_name}/probs"], atol=1e-5)
            for field in ("penultimate", "pooled_embedding"):
                np.testing.assert_allclose(embedding, stored[f"{clip_name}/{field}"], atol=1e-4)
            best = [tags[i] for i in np.argsort(-probabilities)[:5]]
            assert best == [tag for tag, _ in top5[f"{dataset}/{name}/{clip_name}"]]
