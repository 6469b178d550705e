"""Taggers: waveform or log-mel spectrogram in, `ModelOutput` out."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from musrep_jax.models.base import InputError, SpectrogramTagger, Tagger
from musrep_jax.runtime.suggestions import suggest_name

MODELS: dict[str, str] = {
    "cnnsa": "musrep_jax.models.cnnsa:CNNSA",
    "crnn": "musrep_jax.models.crnn:CRNN",
    "fcn": "musrep_jax.models.fcn:FCN",
    "harmonic_cnn": "musrep_jax.models.harmonic_cnn:HarmonicCNN",
    "musicnn": "musrep_jax.models.musicnn:MusiCNN",
    "musicnn_big": "musrep_jax.models.musicnn:MusiCNNBig",
    "sample_cnn": "musrep_jax.models.sample_cnn:SampleCNN",
    "sample_cnn_se": "musrep_jax.models.sample_cnn:SampleCNNSE",
    "self_attention": "musrep_jax.models.self_attention:SelfAttentionTagger",
    "short_chunk_cnn": "musrep_jax.models.short_chunk_cnn:ShortChunkCNN",
    "short_chunk_resnet": "musrep_jax.models.short_chunk_cnn:ShortChunkResNet",
    "spectrogram_transformer": "musrep_jax.models.spectrogram_transformer:SpectrogramTransformer",
    "tagging_transformer": "musrep_jax.models.tagging_transformer:TaggingTransformer",
    "vgg_ish": "musrep_jax.models.short_chunk_cnn:VGGish",
}
"""Name -> "module:Class". The class's fields are the model's settings."""

ALIASES: dict[str, str] = {"ast": "spectrogram_transformer"}
"""Other names the field uses."""

_NOT_SETTINGS = frozenset({"parent", "name", "num_classes"})


def model_class(name: str) -> type[Tagger]:
    """Returns the class of a model.

    Args:
        name: a key of `MODELS` or `ALIASES`.

    Returns:
        A subclass of `Tagger`.

    Raises:
        ValueError: if there is no such model; the message suggests the nearest name.
    """
    known = ALIASES.get(name, name)
    if known not in MODELS:
        hint = suggest_name(name, [*MODELS, *ALIASES])
        raise ValueError(
            f"Unknown model {name!r}.{hint} Known models: {', '.join(sorted(MODELS))}."
        )
    module, _, attribute = MODELS[known].partition(":")
    return getattr(importlib.import_module(module), attribute)


def model_settings(name: str) -> dict[str, Any]:
    """Returns the settings of a model with their defaults, without the number of classes.

    Args:
        name: a key of `MODELS` or `ALIASES`.

    Returns:
        Field name -> default value.
    """
    fields = dataclasses.fields(model_class(name))
    return {f.name: f.default for f in fields if f.init and f.name not in _NOT_SETTINGS}


def create_model(name: str, num_classes: int, settings: Mapping[str, Any] | None = None) -> Tagger:
    """Returns a model; its parameters come from `model.init`.

    Args:
        name: a key of `MODELS` or `ALIASES`.
        num_classes: number of output units, at least 1.
        settings: deviations from the model's defaults.

    Returns:
        The unbound module.

    Raises:
        ValueError: if a setting does not exist; the message suggests the nearest name.

    Example:
        >>> create_model("vgg_ish", 50, {"n_channels": 16}).n_channels
        16
    """
    settings = dict(settings or {})
    known = model_settings(name)
    for key in settings:
        if key not in known:
            hint = suggest_name(key, known)
            raise ValueError(
                f"Model {name!r} has no setting {key!r}.{hint} It has: {', '.join(sorted(known))}."
            )
    return model_class(name)(num_classes=num_classes, **settings)


__all__ = [
    "ALIASES",
    "MODELS",
    "InputError",
    "SpectrogramTagger",
    "Tagger",
    "create_model",
    "model_class",
    "model_settings",
]
