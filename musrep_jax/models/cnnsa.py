"""CNNSA: a residual CNN whose time steps are read by a transformer, as compared in the thesis.

Layers for 240,000 samples (938 frames), (time x mel x channels) after each; every layer is a
residual block of two 3 x 3 convolutions whose first one has the stride:

    spec_bn       938 x 128 x 1
    layer1        469 x 64 x 128     stride 2 x 2
    layer2        235 x 32 x 128     stride 2 x 2
    layer3        118 x 16 x 256     stride 2 x 2
    layer4 to 7   118 x 8, 4, 2, 1 x 256    stride 1 x 2
    class token   119 x 256
    encoder       119 x 256          two post-norm blocks, 8 heads, feed-forward 1024
    pooler        256                tanh(dense) of the class token (embedding)
    dropout, head

Kept: the class token is a constant; there are no positions. Avoided: the published code takes at
most 64 examples at once and re-seeds NumPy's global generator; its two blocks start with equal
weights, here each is drawn by itself.

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019, in the
form of Won, Ferraro, Bogdanov, Serra, SMC 2020; public code minzwon/sota-music-tagging-models.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn

from musrep_jax.models.attention import BERT_TORCH_NAMES
from musrep_jax.models.base import InputError
from musrep_jax.models.layers import BatchNorm, ResBlock
from musrep_jax.models.token_tagger import TokenTagger, constant_class_token, prepend_token
from musrep_jax.types import Array

MAX_MELS = 128  # seven halvings, rounded up, leave one row


class CNNSA(TokenTagger):
    """Seven residual blocks and a two-layer transformer over 15 s of log-mel spectrogram.

    Attributes:
        n_channels: channels of the first two layers; the others, and the tokens, have twice as
            many.
    """

    num_samples: int = 240000
    n_channels: int = 128

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        *BERT_TORCH_NAMES,
        (r"^pooler\.dense\.", "pooler."),
        (r"^dense\.", "head."),
    )

    @property
    def token_start(self) -> float:
        """Half a step before the waveform: strides center a token on its first frame."""
        return -4.0 * self.hop_length

    @property
    def token_step(self) -> float:
        """Distance between tokens, in samples."""
        return 8.0 * self.hop_length

    @property
    def token_width(self) -> int:
        """Width of a token, 2 n_channels."""
        return 2 * self.n_channels

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if the mel bands do not end in one row.
        """
        if self.n_mels > MAX_MELS:
            raise InputError(f"n_mels is {self.n_mels}; CNNSA takes at most {MAX_MELS} mel bands.")
        return self.spectrogram(inputs)[..., None]

    @property
    def token_names(self) -> tuple[str, ...]:
        """Names of the maps before the transformer."""
        return ("feature_map",)

    @nn.compact
    def tokenize(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the time steps behind the class token, (batch, tokens, width); the last map."""
        x = BatchNorm(name="spec_bn")(features, train=train).astype(self.dtype)
        for index in range(1, 8):
            channels = self.n_channels * (1 if index < 3 else 2)
            strides = (2, 2) if index < 4 else (1, 2)
            x = ResBlock(channels, strides=strides, name=f"layer{index}")(x, train=train)
        tokens = prepend_token(constant_class_token(self.token_width), x[:, :, 0])
        return tokens, {"feature_map": x}
