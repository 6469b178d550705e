"""MusiCNN: tall timbral filters and long temporal filters side by side, then a small 1-D network.

Layers of `MusiCNN` for 48,000 samples (188 frames of 96 mel bands), (time x channels) after each:

    input BatchNorm                            188 x 96 mels
    branch_0   7 x 67 convolution, max over mels      188 x 204
    branch_1   7 x 38 convolution, max over mels      188 x 204
    branch_2   mean over mels, convolution of 129     188 x 51
    branch_3   mean over mels, convolution of 65      188 x 51
    branch_4   mean over mels, convolution of 33      188 x 51
    concatenated f                             188 x 561
    layer1(f) = r1, r1 + layer2 = r2, r2 + layer3 = r3    188 x 64 each, convolutions of 7
    concatenated f, r1, r2, r3                 188 x 753
    maximum over time, mean over time ("pooled")      1506
    dense1, BatchNorm, ReLU (embedding)        200
    dropout, head

Every convolution is followed by BatchNorm and ReLU. Time is never down-sampled: any length works.

Source: Pons, Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
2019, in the form of Won et al., SMC 2020; public code minzwon/sota-music-tagging-models.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.models.band_conv import BandConv
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, ConvBlock, Dense
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

ORIENTATIONS = ("mel_first", "time_first")


class MusiCNN(SpectrogramTagger):
    """MusiCNN as trained on MagnaTagATune and MTG-Jamendo.

    The published code of the cross-cultural study (pxaris/ccml) hands this network its spectrogram
    transposed: the tall filters then span time, and the temporal ones run along the mel bands.
    `orientation="time_first"` does the same; with 128 mels and heights (67, 38) it reads that
    code's weights.

    Attributes:
        orientation: "mel_first", tall filters over frequency, or "time_first", the above.
        vertical_heights: of the tall filters, in mel bands (in frames if time first); None is 70 %
            and 40 % of the mel bands, rounded down: 67 and 38 of 96.
        vertical_channels: of each of the two tall branches.
        horizontal_lengths: of the temporal filters, in frames.
        horizontal_channels: of each of the temporal branches.
        backend_channels: of the three layers after the concatenation.
        dense_width: of the embedding.
    """

    num_samples: int = 48000
    n_mels: int = 96
    orientation: str = "mel_first"
    vertical_heights: tuple[int, int] | None = None
    vertical_channels: int = 204
    horizontal_lengths: tuple[int, ...] = (129, 65, 33)
    horizontal_channels: int = 51
    backend_channels: int = 64
    dense_width: int = 200

    FEATURES: ClassVar[tuple[str, ...]] = ("pooled",)
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^layers\.(\d)\.", r"branch_\1."),
        (r"^dense2\.", "head."),
    )

    @property
    def heights(self) -> tuple[int, ...]:
        """Heights of the tall filters."""
        return tuple(self.vertical_heights or (7 * self.n_mels // 10, 4 * self.n_mels // 10))

    @property
    def min_frames(self) -> int:
        """Fewest spectrogram frames: with time first, the tall filters must fit into them."""
        return max(self.heights) if self.orientation == "time_first" else self.MIN_FRAMES

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if the shape does not fit.
            ValueError: if the orientation or the filter heights are not possible.
        """
        if self.orientation not in ORIENTATIONS:
            raise ValueError(
                f"MusiCNN's orientation is {self.orientation!r}; it must be one of "
                f"{', '.join(ORIENTATIONS)}."
            )
        if self.orientation == "mel_first" and max(self.heights) > self.n_mels:
            raise ValueError(
                f"MusiCNN's vertical_heights {self.heights} do not fit {self.n_mels} mel bands: "
                "choose lower ones, or leave them out."
            )
        return self.spectrogram(inputs)[..., None]

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        num_branches = len(self.heights) + len(self.horizontal_lengths)
        branches = (f"branch_{index}" for index in range(num_branches))
        return (*branches, *layer_names(3), "feature_map", "pooled")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, dense_width) and the maps on the way.

        Intermediates, (batch, time, channels): `branch_0` ..., `layer_1` to `layer_3` before the
        additions, `feature_map` (everything, before pooling); `pooled` (batch, 2 x channels).
        """
        x = BatchNorm(name="spec_bn")(features, train=train).astype(self.dtype)
        if self.orientation == "time_first":
            x = x.swapaxes(1, 2)
        maps = {}
        for height in self.heights:
            name = f"branch_{len(maps)}"
            branch = BandConv(self.vertical_channels, (7, height), name=name)
            maps[name] = branch(x, train=train)
        profile = x.mean(axis=2)
        for length in self.horizontal_lengths:
            name = f"branch_{len(maps)}"
            maps[name] = ConvBlock(self.horizontal_channels, (length,), name=name)(
                profile, train=train
            )
        front = jnp.concatenate(list(maps.values()), axis=-1)
        stages = [front]
        for index in (1, 2, 3):
            name = f"layer_{index}"
            layer = ConvBlock(self.backend_channels, (7,), name=f"layer{index}")
            maps[name] = layer(stages[-1], train=train)
            stages.append(maps[name] + stages[-1] if index > 1 else maps[name])
        z = jnp.concatenate(stages, axis=-1)
        pooled = jnp.concatenate([z.max(axis=1), z.mean(axis=1)], axis=-1)
        h = BatchNorm(name="bn")(Dense(self.dense_width, name="dense1")(pooled), train=train)
        return nn.relu(h).astype(jnp.float32), {**maps, "feature_map": z, "pooled": pooled}


class MusiCNNBig(MusiCNN):
    """MusiCNN with the wide back end that was trained on the Million Song Dataset."""

    backend_channels: int = 512
    dense_width: int = 500
