"""Taggers that read a sequence of tokens with a transformer, and what its attention shows.

`TokenTagger` is the base: a sequence with a class token in front goes through a `BlockStack`, and
the class token is read out. `attention_heat_maps` and `tag_contributions` are the two pictures of
the self-attention paper.

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019; public
code minzwon/self-attention-music-tagging (the notebook with the heat maps).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.models.attention import BlockStack, PostNormBlock
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import Dense, per_channel
from musrep_jax.models.outputs import layer_names, transformer_options
from musrep_jax.types import Array, PyTree


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


class TokenTagger(SpectrogramTagger):
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

    def compute_block_inputs(self, inputs: Array, *, block: int) -> Array:
        """Returns the tokens that enter a block, without dropout.

        Args:
            inputs: as in `__call__`.
            block: number of the block, from 0.

        Returns:
            (batch, tokens, width).
        """
        tokens, _ = self.tokenize(self.features(inputs, train=False), train=False)
        return self.encoder(tokens, train=False, blocks=range(block))[0]

    def logits_from(self, states: Array, override: Array, *, block: int) -> Array:
        """Returns the logits when a block's attention weights are replaced.

        Args:
            states: (batch, tokens, width), what enters the block.
            override: (batch or 1, heads or 1, tokens, tokens), its attention weights.
            block: number of the block, from 0.

        Returns:
            float32 (batch, classes).
        """
        encoded, _, _ = self.encoder(
            states,
            train=False,
            overrides={block: override},
            blocks=range(block, self.depth),
            num_read=1,
        )
        return self.classify(self.read_out(encoded[:, 0]), train=False)


HEAT_MAPS = ("attention_map_per_head", "attention_map", "first_block_attention_map")
"""The result of `attention_heat_maps`."""


def attention_heat_maps(weights: Sequence[Array]) -> dict[str, Array]:
    """Returns the published summaries of the attention weights.

    Args:
        weights: per block float32 (batch, heads, tokens, tokens), class token first.

    Returns:
        `attention_map_per_head` (batch, heads, tokens): whom the class token attends to in the last
        block; `attention_map` (batch, tokens): its sum over heads;
        `first_block_attention_map` (batch, tokens): the first block's weights, summed over heads,
        mean over queries.
    """
    class_rows = weights[-1][:, :, 0]
    return {
        "attention_map_per_head": class_rows,
        "attention_map": class_rows.sum(axis=1),
        "first_block_attention_map": weights[0].sum(axis=1).mean(axis=1),
    }


def attention_maps(model: TokenTagger, variables: PyTree, inputs: Array) -> dict[str, Array]:
    """Returns the attention weights of every block and their summaries.

    Args:
        model: a tagger with a transformer, unbound.
        variables: of the model.
        inputs: float32 (batch, samples) or (batch, frames, mels).

    Returns:
        `attention_k` float32 (batch, heads, tokens, tokens) for block k, counted from 1, and the
        maps of `attention_heat_maps`.
    """
    features = model.apply(variables, inputs, train=False, method="features")
    embed = functools.partial(model.apply, method="embed")
    _, intermediates = cast(
        tuple[Array, Mapping[str, Array]],
        embed(variables, features, train=False, return_weights=True),
    )
    return {name: value for name, value in intermediates.items() if "attention" in name}


def tag_contributions(
    model: TokenTagger, variables: PyTree, inputs: Array, block: int = -1
) -> Array:
    """Returns the tag predictions of each position alone.

    In one block every head of every query attends to one position only; the rest of the network is
    as it is. In the last block this costs about as much as a forward pass, because only the class
    token is read; in an earlier block it costs one pass of the later blocks per position.

    Args:
        model: a tagger with a transformer, unbound.
        variables: of the model.
        inputs: float32 (batch, samples) or (batch, frames, mels).
        block: number of the block; -1 is the last.

    Returns:
        float32 (batch, classes, tokens), probabilities; position 0 is the class token.

    Raises:
        ValueError: if there is no such block.
    """
    if not -model.depth <= block < model.depth:
        raise ValueError(f"There is no block {block}; the model has {model.depth}.")
    block %= model.depth
    states = cast(Array, model.apply(variables, inputs, block=block, method="compute_block_inputs"))
    batch, num_tokens, width = states.shape

    def logits_from(states: Array, override: Array) -> Array:
        apply = functools.partial(model.apply, block=block, method="logits_from")
        return cast(Array, apply(variables, states, override))

    if block == model.depth - 1:
        # A pair (class token, position) tells the same as the whole sequence.
        classes = jnp.broadcast_to(states[:, :1], states.shape)
        pairs = jnp.stack([classes, states], axis=2).reshape(batch * num_tokens, 2, width)
        override = jnp.zeros((1, 1, 2, 2)).at[..., 1].set(1.0)
        logits = logits_from(pairs, override).reshape(batch, num_tokens, -1)
    else:

        def at(position: Array) -> Array:
            row = jax.nn.one_hot(position, num_tokens)[None, None, None]
            return logits_from(states, jnp.broadcast_to(row, (1, 1, num_tokens, num_tokens)))

        logits = jax.lax.map(at, jnp.arange(num_tokens)).swapaxes(0, 1)
    return jax.nn.sigmoid(logits).swapaxes(1, 2)
