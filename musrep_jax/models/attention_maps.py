"""What the attention of a transformer shows: heat maps, and what each position says of a tag.

Source: Won, Chun, Serra, "Toward interpretable music tagging with self-attention", 2019; public
code minzwon/self-attention-music-tagging (the notebook with the heat maps).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from musrep_jax.types import Array, PyTree

HEAT_MAPS = ("attention_map_per_head", "attention_map", "first_block_attention_map")
"""The result of `attention_heat_maps`."""


class TokenGrid(NamedTuple):
    """Where the tokens of a transformer lie in the waveform.

    Attributes:
        num_special: number of tokens in front of the others: the class token, and perhaps another.
        start: where the first column of the others starts, in samples; it may lie before the
            waveform, whose ends are padded.
        step: between columns, in samples.
        bands: edges of the rows in mel bands, of tokens that are patches, row by row; None for
            tokens that are time steps.
    """

    num_special: int
    start: float
    step: float
    bands: tuple[float, ...] | None = None


class AttentionReader:
    """What a model with special tokens and a `BlockStack` called `encoder` adds for its maps."""

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks."""
        raise NotImplementedError

    @property
    def token_grid(self) -> TokenGrid:
        """Where the tokens lie in the waveform."""
        raise NotImplementedError

    def check_attention(self) -> None:
        """Raises ValueError if the model, as it is set, has no attention weights."""

    def read_special(self, encoded: Array) -> Array:
        """Returns the embedding.

        Args:
            encoded: (batch, at least the special tokens, width), after the last block.

        Returns:
            (batch, width).
        """
        raise NotImplementedError

    def compute_block_inputs(self: Any, inputs: Array, *, block: int) -> Array:
        """Returns the tokens that enter a block, without dropout.

        Args:
            inputs: as in `__call__`.
            block: number of the block, from 0.

        Returns:
            (batch, tokens, width).
        """
        tokens, _ = self.tokenize(self.features(inputs, train=False), train=False)
        return self.encoder(tokens, train=False, blocks=range(block))[0]

    def logits_from(self: Any, states: Array, override: Array, *, block: int) -> Array:
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
            blocks=range(block, self.num_blocks),
            num_read=self.token_grid.num_special,
        )
        return self.classify(self.read_special(encoded), train=False)


def attention_heat_maps(weights: Sequence[Array], num_special: int = 1) -> dict[str, Array]:
    """Returns the published summaries of the attention weights.

    Args:
        weights: per block float32 (batch, heads, tokens, tokens), special tokens first.
        num_special: number of special tokens; what they attend to is averaged.

    Returns:
        `attention_map_per_head` (batch, heads, tokens): whom the class token attends to in the last
        block; `attention_map` (batch, tokens): its sum over heads;
        `first_block_attention_map` (batch, tokens): the first block's weights, summed over heads,
        mean over queries.
    """
    class_rows = weights[-1][:, :, :num_special].mean(axis=2)
    return {
        "attention_map_per_head": class_rows,
        "attention_map": class_rows.sum(axis=1),
        "first_block_attention_map": weights[0].sum(axis=1).mean(axis=1),
    }


def attention_maps(model: AttentionReader, variables: PyTree, inputs: Array) -> dict[str, Array]:
    """Returns the attention weights of every block and their summaries.

    Args:
        model: a tagger with a transformer, unbound.
        variables: of the model.
        inputs: float32 (batch, samples) or (batch, frames, mels).

    Returns:
        `attention_k` float32 (batch, heads, tokens, tokens) for block k, counted from 1, and the
        maps of `attention_heat_maps`.

    Raises:
        ValueError: if the model, as it is set, has no attention weights.
    """
    model.check_attention()
    network = cast(Any, model)
    features = network.apply(variables, inputs, train=False, method="features")
    _, intermediates = network.apply(
        variables, features, train=False, return_weights=True, method="embed"
    )
    found: Mapping[str, Array] = intermediates
    return {name: value for name, value in found.items() if "attention" in name}


def tag_contributions(
    model: AttentionReader, variables: PyTree, inputs: Array, block: int = -1
) -> Array:
    """Returns the tag predictions of each position alone; see `contribution_logits`.

    Returns:
        float32 (batch, classes, tokens), probabilities of labels that are there or not each by
        itself; the special tokens are first.
    """
    logits = contribution_logits(model, variables, inputs, block)
    return jax.nn.sigmoid(logits).swapaxes(1, 2)


def contribution_logits(
    model: AttentionReader, variables: PyTree, inputs: Array, block: int = -1
) -> Array:
    """Returns the logits of each position alone.

    In one block every head of every query attends to one position only; the rest of the network is
    as it is. In the last block this costs about as much as a forward pass, because only the special
    tokens are read; in an earlier block it costs one pass of the later blocks per position.

    Args:
        model: a tagger with a transformer, unbound.
        variables: of the model.
        inputs: float32 (batch, samples) or (batch, frames, mels).
        block: number of the block; -1 is the last.

    Returns:
        float32 (batch, tokens, classes); the special tokens are first.

    Raises:
        ValueError: if there is no such block, or the model, as it is set, has no attention weights.
    """
    model.check_attention()
    network, depth = cast(Any, model), model.num_blocks
    if not -depth <= block < depth:
        raise ValueError(f"There is no block {block}; the model has {depth}.")
    block %= depth
    states = network.apply(variables, inputs, block=block, method="compute_block_inputs")
    batch, num_tokens, width = states.shape
    num_special = model.token_grid.num_special

    def logits_from(states: Array, override: Array) -> Array:
        apply = functools.partial(network.apply, block=block, method="logits_from")
        return cast(Array, apply(variables, states, override))

    if block == depth - 1:
        # The special tokens and one position tell the same as the whole sequence.
        special = jnp.broadcast_to(
            states[:, None, :num_special], (batch, num_tokens, num_special, width)
        )
        groups = jnp.concatenate([special, states[:, :, None]], axis=2)
        groups = groups.reshape(batch * num_tokens, num_special + 1, width)
        override = jnp.zeros((1, 1, num_special + 1, num_special + 1)).at[..., -1].set(1.0)
        logits = logits_from(groups, override).reshape(batch, num_tokens, -1)
    else:

        def at(position: Array) -> Array:
            row = jax.nn.one_hot(position, num_tokens)[None, None, None]
            return logits_from(states, jnp.broadcast_to(row, (1, 1, num_tokens, num_tokens)))

        logits = jax.lax.map(at, jnp.arange(num_tokens)).swapaxes(0, 1)
    return logits
