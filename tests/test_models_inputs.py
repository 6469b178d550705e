"""Wrong inputs get one sentence that says what is wrong and what is allowed."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import COMPACT, NUM_CLASSES

from musrep_jax.models import MODELS, InputError, SpectrogramTagger, create_model
from musrep_jax.weights.state_dicts import variable_shapes

each_model = pytest.mark.parametrize("name", sorted(MODELS))


@functools.cache
def shapes_of(name):
    """The model and the shapes of its variables: an error needs no computation."""
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    flat = variable_shapes(model)
    variables = {}
    for path, shape in flat.items():
        branch = functools.reduce(lambda tree, key: tree.setdefault(key, {}), path[:-1], variables)
        branch[path[-1]] = shape
    return model, variables


def call(name, shape):
    model, variables = shapes_of(name)
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(functools.partial(model.apply, train=False), variables, inputs)


def message(name, shape):
    with pytest.raises(InputError) as error:
        call(name, shape)
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert re.search(r"\d", text), "the offending value is missing"
    return text


@each_model
def test_the_models_own_length_is_accepted(name):
    model, _ = shapes_of(name)
    assert call(name, (2, model.num_samples)).logits.shape == (2, NUM_CLASSES)


@each_model
def test_too_short(name):
    assert "100 samples" in message(name, (2, 100))


@each_model
def test_stereo_channels_first(name):
    model, _ = shapes_of(name)
    text = message(name, (2, 2, model.num_samples))
    assert "average the channels" in text or "mono" in text


@each_model
def test_stereo_channels_last(name):
    model, _ = shapes_of(name)
    text = message(name, (2, model.num_samples, 2))
    assert "average the channels" in text or "mono" in text


@each_model
def test_single_waveform_without_batch(name):
    model, _ = shapes_of(name)
    assert "(batch, samples)" in message(name, (model.num_samples,))


@each_model
def test_wrong_number_of_mels(name):
    model, _ = shapes_of(name)
    if not isinstance(model, SpectrogramTagger):
        assert "(batch, samples)" in message(name, (2, 300, 128))
        return
    text = message(name, (2, 300, model.n_mels + 1))
    assert str(model.n_mels + 1) in text
    assert f"reads {model.n_mels} mel bands" in text


@each_model
def test_too_few_frames(name):
    model, _ = shapes_of(name)
    if not isinstance(model, SpectrogramTagger) or model.min_frames == 1:
        return
    text = message(name, (2, model.min_frames - 1, model.n_mels))
    assert f"at least {model.min_frames}" in text
    assert call(name, (2, model.min_frames, model.n_mels)).logits.shape == (2, NUM_CLASSES)


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("musicnn", {"orientation": "sideways"}, r"'sideways'.*mel_first, time_first"),
        ("musicnn", {"vertical_heights": (120, 38)}, r"\(120, 38\) do not fit 96 mel bands"),
        ("spectrogram_transformer", {"variant": "huge"}, r"'huge'.*tiny, small, base"),
        ("spectrogram_transformer", {"num_heads": 7}, r"7 attention heads.*width of 768"),
    ],
)
def test_impossible_settings_are_named(name, settings, error):
    with pytest.raises(ValueError, match=error):
        variable_shapes(create_model(name, 5, settings))


def test_time_first_musicnn_needs_frames_for_its_filters():
    model = create_model("musicnn", 5, {"orientation": "time_first"})
    assert model.min_frames == 67
    variables = jax.eval_shape(
        functools.partial(model.init, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 48000), np.float32),
    )
    with pytest.raises(InputError, match=r"40 spectrogram frames.*at least 67"):
        jax.eval_shape(
            functools.partial(model.apply, train=False),
            variables,
            jax.ShapeDtypeStruct((1, 40, 96), np.float32),
        )
