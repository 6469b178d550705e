"""What the settings of models may be, one rule per field; a model has some of them."""

from collections.abc import Mapping
from typing import Any

from musrep_jax.models import MODELS, AudioEncoder, model_class, model_settings
from musrep_jax.models.frontends import HarmonicFilters
from musrep_jax.models.harmonic_cnn import TASK_POOLS
from musrep_jax.models.mert import LAYER_WORDS, NORM_POSITIONS
from musrep_jax.models.mert_layers import FRONT_NORMS
from musrep_jax.models.musicnn import ORIENTATIONS
from musrep_jax.models.outputs import POOLS
from musrep_jax.models.spectrogram_transformer import VARIANTS
from musrep_jax.rules.kinds import Rule, choice, flag, numerals, real, sequence, whole

SIZE = whole(1, 65_536)
"""Of channels, batches and the like."""

RATE = real(0, 1, below=True)
"""Of dropout, and of moments that decay."""


def _are_encoders(value: Any) -> bool:
    """Returns whether a value is (name, settings, outputs) of one or several encoders of audio."""
    return isinstance(value, tuple | list) and len(value) > 0 and all(map(_is_encoder, value))


def _is_encoder(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 3:
        return False
    name, settings, outputs = value
    if not isinstance(name, str) or name not in MODELS or name == "combined_encoders":
        return False
    try:
        given: Mapping[str, Any] = dict(settings)
    except (TypeError, ValueError):
        return False
    known = model_settings(name)
    return (
        issubclass(model_class(name), AudioEncoder)
        and all(_is_setting(known, key, setting) for key, setting in given.items())
        and isinstance(outputs, tuple | list)
        and len(outputs) > 0
        and all(isinstance(output, str) for output in outputs)
    )


def _is_setting(known: Mapping[str, Any], key: Any, value: Any) -> bool:
    if not isinstance(key, str) or key not in known:
        return False
    if value is None:
        return known[key] is None
    return key not in MODEL_FIELDS or MODEL_FIELDS[key].accepts(value)


MODEL_FIELDS: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "activation_dropout_rate", "attention_dropout_rate", "block_dropout_rate",
            "drop_path_rate", "dropout_rate", "front_dropout_rate", "layer_drop_rate",
            "transformer_dropout_rate",
        ),
        RATE,
    ),
    **dict.fromkeys(
        (
            "backend_channels", "cnn_features", "conv_channels", "dense_width", "hidden_size",
            "horizontal_channels", "n_channels", "raw_channels", "spec_channels",
            "vertical_channels", "width",
        ),
        SIZE,
    ),
    **dict.fromkeys(("depth", "num_recurrent_layers"), whole(1, 200)),
    **dict.fromkeys(("num_heads", "mlp_ratio"), whole(1, 1024)),
    **dict.fromkeys(("patch_size", "patch_stride"), whole(1, 1024)),
    **dict.fromkeys(("num_harmonics", "semitone_scale"), whole(1, 64)),
    **dict.fromkeys(("front_channels", "front_kernels", "front_strides"), sequence(SIZE)),
    **dict.fromkeys(("position_kernel", "position_groups"), whole(1, 4_096)),
    **dict.fromkeys(("front_bias", "normalizes_features", "normalizes_input"), flag()),
    "front_norm": choice(FRONT_NORMS),
    "layer": numerals(0, 200, *LAYER_WORDS),
    "norm_epsilon": real(0, 1, above=True),
    "norm_position": choice(NORM_POSITIONS),
    "encoders": Rule("the name, settings and outputs of one or several encoders", _are_encoders),
    "pool": choice(POOLS),
    "max_tokens": whole(2, 1_000_000),
    "sample_rate": whole(1_000, 384_000),
    "num_samples": whole(1, 10**8),
    "n_fft": whole(16, 32_768),
    "hop_length": whole(1, 32_768),
    "n_mels": whole(1, 1_024),
    "num_bands": whole(1, 1_024),
    "whole_frames": flag(),
    "f_min": real(0, 192_000),
    "f_max": real(0, 192_000, above=True),
    "initial_quality": real(0, 1_000, above=True),
    "channel_factors": sequence(whole(1, 1_024)),
    "horizontal_lengths": sequence(whole(1, 65_536)),
    "vertical_heights": sequence(whole(1, 1_024), 2),
    "pools": sequence(sequence(whole(1, 1_024), 2)),
    "distilled": flag(),
    "remat": flag(),
    "residual": flag(),
    "dtype": choice(("float32", "bfloat16")),
    "attention_implementation": choice(("xla", "cudnn")),
    "back": choice(("transformer", "cnn")),
    "front": choice(("spec", "raw")),
    "positions": choice(("sinusoidal", "learned")),
    "first_padding": whole(0, 1),
    "filter_mode": choice(tuple(HarmonicFilters.MODES)),
    "orientation": choice(ORIENTATIONS),
    "task": choice(tuple(TASK_POOLS)),
    "variant": choice(tuple(VARIANTS)),
}  # fmt: skip
"""Name -> its rule; None, the model's own choice, is handled by the code that allows it."""
