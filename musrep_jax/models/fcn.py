"""FCN: a fully convolutional network over 29 seconds of log-mel spectrogram.

Layers for 464,000 samples (1813 frames), (time x mel x channels) after each; every layer is a 3 x 3
convolution, BatchNorm, ReLU and max-pooling:

    spec_bn    1813 x 96 x 1
    layer1     453 x 48 x 64     pool 4 x 2
    layer2     113 x 24 x 128    pool 4 x 2
    layer3     28 x 12 x 128     pool 4 x 2
    layer4     5 x 4 x 128       pool 5 x 3
    layer5     1 x 1 x 64        pool 4 x 4
    flatten (embedding), dropout, head

There is no global pooling: the length has to end in exactly one cell, 1280 to 2559 frames.

Kept: five layers, as in the published weights (the thesis describes four).

Source: Choi, Fazekas, Sandler, "Automatic tagging using deep convolutional neural networks",
ISMIR 2016, in the form of Won, Ferraro, Bogdanov, Serra, SMC 2020; public code
minzwon/sota-music-tagging-models.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.models.base import InputError, SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, ConvBlock
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array


class FCN(SpectrogramTagger):
    """Five 3 x 3 convolutions that end in one cell.

    Attributes:
        n_channels: channels of the first and the last layer; the others have twice as many.
        pools: max-pooling windows (time, mel) of the five layers. Their products state which sizes
            end in one cell, so other chunk lengths are other pools.
    """

    num_samples: int = 464000
    n_mels: int = 96
    n_channels: int = 64
    pools: tuple[tuple[int, int], ...] = ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4))

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^dense\.", "head."),)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if it would not end in exactly one cell.
        """
        log_mel = self.spectrogram(inputs)
        time = math.prod(window[0] for window in self.pools)
        mel = math.prod(window[1] for window in self.pools)
        num_frames = log_mel.shape[1]
        if num_frames // time != 1:
            hop = self.hop_length
            raise InputError(
                f"The input has {num_frames} spectrogram frames; FCN has to end in exactly one "
                f"cell and takes {time} to {2 * time - 1} frames, that is {(time - 1) * hop} to "
                f"{(2 * time - 1) * hop - 1} samples ({(time - 1) * hop / self.sample_rate:.2f} to "
                f"{(2 * time - 1) * hop / self.sample_rate:.2f} s). Pad or cut it, or state other "
                "`pools`."
            )
        if self.n_mels // mel != 1:
            raise InputError(
                f"n_mels is {self.n_mels}; FCN with these `pools` takes {mel} to {2 * mel - 1} mel "
                "bands."
            )
        return log_mel[..., None]

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(len(self.pools)), "feature_map")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, n_channels) and the maps after each layer."""
        x = BatchNorm(name="spec_bn")(features, train=train).astype(self.dtype)
        last, maps = len(self.pools), {}
        for index, pool in enumerate(self.pools, start=1):
            channels = self.n_channels * (1 if index in (1, last) else 2)
            maps["feature_map"] = x  # before the last layer
            block = ConvBlock(channels, pool=tuple(pool), name=f"layer{index}")
            x = maps[f"layer_{index}"] = block(x, train=train)
        return x.reshape(x.shape[0], -1).astype(jnp.float32), maps
