"""What the settings of models may be, one rule per field; a model has some of them."""

from musrep_jax.models.frontends import HarmonicFilters
from musrep_jax.models.harmonic_cnn import TASK_POOLS
from musrep_jax.models.mert import LAYER_WORDS, NORM_POSITIONS
from musrep_jax.models.mert_layers import FRONT_NORMS
from musrep_jax.models.musicnn import ORIENTATIONS
from musrep_jax.models.spectrogram_transformer import VARIANTS
from musrep_jax.rules.kinds import Rule, choice, flag, numerals, real, sequence, whole

SIZE = whole(1, 65_536)
"""Of channels, batches and the like."""

RATE = real(0, 1, below=True)
"""Of dropout, and of moments that decay."""

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
    "max_tokens": whole(2, 1_000_000),
    "sample_rate": whole(1_000, 384_000),
    "num_samples": whole(1, 10**8),
    "n_fft": whole(16, 32_768),
    "hop_length": whole(1, 32_768),
    "n_mels": whole(1, 1_024),
    "num_bands": whole(1, 1_024),
    "f_min": real(0, 192_000),
    "f_max": real(0, 192_000, above=True),
    "initial_quality": real(0, 1_000, above=True),
    "channel_factors": sequence(whole(1, 1_024)),
    "horizontal_lengths": sequence(whole(1, 65_536)),
    "vertical_heights": sequence(whole(1, 1_024), 2),
    "pools": sequence(sequence(whole(1, 1_024), 2)),
    "distilled": flag(),
    "remat": flag(),
    "dtype": choice(("float32", "bfloat16")),
    "attention_implementation": choice(("xla", "cudnn")),
    "back": choice(("transformer", "cnn")),
    "front": choice(("spec", "raw")),
    "positions": choice(("sinusoidal", "learned")),
    "filter_mode": choice(tuple(HarmonicFilters.MODES)),
    "orientation": choice(ORIENTATIONS),
    "task": choice(tuple(TASK_POOLS)),
    "variant": choice(tuple(VARIANTS)),
}  # fmt: skip
"""Name -> its rule; None, the model's own choice, is handled by the code that allows it."""
