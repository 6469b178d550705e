"""The smallest encoders: one of text, one of audio, both without labels."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from musrep_jax.models import NO_TOKEN, AudioEncoder, TextEncoder
from musrep_jax.types import Array

TEXTS = np.array([[3, 1, 4, 1, NO_TOKEN, NO_TOKEN], [5, 9, 2, 6, 5, 3]], np.int32)


class ToyTextEncoder(TextEncoder):
    """An embedding table and the mean over the tokens of a text.

    Attributes:
        vocabulary: number of token ids.
        width: of the embedding.
    """

    num_tokens: int = 6
    vocabulary: int = 11
    width: int = 4

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^words\.weight$", "table"),)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        return ("layer_1",)

    def features(self, inputs: Array, *, train: bool) -> Array:
        return inputs

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        table = self.param("table", nn.initializers.normal(1.0), (self.vocabulary, self.width))
        is_there = features != NO_TOKEN
        words = table[jnp.where(is_there, features, 0)] * is_there[..., None]
        count = jnp.maximum(is_there.sum(axis=1, keepdims=True), 1)
        return words.sum(axis=1) / count, {"layer_1": words}


class ToyAudioEncoder(AudioEncoder):
    """The mean of every sixteenth of a chunk, through a dense layer.

    Attributes:
        width: of the embedding.
    """

    num_samples: int = 1600
    width: int = 5

    def features(self, inputs: Array, *, train: bool) -> Array:
        return jnp.abs(inputs.reshape(inputs.shape[0], 16, -1)).mean(axis=2)

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        return jnp.tanh(nn.Dense(self.width, name="dense")(features)), {}
