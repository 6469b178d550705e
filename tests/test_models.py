"""The contract that every entry of MODELS keeps, and the golden parameter counts."""

import functools
import json
import math
import pathlib

import compact_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import BATCH, NUM_CLASSES, QUICK, build, same

from musrep_jax.models import MODELS, SpectrogramTagger, Tagger, create_model, model_settings
from musrep_jax.models.sample_cnn import MIREX_2017
from musrep_jax.types import ModelOutput
from musrep_jax.weights.state_dicts import variable_shapes

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/parameter_counts.json").read_text())

each_model = pytest.mark.parametrize("name", sorted(MODELS))


def count_parameters(name: str, settings: dict | None = None) -> int:
    shapes = variable_shapes(create_model(name, 50, settings))
    return sum(math.prod(s.shape) for path, s in shapes.items() if path[0] == "params")


def test_every_model_has_a_golden_count_and_a_compact_form():
    assert set(GOLDEN) == set(MODELS), "add the model to tests/golden/parameter_counts.json"
    assert set(compact_models.COMPACT) == set(MODELS), "add the model to tests/compact_models.py"


@each_model
def test_parameter_count(name):
    assert count_parameters(name) == GOLDEN[name]


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        # As the public code counts them; the two transformers by hand, for width w: 257 w patches,
        # 592 w tokens and positions, 12 (12 w^2 + 13 w) blocks, 4 w norms, 50 w + 50 head.
        ("short_chunk_resnet", {"n_channels": 64}, 3_037_492),
        ("musicnn", {"backend_channels": 512, "dense_width": 500}, 7_972_000),
        ("musicnn", {"n_mels": 128, "vertical_heights": (67, 38)}, 784_300),
        ("sample_cnn", MIREX_2017, 1_462_322),
        # Layers of sample_cnn, a gate of 2 (w^2 + w) in each (3 of 128, 6 of 256, 2 of 512
        # channels), dense1, bn and head.
        ("sample_cnn_se", {"residual": False}, 1_844_224 + 1_939_200 + 263_680 + 25_650),
        ("attention_rnn", {"num_samples": 8000, "n_mels": 40}, 201_687 - 2 * 4 * 64 * 40),
        ("spectrogram_transformer", {"variant": "tiny"}, 5_511_794),
        ("spectrogram_transformer", {"variant": "small"}, 21_640_370),
    ],
)
def test_parameter_count_of_variants(name, settings, count):
    assert count_parameters(name, settings) == count


@each_model
def test_output(name):
    built = build(name)
    output = built.evaluate(built.variables, built.audio)
    assert isinstance(output, ModelOutput)
    assert output.logits.shape == (BATCH, NUM_CLASSES)
    assert output.logits.dtype == jnp.float32
    assert output.embedding.ndim == 2
    assert output.embedding.shape[0] == BATCH
    assert bool(jnp.isfinite(output.logits).all())
    assert not bool(jnp.allclose(output.logits[0], output.logits[1])), "the input does not matter"
    assert output.intermediates
    assert all(value.shape[0] == BATCH for value in output.intermediates.values())


@each_model
def test_head_and_classify(name):
    built = build(name)
    output = built.evaluate(built.variables, built.audio)
    head = built.variables["params"]["head"]
    assert head["kernel"].shape == (output.embedding.shape[1], NUM_CLASSES)
    assert head["bias"].shape == (NUM_CLASSES,)
    logits = built.model.apply(built.variables, output.embedding, train=False, method="classify")
    np.testing.assert_allclose(logits, output.logits, atol=1e-6)
    if type(built.model).classify is Tagger.classify:
        np.testing.assert_allclose(
            output.embedding @ head["kernel"] + head["bias"][None], output.logits, atol=1e-5
        )


@each_model
def test_evaluation_is_deterministic_and_per_example(name):
    built = build(name)
    first = built.evaluate(built.variables, built.audio)
    assert same(first.logits, built.evaluate(built.variables, built.audio).logits)
    flipped = built.evaluate(built.variables, built.audio[::-1]).logits[::-1]
    np.testing.assert_allclose(flipped, first.logits, atol=2e-5)


@each_model
def test_training_mode(name):
    built = build(name)
    output, updated = built.train(built.variables, built.audio, jax.random.key(1))
    again, _ = built.train(built.variables, built.audio, jax.random.key(1))
    other, _ = built.train(built.variables, built.audio, jax.random.key(2))
    assert same(output.logits, again.logits)
    assert not same(output.logits, other.logits)
    if "batch_stats" in built.initial:
        assert not same(updated["batch_stats"], built.variables["batch_stats"])
    else:
        assert not updated


@each_model
def test_log_mel_is_read_as_well_as_audio(name):
    built = build(name)
    if not isinstance(built.model, SpectrogramTagger):
        assert built.model.front_end is None or built.model.front_end["kind"] != "log_mel"
        return
    assert built.model.front_end["n_mels"] == built.model.n_mels
    features = functools.partial(built.model.apply, train=False, method="features")
    log_mel = built.model.apply(built.variables, built.audio, method="spectrogram")
    assert log_mel.shape[1] == built.model.log_mel.num_frames(built.model.num_samples)
    by_audio = features(built.variables, built.audio)
    np.testing.assert_allclose(features(built.variables, log_mel), by_audio, atol=1e-4)


@each_model
def test_gradients_are_finite_and_reach_every_parameter(name):
    built = build(name)
    targets = np.random.default_rng(0).standard_normal((BATCH, NUM_CLASSES)).astype(np.float32)

    def loss(params):
        variables = {**built.variables, "params": params}
        return (built.model.apply(variables, built.audio, train=False).logits * targets).sum()

    gradient = jax.jit(jax.grad(loss), compiler_options=QUICK)(built.variables["params"])
    for path, value in jax.tree_util.tree_leaves_with_path(gradient):
        assert bool(jnp.isfinite(value).all()), jax.tree_util.keystr(path)
        assert bool((value != 0).any()), jax.tree_util.keystr(path)


@each_model
def test_bfloat16_computes_in_bfloat16_and_keeps_the_rest_in_float32(name):
    settings = {**compact_models.COMPACT[name], "dtype": "bfloat16"}
    model = create_model(name, NUM_CLASSES, settings)
    audio = jax.ShapeDtypeStruct((BATCH, model.num_samples), jnp.float32)
    shapes = variable_shapes(model)
    assert {s.dtype for s in shapes.values()} == {jnp.dtype("float32")}

    def forward(variables, audio):
        return model.apply(
            variables, audio, train=True, rngs={"dropout": jax.random.key(0)}, mutable=True
        )

    variables = build(name).variables
    output, updated = jax.eval_shape(forward, variables, audio)
    assert output.logits.dtype == jnp.float32
    assert output.embedding.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))
    text = str(jax.make_jaxpr(forward)(variables, audio))
    if name == "log_mel_windows":  # nothing of its own is multiplied
        return
    assert "bf16[" in text
    products = ("conv_general_dilated[", "dot_general[")
    assert any(p in line and "bf16[" in line for line in text.splitlines() for p in products)


@each_model
def test_settings_are_the_fields(name):
    settings = model_settings(name)
    assert {"sample_rate", "num_samples", "dtype", "dropout_rate"} <= set(settings)
    assert not {"num_classes", "name", "parent"} & set(settings)
    hash(create_model(name, NUM_CLASSES))


def test_initial_values():
    """Uniform in +-1/sqrt(fan in), as PyTorch starts; tokens and positions normal of 0.02."""
    settings = {"variant": "tiny", "width": 24, "num_heads": 3, "depth": 1}
    model = create_model("spectrogram_transformer", NUM_CLASSES, settings)
    init = jax.jit(functools.partial(model.init, train=False), compiler_options=QUICK)
    params = init(jax.random.key(0), np.zeros((1, model.num_samples), np.float32))["params"]
    for layer, fan_in in ((params["patch_embed"], 256), (params["head"], 24)):
        for values in layer.values():
            assert float(jnp.abs(values).max()) <= fan_in**-0.5
            assert float(values.std()) == pytest.approx((3 * fan_in) ** -0.5, rel=0.4)
    assert float(params["pos_embed"].std()) == pytest.approx(0.02, rel=0.15)


def test_bfloat16_stays_close_to_float32():
    for name in ("musicnn", "spectrogram_transformer"):
        built = build(name)
        half = built.model.clone(dtype="bfloat16")
        expected = built.evaluate(built.variables, built.audio).logits
        forward = jax.jit(functools.partial(half.apply, train=False), compiler_options=QUICK)
        actual = forward(built.variables, built.audio).logits
        # Statistics of three similar examples make the BatchNorms magnify every rounding.
        assert float(jnp.abs(actual - expected).max()) < 0.15 * float(jnp.abs(expected).max())


def test_unknown_model_and_unknown_setting_are_named():
    with pytest.raises(ValueError, match=r"'musicn'.*Did you mean 'musicnn'"):
        create_model("musicn", 5)
    with pytest.raises(ValueError, match=r"'n_chanels'.*Did you mean 'n_channels'"):
        create_model("vgg_ish", 5, {"n_chanels": 3})
