"""Every model in a size that a test can compute, built once per process."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from musrep_jax.models import Tagger, create_model
from musrep_jax.types import ModelOutput
from musrep_jax.weights.state_dicts import initial_variables, variable_shapes

NUM_CLASSES = 5
BATCH = 3

COMPACT: dict[str, dict[str, Any]] = {
    "attention_rnn": {
        "num_samples": 4096,
        "n_mels": 20,
        "n_channels": 3,
        "hidden_size": 6,
        "dropout_rate": 0.5,
    },
    "cnnsa": {"num_samples": 16000, "n_channels": 4, "num_heads": 2},
    "combined_encoders": {
        "num_samples": 16000,
        "encoders": (
            ("log_mel_statistics", (("num_bands", 4),), ("embedding",)),
            (
                "musicnn",
                (
                    ("vertical_channels", 6),
                    ("horizontal_channels", 3),
                    ("backend_channels", 8),
                    ("dense_width", 12),
                ),
                ("pooled", "embedding"),
            ),
        ),
        "dropout_rate": 0.5,
    },
    "crnn": {"num_samples": 50000, "n_channels": 4, "hidden_size": 6},
    "fcn": {
        "num_samples": 16000,
        "n_channels": 4,
        "pools": ((2, 2), (2, 2), (2, 2), (2, 3), (3, 4)),
    },
    "harmonic_cnn": {"num_samples": 80000, "n_channels": 3},
    "joint_embedding": {
        "num_samples": 4096,
        "n_fft": 512,
        "hop_length": 256,
        "n_mels": 20,
        "width": 6,
        "dropout_rate": 0.5,
    },
    "log_mel_statistics": {
        "num_samples": 16000,
        "num_bands": 4,
        "whole_frames": True,
        "dropout_rate": 0.5,
    },
    "log_mel_windows": {
        "num_samples": 4096,
        "n_fft": 512,
        "hop_length": 256,
        "n_mels": 20,
        "dropout_rate": 0.5,
    },
    "mert": {
        "num_samples": 4000,
        "front_channels": (6, 5),
        "front_kernels": (10, 16),
        "front_strides": (8, 8),
        "width": 12,
        "depth": 2,
        "num_heads": 2,
        "position_kernel": 6,
        "position_groups": 3,
        "dropout_rate": 0.1,
    },
    "musicnn": {
        "num_samples": 12000,
        "vertical_channels": 6,
        "horizontal_channels": 3,
        "backend_channels": 8,
        "dense_width": 12,
    },
    "musicnn_big": {
        "num_samples": 12000,
        "vertical_channels": 4,
        "horizontal_channels": 2,
        "backend_channels": 10,
        "dense_width": 14,
    },
    "musicnn_original": {
        "num_samples": 12032,
        "vertical_channels": 6,
        "horizontal_lengths": (12, 6, 5),
        "horizontal_channels": 3,
        "backend_channels": 8,
        "dense_width": 12,
    },
    "sample_cnn": {"n_channels": 3},
    "sample_cnn_se": {"n_channels": 3},
    "self_attention": {"num_samples": 16000, "spec_channels": 1, "width": 16, "num_heads": 2},
    "short_chunk_cnn": {"num_samples": 33000, "n_channels": 6},
    "short_chunk_resnet": {"num_samples": 16000, "n_channels": 4},
    "spectrogram_transformer": {
        "num_samples": 16000,
        "variant": "tiny",
        "width": 24,
        "num_heads": 3,
        "depth": 2,
        "dropout_rate": 0.1,
    },
    "tagging_transformer": {
        "num_samples": 16000,
        "conv_channels": 3,
        "width": 16,
        "num_heads": 2,
        "depth": 2,
    },
    "vgg_ish": {"num_samples": 33000, "n_channels": 5},
    "vgg_original": {"num_samples": 33536, "n_channels": 5},
}
"""Model -> deviations from its fields. A new model needs an entry here."""

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of `jax.jit`: compile time is nearly all that these tests cost."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A compact model with its variables and its jitted functions.

    Attributes:
        model: unbound.
        variables: as initialized, with running statistics that fit `audio`.
        initial: the variables as initialized.
        audio: float32 (batch, samples).
        evaluate: `(variables, inputs)` -> ModelOutput, train=False.
        train: `(variables, inputs, key)` -> ModelOutput and the updated collections.
    """

    model: Tagger
    variables: dict[str, Any]
    initial: dict[str, Any]
    audio: np.ndarray
    evaluate: Any
    train: Any


def make_audio(num_samples: int, batch: int = BATCH, seed: int = 0) -> np.ndarray:
    """Returns noise with a few tones, float32 (batch, samples)."""
    random = np.random.default_rng(seed)
    time = np.arange(num_samples) / 16000
    tones = np.sin(2 * np.pi * np.array([220.0, 440.0, 1760.0])[:batch, None] * time)
    return (0.1 * random.standard_normal((batch, num_samples)) + 0.3 * tones).astype(np.float32)


def draw_variables(model: Tagger) -> dict[str, Any]:
    """Returns what `model.init` would, up to the draw, without its long compilation."""
    random = np.random.default_rng(0)
    values, others = {}, set()
    for path, shape in variable_shapes(model).items():
        if path[-1] == "kernel":
            bound = np.prod(shape.shape[:-1]) ** -0.5
            values[path] = random.uniform(-bound, bound, shape.shape).astype(np.float32)
        elif path[-1] == "bias":
            values[path] = random.uniform(-0.1, 0.1, shape.shape).astype(np.float32)
        elif path[-1] in ("scale", "var") or path[0] == "batch_stats":
            values[path] = np.full(shape.shape, path[-1] != "mean", np.float32)
        else:
            others.add(path)
    values |= initial_variables(model, others, jax.random.key(0))
    return traverse_util.unflatten_dict(values)


@functools.cache
def build(name: str) -> Built:
    """Returns a compact model, ready to be called."""
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    audio = make_audio(model.num_samples)
    initial = draw_variables(model)

    def evaluate(variables: dict[str, Any], inputs: jax.Array) -> ModelOutput:
        return model.apply(variables, inputs, train=False)

    def train(
        variables: dict[str, Any], inputs: jax.Array, key: jax.Array
    ) -> tuple[ModelOutput, dict[str, Any]]:
        return model.apply(
            variables, inputs, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    evaluate, train = (jax.jit(f, compiler_options=QUICK) for f in (evaluate, train))
    variables = dict(initial)
    if "batch_stats" in initial:
        updated = train(initial, audio, jax.random.key(0))[1]["batch_stats"]
        # One step of the running estimate, undone: the statistics of this very batch.
        variables["batch_stats"] = jax.tree.map(
            lambda new, old: (new - 0.9 * old) / 0.1, updated, initial["batch_stats"]
        )
    return Built(model, variables, initial, audio, evaluate, train)


def same(a: Any, b: Any) -> bool:
    """Returns whether two trees hold equal arrays."""
    return jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b))
