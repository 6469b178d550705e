"""Short-chunk CNN, its residual form, and the VGG-ish tagger of the cross-cultural study.

Layers of `ShortChunkCNN` for 59,049 samples (231 frames), (time x mel x channels) after each:

    input BatchNorm   231 x 128 x 1
    layer1            115 x 64 x 128        each: convolution 3 x 3, BatchNorm, ReLU, max-pool 2 x 2
    layer2            57 x 32 x 128
    layer3            28 x 16 x 256
    layer4            14 x 8 x 256
    layer5            7 x 4 x 256
    layer6            3 x 2 x 256
    layer7            1 x 1 x 512
    maximum over time and frequency, dense1 512, BatchNorm, ReLU (embedding), dropout, head

`ShortChunkResNet` has residual blocks with stride 2 instead of pooling (116 x 64, 58 x 32, ...).

Source: Won, Ferraro, Bogdanov, Serra, "Evaluation of CNN-based automatic music tagging models",
SMC 2020; public code minzwon/sota-music-tagging-models. `VGGish`: Papaioannou, Benetos, Potamianos,
"From West to East", ISMIR 2023; public code pxaris/ccml.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, ConvBlock, Dense, ResBlock
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array


class ShortChunkCNN(SpectrogramTagger):
    """Seven 3 x 3 convolutions over 3.7 s of log-mel spectrogram.

    Attributes:
        n_channels: channels of the first two layers; the others have 2, 2, 2, 2 and 4 times as
            many.
    """

    n_channels: int = 128

    MIN_FRAMES: ClassVar[int] = 128
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^dense2\.", "head."),)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1)."""
        return self.spectrogram(inputs)[..., None]

    def make_block(self, index: int, features: int) -> nn.Module:
        """Returns block number `index`, counted from 1."""
        return ConvBlock(features, pool=(2, 2), name=f"layer{index}")

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(7), "feature_map")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 4 n_channels) and the maps after each block."""
        x = BatchNorm(name="spec_bn")(features, train=train).astype(self.dtype)
        maps = {}
        for index, factor in enumerate((1, 1, 2, 2, 2, 2, 4), start=1):
            block = self.make_block(index, factor * self.n_channels)
            x = maps[f"layer_{index}"] = block(x, train=train)
        maps["feature_map"] = x
        # Over both axes: equal to the published code at its input length, valid at any other.
        x = x.max(axis=(1, 2))
        x = BatchNorm(name="bn")(Dense(4 * self.n_channels, name="dense1")(x), train=train)
        return nn.relu(x).astype(jnp.float32), maps


class ShortChunkResNet(ShortChunkCNN):
    """The short-chunk CNN with residual blocks of stride 2."""

    MIN_FRAMES: ClassVar[int] = 2

    def make_block(self, index: int, features: int) -> nn.Module:
        """Returns block number `index`, counted from 1."""
        return ResBlock(features, strides=(2, 2), name=f"layer{index}")


class VGGish(ShortChunkCNN):
    """The short-chunk CNN with the input length of the cross-cultural study (230 frames)."""

    num_samples: int = 58624
