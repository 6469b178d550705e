"""Self-attention and transformer blocks shared by the architectures, (batch, tokens, width).

Two families: `PreNormBlock` (ViT, AST, the tagging transformer: one fused query-key-value layer,
LayerNorm before each half) and `PostNormBlock` (BERT and the earlier self-attention taggers: three
separate layers, LayerNorm after each addition). `BlockStack` stacks either of them.

Source: Vaswani et al., "Attention is all you need", 2017; Dosovitskiy et al., "An image is worth
16x16 words", 2021; Devlin et al., "BERT", 2019. Every initial value is PyTorch's default of the
dense layer, where ViT draws a truncated normal of 0.02 (the two agree at width 768).
"""

from collections.abc import Callable, Mapping
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.kernels import cpu as cpu_kernels
from musrep_jax.kernels import gpu as gpu_kernels
from musrep_jax.kernels.formulations import is_used
from musrep_jax.models.layers import Dense, gelu, per_channel
from musrep_jax.types import Array

BERT_TORCH_NAMES: tuple[tuple[str, str], ...] = (
    (
        r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.",
        r"encoder.block_\1.attention.\2.",
    ),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"encoder.block_\1.attention.out."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.", r"encoder.block_\1.norm1."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"encoder.block_\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"encoder.block_\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm\.", r"encoder.block_\1.norm2."),
)
"""Names of BERT's encoder in PyTorch -> a `BlockStack` of `PostNormBlock` called `encoder`."""


class LayerNorm(nn.Module):
    """Layer normalization over the last axis, with float32 statistics whatever the input's dtype.

    Attributes:
        epsilon: added to the variance: 1e-6 in ViT, 1e-5 in PyTorch's default, 1e-12 in BERT.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the normalized input, in the input's shape and dtype."""
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normed * per_channel(scale, normed) + per_channel(bias, normed)).astype(x.dtype)


def attention_weights(query: Array, key: Array) -> Array:
    """Returns softmax(query key^T / sqrt(head width)), computed in float32.

    Args:
        query: (batch, queries, heads, head width).
        key: (batch, keys, heads, head width).

    Returns:
        float32 (batch, heads, queries, keys); rows sum to 1.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with an output layer.

    The weights are formed explicitly only where somebody needs them: `return_weights`, `override`
    or active dropout. Otherwise `jax.nn.dot_product_attention` computes the same value.

    Attributes:
        num_heads: must divide the width.
        fused: one layer `qkv` for query, key and value (rows in this order, heads contiguous within
            each), or three layers `query`, `key`, `value`.
        qkv_bias: whether query, key and value have a bias; the output layer always has one.
        attention_dropout_rate: on the attention weights.
        implementation: of `jax.nn.dot_product_attention`: "xla", "cudnn", or None for the one that
            is fast here.
    """

    num_heads: int
    fused: bool = True
    qkv_bias: bool = True
    attention_dropout_rate: float = 0.0
    implementation: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        return_weights: bool = False,
        override: Array | None = None,
        num_read: int | None = None,
    ) -> tuple[Array, Array | None]:
        """Attends.

        Args:
            x: (batch, tokens, width).
            train: whether dropout is active.
            return_weights: whether the attention weights are returned, before dropout.
            override: float32 (batch or 1, heads or 1, queries, tokens); used instead of the
                attention weights: a one-hot column shows what one position contributes.
            num_read: only the first so many tokens are queries, which XLA computes whatever
                `implementation` says; None is all of them.

        Returns:
            (batch, queries, width), and the weights, float32 (batch, heads, queries, tokens) or
            None.

        Raises:
            ValueError: if the number of heads does not divide the width.
        """
        width = x.shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"{self.num_heads} attention heads do not divide a width of {width}: choose a "
                "number of heads that does."
            )
        read = x[:, :num_read]
        if self.fused:
            parts = jnp.split(Dense(3 * width, self.qkv_bias, name="qkv")(x), 3, axis=-1)
            parts[0] = parts[0][:, :num_read]
        else:
            inputs = {"query": read, "key": x, "value": x}
            parts = [Dense(width, self.qkv_bias, name=n)(y) for n, y in inputs.items()]
        query, key, value = (p.reshape(*p.shape[:2], self.num_heads, -1) for p in parts)
        dropout = self.attention_dropout_rate if train else 0.0
        weights = None
        if return_weights or override is not None or dropout > 0:
            weights = attention_weights(query, key) if override is None else override
            shape = (len(x), self.num_heads, read.shape[1], x.shape[1])
            weights = jnp.broadcast_to(weights, shape)
            dropped = nn.Dropout(self.attention_dropout_rate)(weights, deterministic=dropout == 0)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", dropped.astype(value.dtype), value)
        elif num_read is not None:  # too few to be worth a kernel
            mixed = jax.nn.dot_product_attention(query, key, value, implementation="xla")
        elif self.implementation is None and is_used("attention"):
            mixed = cpu_kernels.attend(query, key, value)
        else:
            implementation = self.implementation or gpu_kernels.attention_implementation(query)
            mixed = jax.nn.dot_product_attention(
                query,
                key,
                value,
                implementation=cast(Literal["xla", "cudnn"] | None, implementation),
            )
        y = Dense(width, name="out")(mixed.reshape(read.shape))
        return y, weights if return_weights else None


class FeedForward(nn.Module):
    """Two dense layers with GELU between them.

    Attributes:
        hidden_width: of the layer in the middle.
        hidden_dropout_rate: after GELU.
        dropout_rate: after the second layer.
    """

    hidden_width: int
    hidden_dropout_rate: float = 0.0
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Returns fc2(gelu(fc1(x))), in the input's shape."""
        h = gelu(Dense(self.hidden_width, name="fc1")(x))
        h = nn.Dropout(self.hidden_dropout_rate)(h, deterministic=not train)
        y = Dense(x.shape[-1], name="fc2")(h)
        return nn.Dropout(self.dropout_rate)(y, deterministic=not train)


class DropPath(nn.Module):
    """Stochastic depth: in training, drops whole examples and scales up the others.

    Attributes:
        rate: probability that an example is dropped.
    """

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Returns the input, with some examples set to zero in training."""
        every_axis_but_batch = tuple(range(1, x.ndim))
        dropout = nn.Dropout(self.rate, broadcast_dims=every_axis_but_batch)
        return dropout(x, deterministic=not train)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
        num_heads: of the attention.
        mlp_ratio: hidden width of the feed-forward part over the width.
        epsilon: of the LayerNorms.
        fused: whether query, key and value come from one layer, see `SelfAttention`.
        qkv_bias: whether query, key and value have a bias.
        dropout_rate: after the attention's output layer and after the second feed-forward layer.
        hidden_dropout_rate: after the first feed-forward layer; None is `dropout_rate`.
        attention_dropout_rate: on the attention weights.
        drop_path_rate: probability that an example skips a half of the block.
        implementation: of `jax.nn.dot_product_attention`.
    """

    num_heads: int
    mlp_ratio: int = 4
    epsilon: float = 1e-6
    fused: bool = True
    qkv_bias: bool = True
    dropout_rate: float = 0.0
    hidden_dropout_rate: float | None = None
    attention_dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    implementation: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        return_weights: bool = False,
        override: Array | None = None,
        num_read: int | None = None,
    ) -> tuple[Array, Array | None]:
        """Returns (batch, queries, width) and the attention weights or None: `SelfAttention`."""
        attention = SelfAttention(
            self.num_heads,
            fused=self.fused,
            qkv_bias=self.qkv_bias,
            attention_dropout_rate=self.attention_dropout_rate,
            implementation=self.implementation,
            name="attention",
        )
        h, weights = attention(
            LayerNorm(self.epsilon, name="norm1")(x),
            train=train,
            return_weights=return_weights,
            override=override,
            num_read=num_read,
        )
        h = nn.Dropout(self.dropout_rate)(h, deterministic=not train)
        x = x[:, :num_read] + DropPath(self.drop_path_rate)(h, train=train)
        hidden_rate = self.hidden_dropout_rate
        hidden_rate = self.dropout_rate if hidden_rate is None else hidden_rate
        mlp = FeedForward(self.mlp_ratio * x.shape[-1], hidden_rate, self.dropout_rate, name="mlp")
        h = mlp(LayerNorm(self.epsilon, name="norm2")(x), train=train)
        return x + DropPath(self.drop_path_rate)(h, train=train), weights


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)).

    Attributes:
        num_heads: of the attention.
        mlp_ratio: hidden width of the feed-forward part over the width.
        epsilon: of the LayerNorms.
        dropout_rate: after the attention's output layer and after the second feed-forward layer.
        hidden_dropout_rate: after the first feed-forward layer.
        attention_dropout_rate: on the attention weights.
        implementation: of `jax.nn.dot_product_attention`.
    """

    num_heads: int
    mlp_ratio: int = 4
    epsilon: float = 1e-12
    dropout_rate: float = 0.0
    hidden_dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    implementation: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        return_weights: bool = False,
        override: Array | None = None,
        num_read: int | None = None,
    ) -> tuple[Array, Array | None]:
        """Returns (batch, queries, width) and the attention weights or None: `SelfAttention`."""
        attention = SelfAttention(
            self.num_heads,
            fused=False,
            attention_dropout_rate=self.attention_dropout_rate,
            implementation=self.implementation,
            name="attention",
        )
        h, weights = attention(
            x, train=train, return_weights=return_weights, override=override, num_read=num_read
        )
        h = nn.Dropout(self.dropout_rate)(h, deterministic=not train)
        x = LayerNorm(self.epsilon, name="norm1")(x[:, :num_read] + h)
        mlp = FeedForward(
            self.mlp_ratio * x.shape[-1], self.hidden_dropout_rate, self.dropout_rate, name="mlp"
        )
        return LayerNorm(self.epsilon, name="norm2")(x + mlp(x, train=train)), weights


class BlockStack(nn.Module):
    """A stack of transformer blocks, `block_0` to `block_{depth-1}`.

    Attributes:
        depth: number of blocks.
        make_block: `make_block(name=...)` returns one block, for example
            `functools.partial(PreNormBlock, num_heads=8)`.
        drop_path_rate: of the last block of a pre-norm stack; it grows linearly from 0 at the
            first. None leaves the blocks' own.
        skip_rate: probability that a block is skipped in a step of training, by the whole batch.
        remat: whether a block's activations are recomputed in the backward pass instead of kept.
    """

    depth: int
    make_block: Callable[..., nn.Module]
    drop_path_rate: float | None = None
    skip_rate: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        return_weights: bool = False,
        overrides: Mapping[int, Array] | None = None,
        blocks: range | None = None,
        num_read: int | None = None,
    ) -> tuple[Array, tuple[Array | None, ...], tuple[Array, ...]]:
        """Runs the blocks.

        Where only the first tokens are read afterwards, as a class token is, the last block has
        them alone for queries and leaves the others out of all that follows its keys and values.
        The values read are the same.

        Args:
            x: (batch, tokens, width).
            train: whether dropout is active.
            return_weights: whether the attention weights are returned.
            overrides: block number -> attention weights to be used there instead.
            blocks: numbers of the blocks that run; None is all of them.
            num_read: number of first tokens that are read; None is all of them.

        Returns:
            (batch, tokens, width), only the tokens read if the last block's weights are neither
            returned nor overridden; per block that ran the weights, (batch, heads, tokens, tokens),
            or None; and the output of every block that ran.
        """
        overrides = overrides or {}
        x = gpu_kernels.make_last_axis_contiguous(x)
        all_weights = []
        outputs = []
        for index in range(self.depth) if blocks is None else blocks:
            override = overrides.get(index)
            reads_all = index < self.depth - 1 or return_weights or override is not None
            settings = {}
            if self.drop_path_rate is not None:
                settings["drop_path_rate"] = self.drop_path_rate * index / max(self.depth - 1, 1)
            block = self.make_block(name=f"block_{index}", **settings)

            def run(
                block: nn.Module,
                x: Array,
                override: Array | None,
                num_read: int | None = None if reads_all else num_read,
            ) -> tuple[Array, Array | None]:
                return block(
                    x,
                    train=train,
                    return_weights=return_weights,
                    override=override,
                    num_read=num_read,
                )

            entered = x
            x, weights = (nn.remat(run) if self.remat else run)(block, x, override)
            if train and self.skip_rate:
                is_run = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.skip_rate)
                x = jnp.where(is_run, x, entered[:, : x.shape[1]])
            all_weights.append(weights)
            outputs.append(x)
        return x, tuple(all_weights), tuple(outputs)
