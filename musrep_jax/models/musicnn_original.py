"""MusiCNN and its VGG baseline as first published, in TensorFlow: ReLU before BatchNorm.

Layers of `MusiCNNOriginal` for 48,128 samples (187 frames of 96 mel bands), (time x channels) after
each:

    input BatchNorm                                   187 x 96 mels
    branch_0   7 x 38 convolution, max over mels      187 x 204
    branch_1   7 x 67 convolution, max over mels      187 x 204
    branch_2   convolution of 128 along time in every mel band, max over mels    187 x 51
    branch_3   the same of 64                         187 x 51
    branch_4   the same of 32                         187 x 51
    concatenated f                                    187 x 561
    layer1(f) = r1, r1 + layer2 = r2, r2 + layer3 = r3    187 x 64 each, convolutions of 7
    concatenated f, r1, r2, r3                        187 x 753
    maximum and mean over time of each channel, side by side ("pooled")    1506
    BatchNorm, dropout, dense1, ReLU, BatchNorm (embedding)    200
    dropout, head

and of `VGGOriginal`, (time x mel x channels):

    input BatchNorm   187 x 96 x 1
    layer1            92 x 48 x 128     each: convolution 3 x 3, ReLU, BatchNorm, max-pool, dropout
    layer2            46 x 24 x 128
    layer3            23 x 12 x 128
    layer4            11 x 6 x 128
    layer5            2 x 1 x 128
    all in a row (embedding)    256
    dropout, head

Both read the front end "musicnn" of `dsp.spectrogram`.

Source: Pons, Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
2019; public code jordipons/musicnn, package musicnn 0.1.0.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.dsp.spectrogram import LogMel
from musrep_jax.models.band_conv import BandConv
from musrep_jax.models.base import InputError, SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, Conv, Dense, max_pool
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

EPSILON = 1e-3
"""Of BatchNorm, TensorFlow's default."""

VGG_POOLS = ((2, 2), (2, 2), (2, 2), (4, 4))
"""Of the layers after the first, whose windows of (4, 1) are two frames and two bands apart."""


class RectifiedConv(nn.Module):
    """Convolution, ReLU, BatchNorm; time keeps its length.

    Attributes:
        features: number of output channels.
        kernel_size: (time,) or (time, frequency), of odd length over time.
        frequency_padding: zeros on each side of the frequency axis.
    """

    features: int
    kernel_size: tuple[int, ...]
    frequency_padding: int = 0

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time[, frequency], in) to (batch, time[, frequency'], features)."""
        length, *rest = self.kernel_size
        padding = (length // 2, *(self.frequency_padding for _ in rest))
        x = nn.relu(Conv(self.features, self.kernel_size, padding=padding, name="conv")(x))
        return BatchNorm(EPSILON, name="bn")(x, train=train)


class _OriginalTagger(SpectrogramTagger):
    """What both share: the front end, and excerpts of 187 frames."""

    num_samples: int = 48128
    n_mels: int = 96

    @property
    def log_mel(self) -> LogMel:
        """The spectrogram settings."""
        return dataclasses.replace(super().log_mel, convention="musicnn")


class MusiCNNOriginal(_OriginalTagger):
    """MusiCNN as first published.

    Attributes:
        vertical_heights: of the tall filters, in mel bands; None is 40 % and 70 % of the mel bands,
            rounded down: 38 and 67 of 96.
        vertical_channels: of each of the two tall branches.
        horizontal_lengths: of the temporal filters, in frames.
        horizontal_channels: of each of the temporal branches.
        backend_channels: of the three layers after the concatenation.
        dense_width: of the embedding.
    """

    vertical_heights: tuple[int, int] | None = None
    vertical_channels: int = 204
    horizontal_lengths: tuple[int, ...] = (128, 64, 32)
    horizontal_channels: int = 51
    backend_channels: int = 64
    dense_width: int = 200

    FEATURES: ClassVar[tuple[str, ...]] = ("pooled",)
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^batch_normalization\.", "spec_bn."),
        (r"^conv2d\.", "branch_0.conv."),
        (r"^batch_normalization_1\.", "branch_0.bn."),
        *((rf"^conv2d_{i}\.", f"branch_{i}.conv.") for i in range(1, 5)),
        *((rf"^batch_normalization_{i + 1}\.", f"branch_{i}.bn.") for i in range(1, 5)),
        *((rf"^conv2d_{i + 4}\.", f"layer{i}.conv.") for i in range(1, 4)),
        *((rf"^batch_normalization_{i + 5}\.", f"layer{i}.bn.") for i in range(1, 4)),
        (r"^batch_normalization_9\.", "pooled_bn."),
        (r"^dense\.", "dense1."),
        (r"^batch_normalization_10\.", "bn."),
        (r"^dense_1\.", "head."),
    )

    @property
    def heights(self) -> tuple[int, ...]:
        """Heights of the tall filters."""
        return tuple(self.vertical_heights or (4 * self.n_mels // 10, 7 * self.n_mels // 10))

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        num_branches = len(self.heights) + len(self.horizontal_lengths)
        branches = (f"branch_{index}" for index in range(num_branches))
        return (*branches, *layer_names(3), "feature_map", "pooled")

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if the shape does not fit.
            ValueError: if the filter heights are not possible.
        """
        if max(self.heights) > self.n_mels:
            raise ValueError(
                f"MusiCNN's vertical_heights {self.heights} do not fit {self.n_mels} mel bands: "
                "choose lower ones, or leave them out."
            )
        return self.spectrogram(inputs)[..., None]

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, dense_width) and the maps on the way.

        Intermediates, (batch, time, channels): `branch_0` ..., `layer_1` to `layer_3` before the
        additions, `feature_map` (everything, before pooling); `pooled` (batch, 2 x channels),
        maximum and mean of each channel in turn.
        """
        x = BatchNorm(EPSILON, name="spec_bn")(features, train=train).astype(self.dtype)
        vertical = [(self.vertical_channels, (7, height)) for height in self.heights]
        horizontal = [(self.horizontal_channels, (n, 1)) for n in self.horizontal_lengths]
        maps = {}
        for channels, size in (*vertical, *horizontal):
            name = f"branch_{len(maps)}"
            branch = BandConv(channels, size, True, EPSILON, name=name)
            maps[name] = branch(x, train=train)
        stages = [jnp.concatenate(list(maps.values()), axis=-1)]
        for index in (1, 2, 3):
            name = f"layer_{index}"
            layer = RectifiedConv(self.backend_channels, (7,), name=f"layer{index}")
            maps[name] = layer(stages[-1], train=train)
            stages.append(maps[name] + stages[-1] if index > 1 else maps[name])
        z = jnp.concatenate(stages, axis=-1)
        pooled = jnp.stack([z.max(axis=1), z.mean(axis=1)], axis=-1).reshape(z.shape[0], -1)
        h = BatchNorm(EPSILON, name="pooled_bn")(pooled, train=train)
        h = nn.Dropout(self.dropout_rate, deterministic=not train)(h)
        h = nn.relu(Dense(self.dense_width, name="dense1")(h))
        h = BatchNorm(EPSILON, name="bn")(h, train=train)
        return h.astype(jnp.float32), {**maps, "feature_map": z, "pooled": pooled}


class VGGOriginal(_OriginalTagger):
    """The VGG that the package musicnn has as a baseline. It ends in 2 x 1 cells.

    Attributes:
        n_channels: of every layer.
        block_dropout_rate: after each layer but the last.
    """

    n_channels: int = 128
    block_dropout_rate: float = 0.25

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^batch_normalization\.", "spec_bn."),
        *((rf"^{i}CNN\.", f"layer{i}.conv.") for i in range(1, 6)),
        *((rf"^batch_normalization_{i}\.", f"layer{i}.bn.") for i in range(1, 6)),
        (r"^dense\.", "head."),
    )
    LIMITS: ClassVar[tuple[tuple[int, int], ...]] = ((130, 193), (63, 126))
    """Fewest and most frames and bands that end in 2 x 1 cells."""

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(5), "feature_map")

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if the shape does not fit, or does not end in 2 x 1 cells.
        """
        log_mel = self.spectrogram(inputs)
        what = ("spectrogram frames", "mel bands")
        for size, (low, high), name in zip(log_mel.shape[1:], self.LIMITS, what, strict=True):
            if not low <= size <= high:
                raise InputError(
                    f"The input has {size} {name}; VGGOriginal takes {low} to {high}: give "
                    f"excerpts of {self.num_samples} samples and 96 mel bands."
                )
        return log_mel[..., None]

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 2 n_channels) and the maps after each layer."""
        x = BatchNorm(EPSILON, name="spec_bn")(features, train=train).astype(self.dtype)
        maps = {}
        for index, pool in enumerate((None, *VGG_POOLS), start=1):
            layer = RectifiedConv(self.n_channels, (3, 3), 1, name=f"layer{index}")
            x = layer(x, train=train)
            x = nn.max_pool(x, (4, 1), (2, 2)) if pool is None else max_pool(x, pool)
            maps[f"layer_{index}"] = x
            if index <= len(VGG_POOLS):
                x = nn.Dropout(self.block_dropout_rate, deterministic=not train)(x)
        maps["feature_map"] = x
        return x.reshape(x.shape[0], -1).astype(jnp.float32), maps
