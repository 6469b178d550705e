"""Formulations of three operations that are fast on a CPU; of these a GPU takes pooling alone.

XLA lowers some operations badly to a CPU: the weight gradient of a convolution becomes a
convolution with a huge window, the gradient of max-pooling a scatter, and attention writes its
weights to memory several times. Each function here computes what its plain twin computes, values
and gradients, to float32 rounding:

    "convolution"   `convolve`    of images; twin in layers.convolve
    "pooling"       `max_pool`    twin in layers.max_pool
    "attention"     `attend`      twin is jax.nn.dot_product_attention

When they are used: see `formulations`.

Their cost: they have a gradient but no forward-mode derivative (`jax.jvp`); trace under
`formulations.override_formulations(frozenset())` for that, and when a function is exported for
another platform.

What each one is worth is measured by `python benchmarks/models.py --without NAME --models MODEL`,
the step without it over the step with everything, in CPU seconds; the figures are in the
docstrings. One that is worth less than 1.3 on every model (attention: by itself) does not belong
here: one-dimensional convolutions as concatenated shifts, and BatchNorm as one operation with its
own gradient, were tried and are left to XLA.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from musrep_jax.types import Array

FORMULATIONS = ("convolution", "pooling", "attention")
"""Names of the formulations."""

MAX_TAPS = 25
"""Largest kernel, in taps, that is spread into columns: every tap is one slice to compile."""

MIN_FEATURES = 32
"""Fewest output channels: narrower convolutions are faster as XLA lowers them."""

MIN_TALL_WIDTH = 16
"""Shortest kernel, along the last spatial axis, that is taken band by band."""

SMALL_MAP = 64
"""Largest output map, in positions, that is one matrix product. XLA's own convolution of a 3 x 2
map with 512 channels is 80 times slower."""

FEW_CHANNELS = 8
"""Most input channels for which the input gradient is a matrix product and a sum of shifts."""

BLOCK_ELEMENTS = 2**20
"""Numbers in one block of columns: 4 MB, which stay in a shared cache. From 2**18 to 2**21 the
speed differs by less than 15 %."""

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def _native(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _padded(x: Array, pads: Pads) -> Array:
    """Zeros around an image."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _columns(x: Array, size: Sizes, strides: Sizes, out: Sizes) -> Array:
    """What each output position of a padded image sees: (batch, *out, taps * in)."""
    batch, _, _, channels = x.shape
    span = [(n - 1) * s + 1 for n, s in zip(out, strides, strict=True)]
    taps = [
        lax.slice(x, (0, i, j, 0), (batch, i + span[0], j + span[1], channels), (1, *strides, 1))
        for i in range(size[0])
        for j in range(size[1])
    ]
    return jnp.concatenate(taps, axis=-1)


def _transposed_product(dy: Array, cols: Array) -> Array:
    """(..., out), (..., depth) -> float32 (out, depth), which is faster than its transpose."""
    return lax.dot_general(
        dy.reshape(-1, dy.shape[-1]),
        cols.reshape(-1, cols.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above the limit."""
    return max(n for n in range(1, min(number, limit) + 1) if number % n == 0)


def _block_sizes(batch: int, out: Sizes, depth: int) -> tuple[int, int]:
    """Numbers of examples, which divides the batch, and of output rows in a block of columns."""
    positions = max(1, BLOCK_ELEMENTS // depth)
    per_example = math.prod(out)
    if per_example <= positions:
        return _largest_divisor(batch, positions // per_example), out[0]
    num_blocks = -(-out[0] // max(1, positions // out[1]))
    return 1, -(-out[0] // num_blocks)


def _kernel_gradient(x: Array, dy: Array, size: Sizes, strides: Sizes, pads: Pads) -> Array:
    """The weight gradient of a convolution, float32 (*size, in, out), by blocks of columns.

    x is the convolution's input (batch, height, width, in), dy the gradient of its output.
    """
    (batch, *rest, features), channels = dy.shape, x.shape[3]
    out = (rest[0], rest[1])
    depth = math.prod(size) * channels
    examples, rows = _block_sizes(batch, out, depth)
    blocks_per_example = -(-out[0] // rows)
    padded = _padded(x, pads)
    seen = (rows - 1) * strides[0] + size[0]

    def add_block(number: Array, total: Array) -> Array:
        example, first = number // blocks_per_example * examples, number % blocks_per_example * rows
        start = jnp.minimum(first, out[0] - rows)  # the last block may overlap the one before it
        image = lax.dynamic_slice(
            padded, (example, start * strides[0], 0, 0), (examples, seen, *padded.shape[2:])
        )
        part = lax.dynamic_slice(dy, (example, start, 0, 0), (examples, rows, out[1], features))
        if out[0] % rows:
            row = start + jnp.arange(rows).reshape(1, rows, 1, 1)
            part = jnp.where(row >= first, part, 0)
        return total + _transposed_product(part, _columns(image, size, strides, (rows, out[1])))

    total = jnp.zeros((features, depth), jnp.float32)
    num_blocks = batch // examples * blocks_per_example
    total = lax.fori_loop(0, num_blocks, add_block, total)
    return total.reshape(features, *size, channels).transpose(1, 2, 3, 0)


def convolve(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    """Returns a convolution of images whose gradients are sums of matrix products.

    Small kernels go block by block of output positions, kernels of stride 1 that are long along the
    last spatial axis go output band by output band, and others are XLA's own.

    Worth (train, batch 4 or 8): musicnn 4.7, tagging_transformer 1.9, cnnsa 1.5, self_attention
    1.4.

    Args:
        x: (batch, height, width, in).
        kernel: (height, width, in, out).
        strides: per spatial axis.
        pads: zeros before and after, per spatial axis.

    Returns:
        (batch, height', width', out).
    """
    height, width, _, features = kernel.shape
    if width >= MIN_TALL_WIDTH and math.prod(strides) == 1:
        return _convolve_tall(x, kernel, pads)
    if height * width <= MAX_TAPS and features >= MIN_FEATURES:
        return _convolve_blocks(x, kernel, strides, pads)
    return _native(x, kernel, strides, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_blocks(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    """Forward and input gradient are XLA's own, unless maps are small or channels few."""
    out = jax.eval_shape(lambda: _native(x, kernel, strides, pads)).shape[1:3]
    if math.prod(out) > SMALL_MAP:
        return _native(x, kernel, strides, pads)
    cols = _columns(_padded(x, pads), kernel.shape[:2], strides, out)
    return jnp.matmul(cols, kernel.reshape(-1, kernel.shape[3]))


def _blocks_forward(
    x: Array, kernel: Array, strides: Sizes, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_blocks(x, kernel, strides, pads), (x, kernel)


def _blocks_backward(
    strides: Sizes, pads: Pads, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    size, out = kernel.shape[:2], dy.shape[1:3]

    def spread(x: Array) -> Array:
        return _columns(_padded(x, pads), size, strides, out)

    if kernel.shape[2] <= FEW_CHANNELS or math.prod(out) <= SMALL_MAP:
        (dx,) = jax.vjp(spread, x)[1](jnp.matmul(dy, kernel.reshape(-1, kernel.shape[3]).T))
    else:
        (dx,) = jax.vjp(lambda x: _native(x, kernel, strides, pads), x)[1](dy)
    return dx, _kernel_gradient(x, dy, size, strides, pads).astype(kernel.dtype)


_convolve_blocks.defvjp(_blocks_forward, _blocks_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_tall(x: Array, kernel: Array, pads: Pads) -> Array:
    """In the gradients, the shifts of the short axis are laid side by side once.

    Then what one output band sees is a contiguous slice, and a loop over bands has nothing but
    matrix products.
    """
    return _native(x, kernel, (1, 1), pads)


def _tall_forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_tall(x, kernel, pads), (x, kernel)


def _tall_backward(pads: Pads, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    height, width, channels, features = kernel.shape
    batch, rows, bands, _ = dy.shape
    depth = height * channels  # of one band of the input, shifts side by side
    seen = (batch * rows, width * depth)

    def shift(x: Array) -> Array:
        x = _padded(x, pads)
        shifted = _columns(x, (height, 1), (1, 1), (rows, x.shape[2]))
        return shifted.reshape(batch * rows, -1)

    shifted, unshift = jax.vjp(shift, x)
    matrix = kernel.transpose(3, 1, 0, 2).reshape(features, -1)
    by_band = dy.reshape(batch * rows, bands, features).swapaxes(0, 1)

    def add_band(band: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        d_shifted, d_matrix = totals
        part = lax.dynamic_index_in_dim(by_band, band, keepdims=False)
        start = (0, band * depth)
        d_seen = lax.dynamic_slice(d_shifted, start, seen) + jnp.matmul(part, matrix)
        d_shifted = lax.dynamic_update_slice(d_shifted, d_seen, start)
        d_matrix = d_matrix + _transposed_product(part, lax.dynamic_slice(shifted, start, seen))
        return d_shifted, d_matrix

    totals = jnp.zeros_like(shifted), jnp.zeros(matrix.shape, jnp.float32)
    d_shifted, d_matrix = lax.fori_loop(0, bands, add_band, totals)
    d_kernel = d_matrix.reshape(features, width, height, channels).transpose(2, 1, 3, 0)
    return unshift(d_shifted)[0], d_kernel.astype(kernel.dtype)


_convolve_tall.defvjp(_tall_forward, _tall_backward)


def _window_slices(x: Array, window: Sizes) -> list[Array]:
    """For each position in the window a strided slice of the shape of the pooled map."""
    ends = [n // w * w for n, w in zip(x.shape[1:-1], window, strict=True)]
    limits, strides = (x.shape[0], *ends, x.shape[-1]), (1, *window, 1)
    starts = itertools.product(*map(range, window))
    return [lax.slice(x, (0, *start, 0), limits, strides) for start in starts]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: Array, window: Sizes) -> Array:
    """Returns the maximum over non-overlapping windows, as the maximum of strided slices.

    Worth on a CPU (batch 4, train): fcn 1.5, harmonic_cnn 1.5, short_chunk_cnn 1.4.

    Args:
        x: (batch, *spatial, channels).
        window: per spatial axis, used as stride too; a remainder at the end is left out.

    Returns:
        (batch, *(spatial // window), channels).
    """
    return functools.reduce(jnp.maximum, _window_slices(x, window))


def _max_pool_forward(x: Array, window: Sizes) -> tuple[Array, tuple[Array, Array]]:
    # The place of the first maximum is kept, not compared for again: XLA may compute the input
    # anew in the backward pass, and round it differently.
    best, *others = _window_slices(x, window)
    place = jnp.zeros(best.shape, np.min_scalar_type(math.prod(window)))
    for index, part in enumerate(others, start=1):
        place = jnp.where(part > best, place.dtype.type(index), place)
        best = jnp.maximum(best, part)
    return best, (place, x[:, ..., :0])


def _max_pool_backward(window: Sizes, saved: tuple[Array, Array], dy: Array) -> tuple[Array]:
    place, empty = saved
    spread = (len(dy), *itertools.chain(*((n, 1) for n in dy.shape[1:-1])), dy.shape[-1])
    one_window = (1, *itertools.chain(*((1, w) for w in window)), 1)
    places = jnp.arange(math.prod(window), dtype=place.dtype).reshape(one_window)
    dx = jnp.where(place.reshape(spread) == places, dy.reshape(spread), 0)
    sizes = [n * w for n, w in zip(dy.shape[1:-1], window, strict=True)]
    rest = [(0, n - m) for n, m in zip(empty.shape[1:-1], sizes, strict=True)]
    dx = dx.reshape(len(dy), *sizes, dy.shape[-1])
    return (jnp.pad(dx, ((0, 0), *rest, (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _scores(query: Array, key: Array) -> Array:
    """(heads, queries, width), (heads, keys, width) -> float32 (heads, queries, keys), scaled."""
    scores = jnp.einsum("hqd,hkd->hqk", query, key, preferred_element_type=jnp.float32)
    return scores * query.shape[-1] ** -0.5


def _by_blocks(x: Array, num_blocks: int) -> Array:
    """(batch, tokens, heads, width) -> (blocks, heads of a block, tokens, width)."""
    return x.swapaxes(1, 2).reshape(num_blocks, -1, x.shape[1], x.shape[3])


def _by_tokens(x: Array, batch: int) -> Array:
    """(blocks, heads of a block, tokens, width) -> (batch, tokens, heads, width)."""
    return x.reshape(batch, -1, *x.shape[2:]).swapaxes(1, 2)


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array) -> Array:
    """Returns softmax(query key^T / sqrt(width)) value, some heads at a time.

    Their weights stay in cache, are never kept, and are formed again in the gradient.

    Worth by itself (batch 4, 590 tokens, 12 heads of 64): 3.6, with its gradient 1.9. In a step of
    spectrogram_transformer at batch 2, on idle cores: 1.14 forward, 1.10 in training.

    Args:
        query: (batch, queries, heads, width).
        key: (batch, keys, heads, width).
        value: (batch, keys, heads, width).

    Returns:
        (batch, queries, heads, width), in the dtype of `value`.
    """
    return _attend_forward(query, key, value)[0]


def _attend_forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    def one(arrays: tuple[Array, ...]) -> tuple[Array, Array]:
        query, key, value = arrays
        scores = _scores(query, key)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        mixed = jnp.matmul(weights.astype(value.dtype), value) / total.astype(value.dtype)
        return mixed, top + jnp.log(total)

    batch, num_queries, num_heads, _ = query.shape
    fitting = max(1, BLOCK_ELEMENTS // (num_queries * key.shape[1]))
    num_blocks = batch * num_heads // _largest_divisor(batch * num_heads, fitting)
    inputs = tuple(_by_blocks(x, num_blocks) for x in (query, key, value))
    mixed, log_total = lax.map(one, inputs)
    return _by_tokens(mixed, batch), (*inputs, mixed, log_total)


def _attend_backward(saved: tuple[Array, ...], dy: Array) -> tuple[Array, Array, Array]:
    def one(arrays: tuple[Array, ...]) -> tuple[Array, Array, Array]:
        query, key, value, mixed, log_total, dy = arrays
        weights = jnp.exp(_scores(query, key) - log_total)
        d_value = jnp.einsum("hqk,hqd->hkd", weights.astype(dy.dtype), dy)
        d_weights = jnp.einsum("hqd,hkd->hqk", dy, value, preferred_element_type=jnp.float32)
        mean = (dy * mixed).astype(jnp.float32).sum(axis=-1, keepdims=True)
        d_scores = weights * (d_weights - mean) * query.shape[-1] ** -0.5
        d_scores = d_scores.astype(query.dtype)
        d_query = jnp.matmul(d_scores, key)
        return d_query, jnp.einsum("hqk,hqd->hkd", d_scores, query), d_value

    gradients = lax.map(one, (*saved, _by_blocks(dy, len(saved[0]))))
    d_query, d_key, d_value = (_by_tokens(x, len(dy)) for x in gradients)
    return d_query, d_key, d_value


attend.defvjp(_attend_forward, _attend_backward)
