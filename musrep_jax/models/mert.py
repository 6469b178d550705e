"""MERT: a transformer on a raw waveform, pretrained on music without labels (HuBERT's family).

Layers of MERT-95M for 120,000 samples (5 s at 24 kHz), (steps x channels) after each:

    front/layer_0       23999 x 512    convolution 10, stride 5; norm over time; GELU
    front/layer_1 to 4  1499 x 512     convolutions 3, stride 2; GELU
    front/layer_5, 6    374 x 512      convolutions 2, stride 2; GELU
    feature_norm, projection   374 x 768
    positions           374 x 768      grouped convolution of 128 steps, GELU, added
    norm                374 x 768      (layer_0)
    encoder             374 x 768      12 blocks, 12 heads, feed-forward 3072 (layer_1 to layer_12)
    mean over time of each layer, joined as `layer` says (embedding), dropout, head

In a pre-norm model (330M) `norm` follows the last block instead. MERT-v1-330M is `{"width": 1024,
"depth": 24, "num_heads": 16, "norm_position": "pre"}`.

The weights of a learned sum of layers belong to the output layer: they train when it trains, and a
backbone, which has none, takes the plain mean of all layers.

Source: Li et al., "MERT: acoustic music understanding model with large-scale self-supervised
training", ICLR 2024; public checkpoints m-a-p/MERT-v1-95M and m-a-p/MERT-v1-330M; the layers are
HuBERT's, see `mert_layers`. Differences: `attention_relax` of the public code, which rearranges the
softmax against overflow in float16, is not needed in float32; nothing is masked in training.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.models.attention import BlockStack, LayerNorm, PostNormBlock, PreNormBlock
from musrep_jax.models.base import Tagger, check_waveform
from musrep_jax.models.layers import Dense
from musrep_jax.models.mert_layers import FRONT_NORMS, ConvolvedPositions, WaveformConvolutions
from musrep_jax.models.outputs import layer_names, transformer_options
from musrep_jax.types import Array

NORM_POSITIONS = ("post", "pre")
LAYER_WORDS = ("last", "all", "weighted_sum")
"""What `layer` may be beside a number."""

LAYER_MEANS, LAYER_WEIGHTS = "layer_means", "layer_weights"

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a waveform that is normalized. Source: transformers' extractor."""


def check_choice(value: str, allowed: Sequence[str], field: str) -> str:
    """Returns the value of a field if it is one of those allowed.

    Raises:
        ValueError: if it is not.
    """
    if value not in allowed:
        raise ValueError(f"{field} of mert is {value!r}; it can be {', '.join(allowed)}.")
    return value


class MERT(Tagger):
    """MERT; the defaults are MERT-v1-95M.

    Attributes:
        layer: what the embedding is made of: the number of a layer ("0" is the transformer's
            input), "last", "all" (side by side), or "weighted_sum" of all with learned weights.
        front_channels: channels of the convolutional front, layer by layer.
        front_kernels: lengths of its kernels.
        front_strides: of its layers.
        front_bias: whether its convolutions have a bias.
        front_norm: "group", over time after the first convolution, or "layer", over channels after
            each.
        normalizes_features: whether the front's features are normalized before the projection.
        width: of the transformer.
        depth: number of blocks.
        num_heads: of the attention; must divide the width.
        mlp_ratio: hidden width of the feed-forward parts over the width.
        norm_position: "post", LayerNorms after each half of a block, or "pre", before.
        norm_epsilon: of the transformer's LayerNorms.
        position_kernel: length of the convolution that gives positions, in steps.
        position_groups: its groups of channels; must divide the width.
        front_dropout_rate: after the projection of the front's features.
        block_dropout_rate: before the blocks, and after both halves of each.
        activation_dropout_rate: inside the feed-forward parts.
        attention_dropout_rate: on the attention weights.
        layer_drop_rate: probability that a block is skipped in a step of training.
        normalizes_input: whether a waveform is brought to mean 0 and variance 1, chunk by chunk.
        remat: whether a block's activations are recomputed in the backward pass instead of kept.
        attention_implementation: of `jax.nn.dot_product_attention`: "xla", "cudnn", or None for the
            one that is fast here.
    """

    sample_rate: int = 24000
    num_samples: int = 120000
    dropout_rate: float = 0.0
    layer: str = "weighted_sum"
    front_channels: tuple[int, ...] = (512,) * 7
    front_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    front_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    front_bias: bool = False
    front_norm: str = "group"
    normalizes_features: bool = True
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    norm_position: str = "post"
    norm_epsilon: float = 1e-5
    position_kernel: int = 128
    position_groups: int = 16
    front_dropout_rate: float = 0.1
    block_dropout_rate: float = 0.1
    activation_dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    layer_drop_rate: float = 0.1
    normalizes_input: bool = False
    remat: bool = False
    attention_implementation: str | None = None

    HEAD: ClassVar[tuple[str, ...]] = ("head", LAYER_WEIGHTS)
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^hubert\.", ""),
        (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"front.layer_\1_conv."),
        (r"^feature_extractor\.conv_layers\.(\d+)\.layer_norm\.", r"front.layer_\1_norm."),
        (r"^feature_projection\.layer_norm\.", "feature_norm."),
        (r"^feature_projection\.projection\.", "projection."),
        (r"^encoder\.pos_conv_embed\.conv\.(weight_v|parametrizations\.weight\.original1)$",
         "positions.weight"),
        (r"^encoder\.pos_conv_embed\.conv\.(weight_g|parametrizations\.weight\.original0)$",
         "positions.gain"),
        (r"^encoder\.pos_conv_embed\.conv\.bias$", "positions.bias"),
        (r"^encoder\.layer_norm\.", "norm."),
        (r"^encoder\.layers\.(\d+)\.attention\.q_proj\.", r"encoder.block_\1.attention.query."),
        (r"^encoder\.layers\.(\d+)\.attention\.k_proj\.", r"encoder.block_\1.attention.key."),
        (r"^encoder\.layers\.(\d+)\.attention\.v_proj\.", r"encoder.block_\1.attention.value."),
        (r"^encoder\.layers\.(\d+)\.attention\.out_proj\.", r"encoder.block_\1.attention.out."),
        (r"^encoder\.layers\.(\d+)\.layer_norm\.", r"encoder.block_\1.norm1."),
        (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.block_\1.norm2."),
        (r"^encoder\.layers\.(\d+)\.feed_forward\.intermediate_dense\.",
         r"encoder.block_\1.mlp.fc1."),
        (r"^encoder\.layers\.(\d+)\.feed_forward\.output_dense\.",
         r"encoder.block_\1.mlp.fc2."),
    )  # fmt: skip
    TORCH_IGNORED: ClassVar[tuple[str, ...]] = (
        r"(^|\.)masked_spec_embed$", r"^(lm_head|final_proj|label_embs_concat)\b",
    )  # fmt: skip

    def setup(self) -> None:
        """Creates the layers."""
        super().setup()
        self.front = WaveformConvolutions(
            self.front_channels,
            self.front_kernels,
            self.front_strides,
            self.front_bias,
            check_choice(self.front_norm, FRONT_NORMS, "front_norm"),
        )
        if self.normalizes_features:
            self.feature_norm = LayerNorm(self.norm_epsilon)
        self.projection = Dense(self.width)
        self.positions = ConvolvedPositions(self.position_kernel, self.position_groups)
        self.norm = LayerNorm(self.norm_epsilon)
        self.encoder = BlockStack(
            self.depth, self.make_block_factory(), skip_rate=self.layer_drop_rate, remat=self.remat
        )
        self.front_dropout = nn.Dropout(self.front_dropout_rate)
        self.block_dropout = nn.Dropout(self.block_dropout_rate)
        if self.has_layer_weights:
            self.layer_weights = self.param(LAYER_WEIGHTS, nn.initializers.zeros, (self.depth + 1,))

    def make_block_factory(self) -> Callable[..., nn.Module]:
        """Returns the factory of a transformer block, called with `name`."""
        check_choice(self.norm_position, NORM_POSITIONS, "norm_position")
        settings = {
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "epsilon": self.norm_epsilon,
            "dropout_rate": self.block_dropout_rate,
            "hidden_dropout_rate": self.activation_dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "implementation": self.attention_implementation,
        }
        if self.norm_position == "pre":
            return functools.partial(PreNormBlock, fused=False, **settings)
        return functools.partial(PostNormBlock, **settings)

    @property
    def has_layer_weights(self) -> bool:
        """Whether the layers' weights are learned: of a tagger that embeds their sum."""
        return self.layer == "weighted_sum" and self.num_classes > 0

    @property
    def min_samples(self) -> int:
        """Fewest samples: one step of the front."""
        pairs = zip(reversed(self.front_kernels), reversed(self.front_strides), strict=True)
        return functools.reduce(lambda length, pair: (length - 1) * pair[1] + pair[0], pairs, 1)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the waveform, (batch, samples), normalized if the model does that.

        Raises:
            InputError: if it is too short, or no batch of mono waveforms.
        """
        check_waveform(inputs, self.sample_rate, self.min_samples)
        x = inputs.astype(jnp.float32)
        if self.normalizes_input:
            variance = x.var(axis=1, keepdims=True)
            x = (x - x.mean(axis=1, keepdims=True)) * jax.lax.rsqrt(variance + VARIANCE_FLOOR)
        return x.astype(self.dtype)

    def embed(
        self,
        features: Array,
        *,
        train: bool,
        return_weights: bool = False,
        all_tokens: bool = False,
    ) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding and the layers on the way.

        Args:
            features: (batch, samples).
            train: whether dropout is active.
            return_weights: whether the intermediates hold, for block k counted from 1,
                `attention_k` (batch, heads, steps, steps).
            all_tokens: whether they hold `layer_0`, what enters the first block, and `layer_k`,
                the output of block k, (batch, steps, width).

        Returns:
            float32 (batch, width), or (batch, (depth + 1) width) where `layer` is "all"; and
            `feature_map` (batch, steps, channels) after the front, `layer_means`, float32
            (batch, (depth + 1) width), the mean over time of each layer.
        """
        feature_map = self.front(features)
        x = self.feature_norm(feature_map) if self.normalizes_features else feature_map
        x = self.front_dropout(self.projection(x), deterministic=not train)
        x = x + self.positions(x)
        if self.norm_position == "post":
            x = self.norm(x)
        first = self.block_dropout(x, deterministic=not train)
        last, weights, blocks = self.encoder(first, train=train, return_weights=return_weights)
        if self.norm_position == "pre":
            last = self.norm(last)
        layers = (first, *blocks[:-1], last)
        means = jnp.concatenate([x.astype(jnp.float32).mean(axis=1) for x in layers], axis=-1)
        intermediates = {"feature_map": feature_map, LAYER_MEANS: means}
        if all_tokens:
            intermediates |= {f"layer_{k}": x for k, x in enumerate(layers)}
        if return_weights:
            intermediates |= {
                f"attention_{k}": w for k, w in enumerate(weights, start=1) if w is not None
            }
        return self.join_layers(means), intermediates

    def join_layers(self, means: Array) -> Array:
        """Returns the embedding of the mean over time of each layer.

        Args:
            means: (batch, (depth + 1) width).

        Returns:
            (batch, width), or as it is where `layer` is "all".

        Raises:
            ValueError: if there is no such layer.
        """
        if self.layer == "all":
            return means
        means = means.reshape(-1, self.depth + 1, self.width)
        if self.layer == "weighted_sum":
            if not self.has_layer_weights:
                return means.mean(axis=1)
            shares = nn.softmax(self.layer_weights)
            return (means * shares[None, :, None]).sum(axis=1)
        numbers = [str(number) for number in range(self.depth + 1)]
        chosen = check_choice(self.layer, (*LAYER_WORDS, *numbers), "layer")
        return means[:, self.depth if chosen == "last" else int(chosen)]

    @property
    def frozen_output(self) -> str:
        """What follows from the backbone alone: all layers, where their weights are learned."""
        return LAYER_MEANS if self.has_layer_weights else "embedding"

    def classify_frozen(self, value: Array, *, train: bool) -> Array:
        """Returns the logits of `frozen_output`, float32 (batch, classes)."""
        embedding = self.join_layers(value) if self.has_layer_weights else value
        return self.classify(embedding, train=train)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the layers and attention weights that the model can show."""
        layers, weights = (layer_names(self.depth, prefix) for prefix in ("layer", "attention"))
        return ("feature_map", "layer_0", *layers, LAYER_MEANS, *weights)

    def embed_options(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Returns the requested outputs of `embed`: weights or layers, where names need them."""
        return transformer_options(names)
