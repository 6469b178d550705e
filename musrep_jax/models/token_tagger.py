"""Taggers that read a sequence of tokens with a transformer.

`TokenTagger` is the base: a sequence with a class token in front goes through a `BlockStack`, and
the class token is read out. What its attention shows is in `musrep_jax.models.attention_maps`.

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from musrep_jax.models.attention import BlockStack, PostNormBlock
from musrep_jax.models.attention_maps import (
    HEAT_MAPS,
    AttentionReader,
    TokenGrid,
    attention_heat_maps,
)
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import Dense, per_channel
from musrep_jax.models.outputs import layer_names, transformer_options
from musrep_jax.types import Array


@functools.lru_cache(maxsize=8)
def constant_class_token(width: int) -> np.ndarray:
    """Returns the class token that the published self-attention taggers share.

    It is not learned and not stored with their weights: NumPy's legacy generator, seeded with 0,
    draws it from [0, 1). Here NumPy's global generator is left alone.

    Args:
        width: of a token.

    Returns:
        float32 (width,).

    Example:
        >>> [round(float(value), 4) for value in constant_class_token(256)[:2]]
        [0.5488, 0.7152]
    """
    return np.random.RandomState(0).uniform(size=width).astype(np.float32)


def prepend_token(token: Array | np.ndarray, x: Array) -> Array:
    """Returns a sequence with one more token in front.

    Args:
        token: (width,).
        x: (batch, tokens, width).

    Returns:
        (batch, 1 + tokens, width).
    """
    return jnp.concatenate([per_channel(jnp.asarray(token), x[:, :1]), x], axis=1)


class TokenTagger(AttentionReader, SpectrogramTagger):
    """Base of the taggers with a transformer; a subclass writes `features` and `tokenize`.

    By default the blocks are BERT's (post-norm) and the embedding is tanh of a dense layer of the
    class token.

    Attributes:
        depth: number of transformer blocks.
        num_heads: of the attention; must divide the width.
        transformer_dropout_rate: after the attention's output layer and after the second
            feed-forward layer.
        attention_dropout_rate: on the attention weights.
        remat: whether a block's activations are recomputed in the backward pass instead of kept.
    """

    depth: int = 2
    num_heads: int = 8
    transformer_dropout_rate: float = 0.4
    attention_dropout_rate: float = 0.5
    remat: bool = False

    def setup(self) -> None:
        """Creates the transformer, the pooler and the output layer."""
        super().setup()
        self.encoder = BlockStack(self.depth, self.block_maker(), remat=self.remat)
        self.make_read_out()

    def block_maker(self) -> Callable[..., nn.Module]:
        """Returns the factory of a transformer block, called with `name`."""
        return functools.partial(
            PostNormBlock,
            num_heads=self.num_heads,
            dropout_rate=self.transformer_dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
        )

    def make_read_out(self) -> None:
        """Creates, in `setup`, the layers of `read_out`."""
        self.pooler = Dense(self.token_width)

    @property
    def token_width(self) -> int:
        """Width of a token."""
        raise NotImplementedError

    def tokenize(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the input of the transformer and the intermediates on the way to it.

        Args:
            features: as `features` returns them.
            train: whether batch statistics are used and updated and dropout is active.

        Returns:
            (batch, tokens, width), class token first; and a dict.
        """
        raise NotImplementedError

    def read_out(self, class_token: Array) -> Array:
        """Maps the class token after the last block, (batch, width), to the embedding."""
        return jnp.tanh(self.pooler(class_token))

    def read_special(self, encoded: Array) -> Array:
        """Returns the embedding of the tokens after the last block; see `AttentionReader`."""
        return self.read_out(encoded[:, 0])

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks."""
        return self.depth

    @property
    def token_start(self) -> float:
        """Where the first token behind the class token starts, in samples; see `token_grid`."""
        return 0.0

    @property
    def token_step(self) -> float:
        """Distance between tokens, in samples."""
        raise NotImplementedError

    @property
    def token_grid(self) -> TokenGrid:
        """See `AttentionReader.token_grid`."""
        return TokenGrid(1, self.token_start, self.token_step)

    def embed(
        self,
        features: Array,
        *,
        train: bool,
        return_weights: bool = False,
        all_tokens: bool = False,
        overrides: Mapping[int, Array] | None = None,
    ) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding, (batch, width), and the tokens before the transformer.

        Args:
            features: as `features` returns them.
            train: whether dropout is active.
            return_weights: whether the intermediates hold, for block k counted from 1,
                `attention_k` (batch, heads, tokens, tokens), and the maps of `attention_heat_maps`.
            all_tokens: whether they hold `layer_k`, the output of block k, (batch, tokens, width).
            overrides: block number -> attention weights to be used there instead.

        Returns:
            The embedding; and `tokens` (batch, tokens, width), what enters the transformer.
        """
        tokens, intermediates = self.tokenize(features, train=train)
        encoded, weights, blocks = self.encoder(
            tokens,
            train=train,
            return_weights=return_weights,
            overrides=overrides,
            num_read=None if all_tokens else 1,
        )
        intermediates = {**intermediates, "tokens": tokens}
        if all_tokens:
            intermediates |= {f"layer_{k}": block for k, block in enumerate(blocks, start=1)}
        if return_weights:
            intermediates |= {
                f"attention_{k}": w for k, w in enumerate(weights, start=1) if w is not None
            }
            intermediates |= attention_heat_maps([w for w in weights if w is not None])
        return self.read_out(encoded[:, 0]).astype(jnp.float32), intermediates

    @property
    def token_names(self) -> tuple[str, ...]:
        """Names of what `tokenize` shows."""
        return ()

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps, tokens and attention weights that the model can show."""
        layers, weights = (layer_names(self.depth, prefix) for prefix in ("layer", "attention"))
        return (*self.token_names, "tokens", *layers, *weights, *HEAT_MAPS)

    def embed_options(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Returns the requested outputs of `embed`: weights or all tokens, where names need
        them."""
        return transformer_options(names)

    def steps_that_count(self, name: str, inputs: Array, num_steps: int) -> Array | None:
        """Returns the places of all tokens but the class token, of what the transformer reads."""
        if name == "tokens" or name.startswith("layer_"):
            return jnp.arange(num_steps)[None] >= 1
        return None
