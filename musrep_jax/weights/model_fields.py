"""A model's settings, from the shapes of published weights or from the words of a command line."""

import itertools
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.inference.card import to_tuples
from musrep_jax.models import ALIASES, model_class, model_settings
from musrep_jax.models.spectrogram_transformer import VARIANTS
from musrep_jax.runtime.suggestions import suggest_name

Arrays = Mapping[str, np.ndarray]

SIZES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "cnnsa": (("n_channels", r"layer1\.conv_1\.weight", 0),),
    "crnn": (
        ("n_channels", r"layer1\.conv\.weight", 0),
        ("hidden_size", r"layer5\.weight_hh_l0", 1),
    ),
    "fcn": (("n_channels", r"layer1\.conv\.weight", 0),),
    "harmonic_cnn": (
        ("n_channels", r"(layer|conv_2d\.res)1\.conv\.weight", 0),
        ("num_harmonics", r"(layer|conv_2d\.res)1\.conv\.weight", 1),
    ),
    "musicnn": (
        ("vertical_channels", r"layers\.0\.conv\.weight", 0),
        ("horizontal_channels", r"layers\.2\.conv\.weight", 0),
        ("backend_channels", r"layer1\.conv\.weight", 0),
        ("dense_width", r"dense1\.weight", 0),
    ),
    "musicnn_original": (
        ("vertical_channels", r"conv2d\.weight", 0),
        ("horizontal_channels", r"conv2d_2\.weight", 0),
        ("backend_channels", r"conv2d_5\.weight", 0),
        ("dense_width", r"dense\.weight", 0),
    ),
    "sample_cnn": (("n_channels", r"layer1\.conv\.weight", 0),),
    "sample_cnn_se": (("n_channels", r"layer1\.conv_1\.weight", 0),),
    "self_attention": (
        ("spec_channels", r"front_end\.layers\.0\.conv\.weight", 0),
        ("raw_channels", r"front_end\.init_conv\.conv\.weight", 0),
        ("max_tokens", r"back_end\.embedding\.position_embeddings\.weight", 0),
    ),
    "short_chunk_cnn": (("n_channels", r"layer1\.conv\.weight", 0),),
    "short_chunk_resnet": (("n_channels", r"layer1\.conv_1\.weight", 0),),
    "spectrogram_transformer": (("patch_size", r"(v\.)?patch_embed\.proj\.weight", 3),),
    "tagging_transformer": (
        ("conv_channels", r"frontend\.layer1\.conv_1\.weight", 0),
        ("width", r"frontend\.fc\.weight", 0),
    ),
    "vgg_ish": (("n_channels", r"layer1\.conv\.weight", 0),),
    "vgg_original": (("n_channels", r"1CNN\.weight", 0),),
}
SIZES["musicnn_big"] = SIZES["musicnn"]
"""Model -> (setting, key of the public code's state dictionary, axis that has that length)."""

_WINDOW = r"(.*\.)?window"
_FILTER_BANK = r"(.*\.)?fb"
_HEAD_WIDTH = 64
"""Width of one attention head, in every published image transformer."""


def infer_settings(name: str, arrays: Arrays, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that the shapes of published weights determine.

    Args:
        name: a key of `MODELS` or `ALIASES`.
        arrays: of the checkpoint, without prefixes.
        given: settings that are known already; they are not inferred.

    Returns:
        Setting -> value, only where it differs from the model's default.
    """
    name = ALIASES.get(name, name)
    defaults = model_settings(name)
    found: dict[str, Any] = {}
    for setting, pattern, axis in SIZES.get(name, ()):
        shape = _shape(arrays, pattern)
        if shape is not None and axis < len(shape):
            found[setting] = shape[axis]
    window, bank = _shape(arrays, _WINDOW), _shape(arrays, _FILTER_BANK)
    if "n_fft" in defaults and window is not None and window[0] != defaults["n_fft"]:
        # In all of the public code the hop is half of the window.
        found |= {"n_fft": window[0], "hop_length": window[0] // 2}
    if "n_mels" in defaults and bank is not None:
        found["n_mels"] = bank[1]
    if name in ("musicnn", "musicnn_big"):
        found |= _musicnn(arrays, {**defaults, **found, **given}["n_mels"])
    elif name == "self_attention":
        found |= _self_attention(arrays)
    elif name == "tagging_transformer":
        found |= _tagging_transformer(arrays)
    elif name == "spectrogram_transformer":
        found |= _spectrogram_transformer(arrays)
    elif name == "mert":
        found |= _mert(arrays)
    return {k: v for k, v in found.items() if k not in given and v != defaults[k]}


def _shape(arrays: Arrays, pattern: str) -> tuple[int, ...] | None:
    """Returns the shape of the first array whose whole key matches, or None."""
    keys = (key for key in arrays if re.fullmatch(pattern, key))
    return next((tuple(map(int, arrays[key].shape)) for key in keys), None)


def _count(arrays: Arrays, pattern: str) -> int:
    """Returns the number of different numbers that match the pattern's group."""
    return len({match[1] for key in arrays if (match := re.match(pattern, key))})


def _musicnn(arrays: Arrays, n_mels: int) -> dict[str, Any]:
    shapes = [_shape(arrays, rf"layers\.{i}\.conv\.weight") for i in (0, 1)]
    if any(shape is None or len(shape) != 4 for shape in shapes):
        return {}
    heights = tuple(shape[2] for shape in shapes)
    usual = (7 * n_mels // 10, 4 * n_mels // 10)
    return {"vertical_heights": heights} if heights != usual else {}


def _self_attention(arrays: Arrays) -> dict[str, Any]:
    is_raw = any(key.startswith("front_end.init_conv.") for key in arrays)
    has_encoder = any(key.startswith("back_end.encoder.") for key in arrays)
    has_table = any("position_embeddings" in key for key in arrays)
    found: dict[str, Any] = {
        "front": "raw" if is_raw else "spec",
        "back": "transformer" if has_encoder else "cnn",
        "positions": "learned" if has_table else "sinusoidal",
    }
    if is_raw:  # the published lengths; the CNN ends in one cell at this one only
        found["num_samples"] = 65610 if has_encoder else 59049
    return found


def _tagging_transformer(arrays: Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {}
    depth = _count(arrays, r"transformer\.layers\.(\d+)\.")
    positions = _shape(arrays, "pos_embedding")
    if depth:
        found["depth"] = depth
    if positions is not None:
        found["max_tokens"] = positions[-2] - 1
    return found


def _spectrogram_transformer(arrays: Arrays) -> dict[str, Any]:
    token = _shape(arrays, r"(v\.)?cls_token")
    if token is None:
        return {}
    width = token[-1]
    variant = next((key for key, size in VARIANTS.items() if size.width == width), None)
    found: dict[str, Any] = {"distilled": _shape(arrays, r"(v\.)?dist_token") is not None}
    if variant is None:
        found |= {"width": width, "num_heads": max(1, width // _HEAD_WIDTH)}
    else:
        found["variant"] = variant
    depth = _count(arrays, r"(?:v\.)?blocks\.(\d+)\.")
    if depth and depth != VARIANTS[variant or "base"].depth:
        found["depth"] = depth
    hidden = _shape(arrays, r"(v\.)?blocks\.0\.mlp\.fc1\.weight")
    if hidden is not None:
        found["mlp_ratio"] = hidden[0] // width
    return found


def _mert(arrays: Arrays) -> dict[str, Any]:
    """Returns all but `norm_position`, which leaves no trace in the shapes."""
    layer = r"(hubert\.)?feature_extractor\.conv_layers\.{}\.{}"
    projection = _shape(arrays, r"(hubert\.)?feature_projection\.projection\.weight")
    kernel = _shape(
        arrays,
        r"(hubert\.)?encoder\.pos_conv_embed\.conv\."
        r"(weight_v|parametrizations\.weight\.original1)",
    )
    fronts = [_shape(arrays, layer.format(n, r"conv\.weight")) for n in range(len(arrays))]
    fronts = list(itertools.takewhile(bool, fronts))
    hidden = _shape(
        arrays, r"(hubert\.)?encoder\.layers\.0\.feed_forward\.intermediate_dense\.weight"
    )
    depth = _count(arrays, r"(?:hubert\.)?encoder\.layers\.(\d+)\.")
    if not (projection and kernel and hidden and depth and fronts):
        return {}
    width = projection[0]
    return {
        "front_channels": tuple(shape[0] for shape in fronts),
        "front_kernels": tuple(shape[2] for shape in fronts),
        "front_bias": _shape(arrays, layer.format(0, r"conv\.bias")) is not None,
        "front_norm": "layer"
        if _shape(arrays, layer.format(1, r"layer_norm\.weight"))
        else "group",
        "normalizes_features": any("feature_projection.layer_norm." in key for key in arrays),
        "width": width,
        "depth": depth,
        "num_heads": max(1, width // _HEAD_WIDTH),
        "mlp_ratio": hidden[0] // width,
        "position_kernel": kernel[2],
        "position_groups": width // max(1, kernel[1]),
    }


def parse_settings(name: str, texts: Iterable[str]) -> dict[str, Any]:
    """Returns model settings written as `field=value`.

    Args:
        name: a key of `MODELS` or `ALIASES`.
        texts: such as "n_mels=128", "vertical_heights=67,38", "variant=tiny", "depth=none".

    Returns:
        Setting -> value of the field's type.

    Raises:
        ConfigError: if there is no such field, or the value is of another type.

    Example:
        >>> parse_settings("musicnn", ["n_mels=128", "vertical_heights=67,38"])
        {'n_mels': 128, 'vertical_heights': (67, 38)}
    """
    hints, known = typing.get_type_hints(model_class(name)), model_settings(name)
    settings = {}
    for text in texts:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"A setting is written field=value; {text!r} has no '='.")
        if field not in known:
            raise ConfigError(
                f"Model {name!r} has no setting {field!r}.{suggest_name(field, list(known))} "
                f"It has: {', '.join(sorted(known))}."
            )
        settings[field] = _parse(field, value, hints[field])
    return settings


def _parse(field: str, text: str, hint: Any) -> Any:
    """Returns a value of one of the types of the hint."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    for kind in typing.get_args(hint) if is_union else (hint,):
        if kind is type(None):
            if text.lower() in ("none", "null"):
                return None
            continue
        if kind is str:
            return text
        value = _as_json(text, is_list=typing.get_origin(kind) is tuple)
        if (
            (kind is bool and isinstance(value, bool))
            or (kind is int and isinstance(value, int) and not isinstance(value, bool))
            or (typing.get_origin(kind) is tuple and isinstance(value, tuple))
        ):
            return value
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    wanted = getattr(hint, "__name__", str(hint)) if not is_union else str(hint)
    raise ConfigError(f"The setting {field} is {text!r}; it must be {wanted}.")


def _as_json(text: str, *, is_list: bool) -> Any:
    """Returns the value of a text in JSON's notation, or None; round brackets are square ones."""
    text = text.replace("(", "[").replace(")", "]")
    if is_list and not text.startswith("[["):
        text = f"[{text.removeprefix('[').removesuffix(']')}]"
    try:
        value = json.loads(text.lower())
    except ValueError:
        return None
    return to_tuples(value)
