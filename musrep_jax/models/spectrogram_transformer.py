"""Audio Spectrogram Transformer: overlapping patches of a log-mel spectrogram, a DeiT on top.

Shapes of the base variant for 127,744 samples (8 s, 500 frames of 128 mel bands):

    input normalization (x - mean) / (2 std)   500 x 128
    patch_embed   16 x 16 patches, stride 10   12 x 49 patches (frequency x time) of 768
    flattened, frequency-major                 588 x 768
    class token and distillation token in front, positions added    590 x 768
    12 pre-norm blocks, 12 heads, feed-forward 3072    590 x 768
    norm, mean of the two first tokens ("pooled")      768
    head_norm (embedding), dropout, head

Frames and bands at the far edge that do not fill a patch are left out. There is no mask: a chunk
that is padded with silence (-100 dB) is seen as such, in training and evaluation alike.

Source: Gong, Chung, Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021; Touvron et al.,
"Training data-efficient image transformers", 2021; settings and head as in Papaioannou, Benetos,
Potamianos, "From West to East", ISMIR 2023 (public code pxaris/ccml). Difference: the dense layers
start uniform as PyTorch's do, tokens and positions from a truncated normal of 0.02.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.models.attention import BlockStack, LayerNorm, PreNormBlock
from musrep_jax.models.attention_maps import (
    HEAT_MAPS,
    AttentionReader,
    TokenGrid,
    attention_heat_maps,
)
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import Conv
from musrep_jax.models.outputs import layer_names, transformer_options
from musrep_jax.types import Array


class Size(NamedTuple):
    """Size of a transformer: width, number of heads, number of blocks."""

    width: int
    num_heads: int
    depth: int


VARIANTS: dict[str, Size] = {
    "tiny": Size(192, 3, 12),
    "small": Size(384, 6, 12),
    "base": Size(768, 12, 12),
}
"""The sizes of DeiT. Source: Touvron et al. 2021, table 1."""

_token_init = nn.initializers.truncated_normal(0.02)


def resize_axis(grid: Array, axis: int, size: int) -> Array:
    """Returns a grid with one axis cut around its center, or stretched bilinearly if too short.

    Args:
        grid: (rows, columns, width).
        axis: 0 or 1.
        size: wanted length of that axis.

    Returns:
        The grid with that length.
    """
    present = grid.shape[axis]
    if size <= present:
        start = present // 2 - size // 2
        return jax.lax.slice_in_dim(grid, start, start + size, axis=axis)
    shape = (*grid.shape[:axis], size, *grid.shape[axis + 1 :])
    return jax.image.resize(grid, shape, "bilinear", antialias=False)


def resize_positions(
    positions: Array, grid: tuple[int, int], new_grid: tuple[int, int], num_special: int = 2
) -> Array:
    """Returns positional embeddings for another grid of patches.

    Each axis is cut around its center when the new grid is smaller and stretched bilinearly
    (half-pixel centers, no antialiasing) when it is larger; time first, then frequency. The rows of
    the special tokens stay.

    Source: the public AST code, which takes DeiT's 24 x 24 to 12 x 49 in this way.

    Args:
        positions: (num_special + rows * columns, width), frequency-major.
        grid: (frequency rows, time columns) that they are for.
        new_grid: the one wanted.
        num_special: number of tokens in front of the patches.

    Returns:
        (num_special + new rows * new columns, width).
    """
    if tuple(grid) == tuple(new_grid):
        return positions
    special, patches = positions[:num_special], positions[num_special:]
    patches = patches.reshape(*grid, -1)
    patches = resize_axis(resize_axis(patches, 1, new_grid[1]), 0, new_grid[0])
    return jnp.concatenate([special, patches.reshape(-1, positions.shape[-1])])


def set_input_statistics(variables: Mapping[str, Any], mean: float, std: float) -> dict[str, Any]:
    """Returns the variables with the input normalization of a training set.

    Args:
        variables: of a `SpectrogramTransformer`.
        mean: of the training set's log-mel values, in dB.
        std: their standard deviation, in dB.

    Returns:
        A new dict; the input is normalized as (x - mean) / (2 std) from now on.

    Raises:
        ValueError: if the standard deviation is not positive or one of the two is not finite.

    Example:
        >>> set_input_statistics({"params": {}}, -30.0, 20.0)["input_statistics"]["std"].item()
        20.0
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ValueError(
            f"The input statistics are mean {mean} dB and standard deviation {std} dB; both must "
            "be finite and the deviation positive: does the training set hold only silence?"
        )
    statistics = {"mean": jnp.float32(mean), "std": jnp.float32(std)}
    return {**variables, "input_statistics": statistics}


class SpectrogramTransformer(AttentionReader, SpectrogramTagger):
    """The Audio Spectrogram Transformer (AST).

    Positions are learned for the grid of the model's own `num_samples` and resized to whatever the
    input has; see `resize_positions`. The input statistics are in the collection
    `input_statistics` (mean 0 and deviation 0.5 at first, which changes nothing); the training
    recipe sets them once with `set_input_statistics`, and they travel with the checkpoint.

    Attributes:
        variant: "tiny", "small" or "base".
        width: of the tokens; None is the variant's.
        num_heads: None is the variant's.
        depth: number of blocks; None is the variant's.
        distilled: whether there is a distillation token besides the class token.
        patch_size: in frames and in mel bands.
        patch_stride: between patches, in frames and in mel bands.
        mlp_ratio: hidden width of the feed-forward parts over the width.
        block_dropout_rate: inside the blocks and after the positions.
        attention_dropout_rate: on the attention weights.
        drop_path_rate: of the last block; it grows linearly from 0.
        remat: whether activations are recomputed in the backward pass to save memory.
        attention_implementation: of `jax.nn.dot_product_attention`: "xla", "cudnn", or None for the
            one that is fast here.
    """

    num_samples: int = 127744
    dropout_rate: float = 0.0
    variant: str = "base"
    width: int | None = None
    num_heads: int | None = None
    depth: int | None = None
    distilled: bool = True
    patch_size: int = 16
    patch_stride: int = 10
    mlp_ratio: int = 4
    block_dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    remat: bool = False
    attention_implementation: str | None = None

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^v\.patch_embed\.proj\.", "patch_embed."),
        (r"^v\.blocks\.(\d+)\.attn\.proj\.", r"encoder.block_\1.attention.out."),
        (r"^v\.blocks\.(\d+)\.attn\.qkv\.", r"encoder.block_\1.attention.qkv."),
        (r"^v\.blocks\.(\d+)\.(norm|mlp)", r"encoder.block_\1.\2"),
        (r"^v\.norm\.", "norm."),
        (r"^v\.(cls_token|dist_token|pos_embed)$", r"\1"),
        (r"^mlp_head\.0\.", "head_norm."),
        (r"^mlp_head\.1\.", "head."),
    )
    TORCH_IGNORED: ClassVar[tuple[str, ...]] = (r"^v\.(head|head_dist|pre_logits)\.",)

    def setup(self) -> None:
        """Creates the transformer, the output layer and the input statistics."""
        super().setup()
        self.input_mean = self.variable("input_statistics", "mean", lambda: jnp.float32(0.0))
        self.input_std = self.variable("input_statistics", "std", lambda: jnp.float32(0.5))
        width, num_heads, depth = self.size
        self.patch_embed = Conv(
            width, (self.patch_size,) * 2, (self.patch_stride,) * 2, padding=(0, 0)
        )
        self.cls_token = self.param("cls_token", _token_init, (width,))
        if self.distilled:
            self.dist_token = self.param("dist_token", _token_init, (width,))
        num_patches = math.prod(self.patch_grid(self.log_mel.num_frames(self.num_samples)))
        self.pos_embed = self.param(
            "pos_embed", _token_init, (self.num_special + num_patches, width)
        )
        self.patch_dropout = nn.Dropout(self.block_dropout_rate)
        self.encoder = BlockStack(
            depth,
            functools.partial(
                PreNormBlock,
                num_heads=num_heads,
                mlp_ratio=self.mlp_ratio,
                dropout_rate=self.block_dropout_rate,
                attention_dropout_rate=self.attention_dropout_rate,
                implementation=self.attention_implementation,
            ),
            drop_path_rate=self.drop_path_rate,
            remat=self.remat,
        )
        self.norm = LayerNorm(1e-6)
        self.head_norm = LayerNorm(1e-5)

    @property
    def size(self) -> Size:
        """Width, heads and depth, from the variant and the fields that override it.

        Raises:
            ValueError: if there is no such variant.
        """
        if self.variant not in VARIANTS:
            raise ValueError(
                f"spectrogram_transformer has no variant {self.variant!r}; it has "
                f"{', '.join(VARIANTS)}."
            )
        variant = VARIANTS[self.variant]
        own = (self.width, self.num_heads, self.depth)
        return Size(*(v if o is None else o for v, o in zip(variant, own, strict=True)))

    @property
    def min_frames(self) -> int:
        """Fewest spectrogram frames: one patch."""
        return self.patch_size

    @property
    def num_special(self) -> int:
        """Number of tokens in front of the patches."""
        return 2 if self.distilled else 1

    def patch_grid(self, num_frames: int) -> tuple[int, int]:
        """Returns the number of patches of an input, (frequency rows, time columns).

        Example:
            >>> SpectrogramTransformer(num_classes=50).patch_grid(500)
            (12, 49)
        """
        rows, columns = (
            (size - self.patch_size) // self.patch_stride + 1 for size in (self.n_mels, num_frames)
        )
        return rows, columns

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the normalized log-mel spectrogram, (batch, frames, mels, 1)."""
        mean, std = self.input_mean.value, self.input_std.value
        return ((self.spectrogram(inputs) - mean) / (2 * std))[..., None]

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the tokens and attention weights that the model can show."""
        layers, weights = (
            layer_names(self.size.depth, prefix) for prefix in ("layer", "attention")
        )
        return ("patch_tokens", "tokens", "pooled", *layers, *weights, *HEAT_MAPS)

    def embed_options(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Returns the requested outputs of `embed`: weights or all tokens, as needed."""
        return transformer_options(names)

    def steps_that_count(self, name: str, inputs: Array, num_steps: int) -> Array | None:
        """Returns the places of all tokens but the special ones, of what has these."""
        if name == "tokens" or name.startswith("layer_"):
            return jnp.arange(num_steps)[None] >= self.num_special
        return None

    def tokenize(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the input of the transformer, (batch, tokens, width), and the patches.

        Args:
            features: (batch, frames, mels, 1), normalized.
            train: whether dropout is active.

        Returns:
            Special tokens and patches with positions; and `patch_tokens` (batch, patches, width)
            before positions.
        """
        patches = self.patch_embed(features.astype(self.dtype))
        batch, columns, rows, width = patches.shape
        patches = patches.swapaxes(1, 2).reshape(batch, rows * columns, width)
        special = [self.cls_token, *([self.dist_token] if self.distilled else [])]
        special = jnp.broadcast_to(jnp.stack(special)[None], (batch, len(special), width))
        grid = self.patch_grid(self.log_mel.num_frames(self.num_samples))
        positions = resize_positions(self.pos_embed, grid, (rows, columns), self.num_special)
        x = jnp.concatenate([special.astype(patches.dtype), patches], axis=1)
        x = x + positions[None].astype(patches.dtype)
        return self.patch_dropout(x, deterministic=not train), {"patch_tokens": patches}

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks."""
        return self.size.depth

    @property
    def token_grid(self) -> TokenGrid:
        """Where the patches lie; where they overlap, the middle between two is their edge."""
        middle, half = (self.patch_size - 1) / 2, self.patch_stride / 2
        rows, _ = self.patch_grid(self.patch_size)
        bands = tuple(middle + row * self.patch_stride - half for row in range(rows + 1))
        start, step = (middle - half) * self.hop_length, self.patch_stride * self.hop_length
        return TokenGrid(self.num_special, start, float(step), bands)

    def read_special(self, encoded: Array) -> Array:
        """Returns the mean of the special tokens after the last block, normalized twice."""
        pooled = self.norm(encoded)[:, : self.num_special].astype(jnp.float32).mean(axis=1)
        return self.head_norm(pooled)

    def embed(
        self,
        features: Array,
        *,
        train: bool,
        return_weights: bool = False,
        all_tokens: bool = False,
        overrides: Mapping[int, Array] | None = None,
    ) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding, (batch, width), and the tokens on the way.

        Args:
            features: (batch, frames, mels, 1), normalized.
            train: whether dropout is active.
            return_weights: whether the intermediates hold, for block k counted from 1,
                `attention_k` (batch, heads, tokens, tokens), and the maps of `attention_heat_maps`.
            all_tokens: whether they hold `layer_k`, the output of block k, (batch, tokens, width),
                and all `tokens`.
            overrides: block number -> attention weights to be used there instead.

        Returns:
            The embedding; and `patch_tokens` (batch, patches, width) before positions, `tokens`
            after the last norm (class and distillation token alone, unless weights or all tokens
            are returned),
            `pooled` (batch, width) before the head's norm.
        """
        x, intermediates = self.tokenize(features, train=train)
        x, weights, blocks = self.encoder(
            x,
            train=train,
            return_weights=return_weights,
            overrides=overrides,
            num_read=None if all_tokens else self.num_special,
        )
        tokens = self.norm(x)
        pooled = tokens[:, : self.num_special].astype(jnp.float32).mean(axis=1)
        intermediates = {**intermediates, "tokens": tokens, "pooled": pooled}
        if all_tokens:
            intermediates |= {f"layer_{k}": block for k, block in enumerate(blocks, start=1)}
        if return_weights:
            maps = [w for w in weights if w is not None]
            intermediates |= {f"attention_{k}": w for k, w in enumerate(maps, start=1)}
            intermediates |= attention_heat_maps(maps, self.num_special)
        return self.head_norm(pooled), intermediates

    def adapt_torch_weights(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns an image transformer's or another AST's arrays, made to fit this model.

        An image transformer (keys without `v.`, or kernels of three colors): color kernels are
        summed, the square grid of positions becomes this model's, the head's norm starts at the
        identity. Another AST: its positions are resized along time.

        Args:
            arrays: key -> array in PyTorch's layout.

        Returns:
            The keys of an AST.

        Source: the public AST code.
        """
        arrays = dict(arrays)
        is_image_model = "cls_token" in arrays
        if is_image_model:
            arrays = {f"v.{name}": value for name, value in arrays.items()}
        kernel = arrays.get("v.patch_embed.proj.weight")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3:
            arrays["v.patch_embed.proj.weight"] = kernel.sum(axis=1, keepdims=True)
            is_image_model = True
        if is_image_model and "v.cls_token" in arrays:
            width = arrays["v.cls_token"].size
            arrays.setdefault("mlp_head.0.weight", np.ones(width, np.float32))
            arrays.setdefault("mlp_head.0.bias", np.zeros(width, np.float32))
        positions = arrays.get("v.pos_embed")
        if positions is not None:
            positions = positions.reshape(-1, positions.shape[-1])
            num_patches = len(positions) - self.num_special
            grid = self.patch_grid(self.log_mel.num_frames(self.num_samples))
            rows = math.isqrt(num_patches) if is_image_model else grid[0]
            if num_patches > 0 and num_patches % rows == 0:
                arrays["v.pos_embed"] = np.asarray(
                    resize_positions(
                        jnp.asarray(positions), (rows, num_patches // rows), grid, self.num_special
                    )
                )
        return arrays
