"""The self-attention taggers: two front ends (spectrogram, waveform) and two back ends.

`front="spec"` for 256 frames of 96 mels, (time x channels) after each; c is `spec_channels`, 8:

    front_end/input_bn        256 x 96 x 1
    front_end/branch_0 to 5   256 x 7c, 7c     vertical: windows of 86 and 38 mels by 7, 3, 1
                                               frames, BatchNorm, ReLU, maximum over frequency
    front_end/branch_6 to 9   256 x 15c        horizontal: mean over mels, then windows of 165,
                                               129, 65, 33 frames, BatchNorm, ReLU
    front_end/conv1x1, bn     256 x 512        ReLU; with the transformer only (else 256 x 29c)

`front="raw"` for 65,610 samples; c is `raw_channels`, 128; convolutions of width 3:

    front_end/init_conv       21870 x c        stride 3, BatchNorm, ReLU
    front_end/conv_0 to 3     7290 x c; 2430, 810, 270 x 2c    each with max-pooling by 3
    front_end/conv1x1         270 x 512        width 7 in spite of its published name
    With the CNN there are nine convolutions (c; 2c six times; 4c twice) that end in one cell, and a
    last one of width 1: 512.

`back="transformer"`: constant class token, positions, two post-norm blocks (8 heads, feed-forward
2048), tanh(dense 512) of the class token (embedding), dropout, head.
`back="cnn"` behind the spectrogram: three convolutions of width 7 and 512 channels, the second and
the third with a shortcut, max-pooling by 2 between them; maximum and mean over time, dense 500,
BatchNorm, ReLU (embedding). Behind the waveform the convolutions above are the back end.

Positions: "sinusoidal" as in the paper and its training code, or "learned" as in the released
weights (a table, then LayerNorm and dropout); they are not compatible.

The published spectrogram has 96 mels on the Slaney scale with area normalization, at
20 log10(max(power, 1e-5)), cut at 80 dB below the maximum of the file: twice the usual decibel.
Weights that were trained on it want it as input, (batch, frames, mels); from a waveform this model
computes the log-mel of all the others.

Kept: the position table's row of the class token is all zero (not cosine 1). Avoided: pooling
windows that do not fit the map (here maximum and mean over the whole axis); a sequence length fixed
to the table's; at most 32 examples at once; equal initial weights in both blocks.

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019; public
code minzwon/self-attention-music-tagging.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from musrep_jax.models.attention import BERT_TORCH_NAMES, LayerNorm
from musrep_jax.models.base import InputError, check_waveform
from musrep_jax.models.layers import BatchNorm, Conv, ConvBlock, Dense, max_pool
from musrep_jax.models.sample_cnn import check_collapses
from musrep_jax.models.token_tagger import TokenTagger, constant_class_token, prepend_token
from musrep_jax.types import Array

VERTICAL = tuple((mels, frames) for mels in (0.9, 0.4) for frames in (7, 3, 1))
"""Windows of the vertical branches: share of the mel bands, and frames."""
VERTICAL_FACTORS = (1, 2, 4, 1, 2, 4)
HORIZONTAL = (165, 129, 65, 33)
"""Windows of the horizontal branches, in frames."""
HORIZONTAL_FACTORS = (1, 2, 4, 8)
RAW_FACTORS = {"transformer": (1, 2, 2, 2), "cnn": (1, 2, 2, 2, 2, 2, 2, 4, 4)}
"""Channels of the convolutions of the waveform front end, in units of `raw_channels`."""


@functools.lru_cache(maxsize=8)
def sinusoidal_positions(num_tokens: int, width: int) -> np.ndarray:
    """Returns the position table of the training code.

    Row 0, the class token's, is zero; row p has sin(a) at even and cos(a) at odd places j, with
    a = p / 10000^(2 floor(j / 2) / width).

    Args:
        num_tokens: with the class token.
        width: of a token.

    Returns:
        float32 (num_tokens, width).
    """
    place = np.arange(width)
    angle = np.arange(num_tokens)[:, None] / 10000 ** (2 * (place // 2) / width)[None]
    table = np.where(place[None] % 2 == 0, np.sin(angle), np.cos(angle))
    table[0] = 0
    return table.astype(np.float32)


class SpecFrontEnd(nn.Module):
    """Vertical and horizontal filters over a log-mel spectrogram.

    Attributes:
        n_channels: of the narrowest branches, c.
        width: of the tokens; None leaves the 29c channels as they are.
        dtype: of the computation.
    """

    n_channels: int
    width: int | None
    dtype: str

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, frames, mels) to (batch, frames, width or 29 n_channels)."""
        n_mels = x.shape[2]
        x = BatchNorm(name="input_bn")(x[..., None], train=train).astype(self.dtype)
        branches = []
        for (share, frames), factor in zip(VERTICAL, VERTICAL_FACTORS, strict=True):
            block = ConvBlock(
                factor * self.n_channels,
                (frames, int(share * n_mels)),
                padding=(frames // 2, 0),
                name=f"branch_{len(branches)}",
            )
            branches.append(block(x, train=train).max(axis=2))
        mean = x.mean(axis=2)
        for frames, factor in zip(HORIZONTAL, HORIZONTAL_FACTORS, strict=True):
            block = ConvBlock(factor * self.n_channels, (frames,), name=f"branch_{len(branches)}")
            branches.append(block(mean, train=train))
        x = jnp.concatenate(branches, axis=-1)
        if self.width is None:
            return x
        x = Conv(self.width, (1,), name="conv1x1")(x)
        return nn.relu(BatchNorm(name="bn")(x, train=train))


class RawFrontEnd(nn.Module):
    """Convolutions of three samples over the waveform.

    Attributes:
        channels: of the strided convolution and of each convolution with max-pooling.
        width: of the last convolution.
        last_kernel_size: width in time of the last convolution.
    """

    channels: tuple[int, ...]
    width: int
    last_kernel_size: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, samples, 1) to (batch, tokens, width)."""
        first, *others = self.channels
        x = ConvBlock(first, (3,), strides=(3,), name="init_conv")(x, train=train)
        for index, features in enumerate(others):
            x = ConvBlock(features, (3,), pool=(3,), name=f"conv_{index}")(x, train=train)
        return ConvBlock(self.width, (self.last_kernel_size,), name="conv1x1")(x, train=train)


class SpecBackEnd(nn.Module):
    """Three convolutions over time, pooled by maximum and mean.

    Attributes:
        n_channels: of the convolutions.
        features: of the dense layer.
    """

    n_channels: int
    features: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, frames, channels) to (batch, features)."""

        def layer(index: int, x: Array) -> Array:
            x = Conv(self.n_channels, (7,), name=f"conv{index}")(x)
            return nn.relu(BatchNorm(name=f"bn{index}")(x, train=train))

        x = layer(1, x)
        x = max_pool(layer(2, x) + x, (2,))
        x = layer(3, x) + x
        x = jnp.concatenate([x.max(axis=1), x.mean(axis=1)], axis=-1)
        x = BatchNorm(name="bn4")(Dense(self.features, name="dense")(x), train=train)
        return nn.relu(x)


class SelfAttentionTagger(TokenTagger):
    """The four self-attention taggers, chosen by `front` and `back`.

    Attributes:
        front: "spec" (log-mel spectrogram) or "raw" (waveform).
        back: "transformer" or "cnn".
        positions: "sinusoidal" or "learned"; of the transformer.
        spec_channels: channels of the narrowest branches of the spectrogram front end.
        raw_channels: channels of the first layer of the waveform front end.
        width: of the tokens, and channels of the spectrogram's CNN.
        cnn_features: width of the embedding behind the spectrogram's CNN.
        max_tokens: rows of the learned table; the class token takes one.
    """

    num_samples: int = 65280
    n_mels: int = 96
    attention_dropout_rate: float = 0.4
    front: str = "spec"
    back: str = "transformer"
    positions: str = "sinusoidal"
    spec_channels: int = 8
    raw_channels: int = 128
    width: int = 512
    cnn_features: int = 500
    max_tokens: int = 271

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        *BERT_TORCH_NAMES,
        (r"^back_end\.encoder\.", "encoder."),
        (r"^back_end\.pooler\.dense\.", "pooler."),
        (r"^back_end\.embedding\.position_embeddings\.weight$", "position_table"),
        (r"^back_end\.embedding\.LayerNorm\.", "position_norm."),
        (r"^front_end\.layers\.(\d+)\.", r"front_end.branch_\1."),
        (r"^front_end\.convs\.(\d+)\.", r"front_end.conv_\1."),
        (r"^classifier\.", "head."),
    )

    def check_settings(self) -> None:
        """Checks the choices.

        Raises:
            ValueError: if one is unknown or the vertical windows are empty.
        """
        if self.n_mels < 3:
            raise ValueError(f"n_mels of self_attention is {self.n_mels}: give at least 3 bands.")
        choices = {
            "front": ("spec", "raw"),
            "back": ("transformer", "cnn"),
            "positions": ("sinusoidal", "learned"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"`{field}` of self_attention is {getattr(self, field)!r}: choose "
                    f"{allowed[0]!r} or {allowed[1]!r}."
                )

    @property
    def token_start(self) -> float:
        """Half a hop before the waveform for frames, which are centered; 0 for samples."""
        return -0.5 * self.hop_length if self.front == "spec" else 0.0

    @property
    def token_step(self) -> float:
        """Distance between tokens, in samples."""
        return float(
            self.hop_length if self.front == "spec" else 3 ** (1 + len(RAW_FACTORS[self.back]))
        )

    def check_attention(self) -> None:
        """Raises ValueError for the back end without attention."""
        if self.back != "transformer":
            raise ValueError('self_attention with back="cnn" has no attention weights.')

    @property
    def token_width(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def min_frames(self) -> int:
        """Fewest spectrogram frames: the CNN halves time once."""
        return 2 if self.back == "cnn" else 1

    @property
    def front_end(self) -> Mapping[str, Any] | None:
        """The spectrogram settings as plain data, or None for the waveform front end."""
        return super().front_end if self.front == "spec" else None

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram (batch, frames, mels) or waveform (batch, samples, 1).

        Raises:
            InputError: if the length does not fit.
        """
        self.check_settings()
        if self.front == "spec":
            return self.spectrogram(inputs)
        num_thirds = 1 + len(RAW_FACTORS[self.back])
        if self.back == "cnn":
            check_collapses(inputs, self.sample_rate, num_thirds, "self_attention (raw, cnn)")
        else:
            check_waveform(inputs, self.sample_rate, 3**num_thirds - 2)
        return inputs[..., None].astype(self.dtype)

    @property
    def token_names(self) -> tuple[str, ...]:
        """Names of the maps before the transformer."""
        return ("front_end_tokens",)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps, tokens and attention weights that the model can show."""
        return super().intermediate_names if self.back == "transformer" else self.token_names

    def embed_options(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Returns the requested outputs of `embed`; the CNN returns those it has."""
        return super().embed_options(names) if self.back == "transformer" else {}

    @nn.compact
    def tokenize(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the tokens with positions, or for `back="cnn"` the embedding.

        The intermediate `front_end_tokens` is (batch, tokens, channels), the front end's output.

        Returns:
            (batch, tokens, width) with the class token first; with the CNN (batch, width).
        """
        is_transformer = self.back == "transformer"
        if self.front == "spec":
            width = self.width if is_transformer else None
            front_end = SpecFrontEnd(self.spec_channels, width, self.dtype, name="front_end")
        else:
            channels = tuple(f * self.raw_channels for f in (1, *RAW_FACTORS[self.back]))
            last = 7 if is_transformer else 1
            front_end = RawFrontEnd(channels, self.width, last, name="front_end")
        x = front_end(features, train=train)
        intermediates = {"front_end_tokens": x}
        if is_transformer:
            x = self.add_positions(prepend_token(constant_class_token(self.width), x), train=train)
        elif self.front == "spec":
            x = SpecBackEnd(self.width, self.cnn_features, name="back_end")(x, train=train)
        else:
            x = x[:, 0]
        return x, intermediates

    def add_positions(self, x: Array, *, train: bool) -> Array:
        """Returns the tokens with the positions added; called inside `tokenize`."""
        if self.positions == "sinusoidal":
            return x + jnp.asarray(sinusoidal_positions(x.shape[1], self.width), x.dtype)[None]
        if x.shape[1] > self.max_tokens:
            raise InputError(
                f"The input makes {x.shape[1]} tokens with the class token, and the learned "
                f"position table has {self.max_tokens} rows: use shorter chunks or raise "
                "max_tokens."
            )
        init = nn.initializers.normal(1.0)  # PyTorch's default of an embedding
        table = self.param("position_table", init, (self.max_tokens, self.width))
        x = x + table[None, : x.shape[1]].astype(x.dtype)
        x = LayerNorm(1e-12, name="position_norm")(x)
        return nn.Dropout(self.transformer_dropout_rate)(x, deterministic=not train)

    def embed(
        self,
        features: Array,
        *,
        train: bool,
        return_weights: bool = False,
        all_tokens: bool = False,
        overrides: Mapping[int, Array] | None = None,
    ) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding and the intermediates; see `TokenTagger.embed`.

        Raises:
            ValueError: if attention weights are asked of the CNN.
        """
        if self.back == "transformer":
            return super().embed(
                features,
                train=train,
                return_weights=return_weights,
                all_tokens=all_tokens,
                overrides=overrides,
            )
        if return_weights or overrides:
            self.check_attention()
        x, intermediates = self.tokenize(features, train=train)
        return x.astype(jnp.float32), intermediates
