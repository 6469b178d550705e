"""Music tagging transformer: a shallow residual CNN and a four-layer pre-norm transformer.

Layers of the teacher for 220,500 samples at 22.05 kHz (431 frames), (time x mel x channels) after
each; layer1 to 3 are residual blocks of two 3 x 3 convolutions with max-pooling at the end:

    frontend/input_bn    431 x 128 x 1
    frontend/layer1      215 x 64 x 128    pool 2 x 2
    frontend/layer2      107 x 32 x 128    pool 2 x 2
    frontend/layer3      107 x 16 x 128    pool 1 x 2
    frontend/fc          107 x 256         all channels and mels of a time step
    cls_token            108 x 256         learned
    pos_embedding        108 x 256         learned, dropout
    encoder              108 x 256         four blocks, 8 heads, feed-forward 1024
    class token (embedding), head_norm, head

The students of knowledge distillation are settings: `{"width": 64}` is the compact model of the
public README (1.11 M parameters), `{"width": 64, "conv_channels": 64}` the one of the paper
(0.5 M).

The embedding is the class token before the head's LayerNorm, so `classify` applies `head_norm`.

Source: Won, Choi, Serra, "Semi-supervised music tagging transformer", ISMIR 2021; public code
minzwon/semi-supervised-music-tagging-transformer.
"""

import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.models.attention import LayerNorm, PreNormBlock
from musrep_jax.models.base import InputError
from musrep_jax.models.layers import BatchNorm, Dense, ResBlock
from musrep_jax.models.token_tagger import TokenTagger, prepend_token
from musrep_jax.types import Array

POOLS = ((2, 2), (2, 2), (1, 2))
TIME_FACTOR = 4
MEL_FACTOR = 8
BLOCK_NAME = r"^transformer\.layers\.(\d+)\."


class ConvFrontEnd(nn.Module):
    """Three residual blocks and a dense layer per time step.

    Attributes:
        n_channels: of the convolutions.
        width: of the tokens.
        dtype: of the computation.
    """

    n_channels: int
    width: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, frames, mels, 1) to (batch, frames // 4, width)."""
        x = BatchNorm(name="input_bn")(x, train=train).astype(self.dtype)
        for index, pool in enumerate(POOLS, start=1):
            x = ResBlock(self.n_channels, pool=pool, name=f"layer{index}")(x, train=train)
        # Channels before mels, as the published weights of the dense layer are ordered.
        x = x.swapaxes(2, 3).reshape(*x.shape[:2], -1)
        return Dense(self.width, name="fc")(x)


class TaggingTransformer(TokenTagger):
    """Music tagging transformer; the defaults are the teacher.

    Attributes:
        conv_channels: channels of the front end.
        width: of the tokens.
        max_tokens: rows of the position table, without the class token's.
    """

    sample_rate: int = 22050
    num_samples: int = 220500
    n_fft: int = 1024
    hop_length: int = 512
    f_max: float = 11025.0
    dropout_rate: float = 0.0
    depth: int = 4
    transformer_dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.0
    conv_channels: int = 128
    width: int = 256
    max_tokens: int = 512

    MIN_FRAMES: ClassVar[int] = TIME_FACTOR
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (BLOCK_NAME + r"0\.fn\.norm\.", r"encoder.block_\1.norm1."),
        (BLOCK_NAME + r"0\.fn\.fn\.to_qkv\.", r"encoder.block_\1.attention.qkv."),
        (BLOCK_NAME + r"0\.fn\.fn\.to_out\.0\.", r"encoder.block_\1.attention.out."),
        (BLOCK_NAME + r"1\.fn\.norm\.", r"encoder.block_\1.norm2."),
        (BLOCK_NAME + r"1\.fn\.fn\.net\.0\.", r"encoder.block_\1.mlp.fc1."),
        (BLOCK_NAME + r"1\.fn\.fn\.net\.3\.", r"encoder.block_\1.mlp.fc2."),
        (r"^mlp_head\.0\.", "head_norm."),
        (r"^mlp_head\.1\.", "head."),
    )
    TORCH_IGNORED: ClassVar[tuple[str, ...]] = (r"^teacher_network\.",)

    def block_maker(self) -> Callable[..., nn.Module]:
        """Returns the factory of a transformer block, called with `name`."""
        return functools.partial(
            PreNormBlock,
            num_heads=self.num_heads,
            epsilon=1e-5,
            qkv_bias=False,
            dropout_rate=self.transformer_dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
        )

    def make_read_out(self) -> None:
        """Creates the LayerNorm before the output layer."""
        self.head_norm = LayerNorm(1e-5)

    @property
    def token_start(self) -> float:
        """Half a hop before the waveform, whose first frame is centered on its start."""
        return -0.5 * self.hop_length

    @property
    def token_step(self) -> float:
        """Distance between tokens, in samples."""
        return float(TIME_FACTOR * self.hop_length)

    @property
    def token_width(self) -> int:
        """Width of a token."""
        return self.width

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if there are too many frames for the position table, or too few mels.
        """
        log_mel = self.spectrogram(inputs)
        num_frames, max_frames = log_mel.shape[1], TIME_FACTOR * (self.max_tokens + 1) - 1
        if num_frames > max_frames:
            seconds = max_frames * self.hop_length / self.sample_rate
            raise InputError(
                f"The input has {num_frames} spectrogram frames; the position table of "
                f"{self.max_tokens} tokens reads at most {max_frames} ({seconds:.2f} s). Cut it "
                "into chunks or raise max_tokens."
            )
        if self.n_mels < MEL_FACTOR:
            raise InputError(
                f"n_mels is {self.n_mels}; the tagging transformer takes at least {MEL_FACTOR} mel "
                "bands."
            )
        return log_mel[..., None]

    @property
    def token_names(self) -> tuple[str, ...]:
        """Names of the maps before the transformer."""
        return ("front_end_tokens",)

    @nn.compact
    def tokenize(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the tokens with positions, (batch, tokens, width), class token first.

        The intermediate `front_end_tokens` is (batch, frames // 4, width), before both.
        """
        front_end = ConvFrontEnd(self.conv_channels, self.width, self.dtype, name="frontend")
        init = nn.initializers.normal(1.0)
        class_token = self.param("cls_token", init, (self.width,))
        table = self.param("pos_embedding", init, (self.max_tokens + 1, self.width))
        tokens = front_end(features, train=train)
        x = prepend_token(class_token, tokens)
        x = x + table[None, : x.shape[1]].astype(x.dtype)
        x = nn.Dropout(self.transformer_dropout_rate)(x, deterministic=not train)
        return x, {"front_end_tokens": tokens}

    def read_out(self, class_token: Array) -> Array:
        """Returns the class token: the embedding is what enters the head's LayerNorm."""
        return class_token

    def classify(self, embedding: Array, *, train: bool) -> Array:
        """Returns the logits of an embedding.

        Args:
            embedding: (batch, width), class token before `head_norm`.
            train: whether dropout is active.

        Returns:
            float32 (batch, classes).
        """
        return super().classify(self.head_norm(embedding.astype(jnp.float32)), train=train)
