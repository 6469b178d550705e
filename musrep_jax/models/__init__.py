"""Models: encoders, most of them taggers; audio or text in, `ModelOutput` out."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from musrep_jax.models.base import (
    NO_TOKEN,
    AudioEncoder,
    Encoder,
    InputError,
    SpectrogramTagger,
    Tagger,
    TextEncoder,
)
from musrep_jax.runtime.suggestions import suggest_name

MODELS: dict[str, str] = {
    "attention_rnn": "musrep_jax.models.attention_rnn:AttentionRNN",
    "cnnsa": "musrep_jax.models.cnnsa:CNNSA",
    "combined_encoders": "musrep_jax.models.combined_encoders:CombinedEncoders",
    "crnn": "musrep_jax.models.crnn:CRNN",
    "fcn": "musrep_jax.models.fcn:FCN",
    "harmonic_cnn": "musrep_jax.models.harmonic_cnn:HarmonicCNN",
    "joint_embedding": "musrep_jax.models.joint_embedding:JointEmbedding",
    "log_mel_statistics": "musrep_jax.models.log_mel_statistics:LogMelStatistics",
    "log_mel_windows": "musrep_jax.models.joint_embedding:LogMelWindows",
    "mert": "musrep_jax.models.mert:MERT",
    "musicnn": "musrep_jax.models.musicnn:MusiCNN",
    "musicnn_big": "musrep_jax.models.musicnn:MusiCNNBig",
    "musicnn_original": "musrep_jax.models.musicnn_original:MusiCNNOriginal",
    "sample_cnn": "musrep_jax.models.sample_cnn:SampleCNN",
    "sample_cnn_se": "musrep_jax.models.sample_cnn:SampleCNNSE",
    "self_attention": "musrep_jax.models.self_attention:SelfAttentionTagger",
    "short_chunk_cnn": "musrep_jax.models.short_chunk_cnn:ShortChunkCNN",
    "short_chunk_resnet": "musrep_jax.models.short_chunk_cnn:ShortChunkResNet",
    "spectrogram_transformer": "musrep_jax.models.spectrogram_transformer:SpectrogramTransformer",
    "tagging_transformer": "musrep_jax.models.tagging_transformer:TaggingTransformer",
    "vgg_ish": "musrep_jax.models.short_chunk_cnn:VGGish",
    "vgg_original": "musrep_jax.models.musicnn_original:VGGOriginal",
}
"""Name -> "module:Class". The class's fields are the model's settings."""

ALIASES: dict[str, str] = {"ast": "spectrogram_transformer", "hubert": "mert"}
"""Other names the field uses."""

_NON_SETTING_FIELDS = frozenset({"parent", "name", "num_classes"})


def model_class(name: str) -> type[Encoder]:
    """Returns the class of a model.

    Args:
        name: a key of `MODELS` or `ALIASES`.

    Returns:
        A subclass of `Encoder`; most are subclasses of `Tagger`.

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
    return {f.name: f.default for f in fields if f.init and f.name not in _NON_SETTING_FIELDS}


def is_tagger(name: str) -> bool:
    """Returns whether a model has an output layer for labels.

    Args:
        name: a key of `MODELS` or `ALIASES`.
    """
    return issubclass(model_class(name), Tagger)


def create_model(name: str, num_classes: int, settings: Mapping[str, Any] | None = None) -> Tagger:
    """Returns a tagger; its parameters come from `model.init`.

    Args:
        name: a key of `MODELS` or `ALIASES`.
        num_classes: number of output units; 0 for a backbone, which is asked for embeddings only.
        settings: deviations from the model's defaults.

    Returns:
        The unbound module.

    Raises:
        ValueError: if a setting does not exist; the message suggests the nearest name. If the model
            has no labels.

    Example:
        >>> create_model("vgg_ish", 50, {"n_channels": 16}).n_channels
        16
    """
    settings = _check_settings(name, settings)
    kind = model_class(name)
    if not issubclass(kind, Tagger):
        taggers = ", ".join(key for key in sorted(MODELS) if is_tagger(key))
        raise ValueError(
            f"The model {name!r} is an encoder without output layer and cannot be given labels: "
            f"take one of {taggers}, or put a classifier on its embeddings."
        )
    return kind(num_classes=num_classes, **settings)


def create_encoder(name: str, settings: Mapping[str, Any] | None = None) -> Encoder:
    """Returns a model that is asked for embeddings only; its parameters come from `model.init`.

    Args:
        name: a key of `MODELS` or `ALIASES`; a tagger becomes a backbone without output layer.
        settings: deviations from the model's defaults.

    Returns:
        The unbound module.

    Raises:
        ValueError: if a setting does not exist; the message suggests the nearest name.
    """
    if is_tagger(name):
        return create_model(name, 0, settings)
    return model_class(name)(**_check_settings(name, settings))


def _check_settings(name: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the settings after checking that the model has them."""
    settings = dict(settings or {})
    known = model_settings(name)
    for key in settings:
        if key not in known:
            hint = suggest_name(key, known)
            raise ValueError(
                f"Model {name!r} has no setting {key!r}.{hint} It has: {', '.join(sorted(known))}."
            )
    return settings


__all__ = [
    "ALIASES",
    "MODELS",
    "NO_TOKEN",
    "AudioEncoder",
    "Encoder",
    "InputError",
    "SpectrogramTagger",
    "Tagger",
    "TextEncoder",
    "create_encoder",
    "create_model",
    "is_tagger",
    "model_class",
    "model_settings",
]
