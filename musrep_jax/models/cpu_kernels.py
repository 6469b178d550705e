"""Formulations of slow operations for one CPU device; each has a plain twin in `layers`.

XLA lowers the weight gradient of a convolution on a CPU to a convolution with a huge window, and
the gradient of max-pooling to a scatter; both take several times longer than they need to. The
formulations here are chosen when the model is traced, on one CPU device only: accelerators, and
batches split over several devices, take the plain path. They give the same numbers to float32
rounding, and they stay only where they are at least 1.3 times faster on the step of some model of
published size: `python benchmarks/models.py --ablate` prints the ratios.
"""

import contextlib
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from musrep_jax.types import Array

FORMULATIONS = ("convolution", "tall", "pooling", "batch_norm")
"""Weight gradients of convolutions; tall filters on few channels; max-pooling; BatchNorm."""

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

SMALL_MAP = 64
"""Output positions up to which a convolution is one product of columns and kernel."""

GRADIENT_BLOCK = 2**20
"""Numbers in one block of columns of a weight gradient: 4 MB, which stays in the cache."""

FEW_CHANNELS = 8
"""Input channels up to which the input's gradient is taken through the columns."""

NARROW = 32
"""Convolutions with fewer output channels than this are faster as XLA lowers them."""

_allowed: frozenset[str] | None = None


def is_used(name: str) -> bool:
    """Returns whether a formulation is taken: on one CPU device, unless `restricted_to` says.

    Args:
        name: of `FORMULATIONS`.
    """
    if _allowed is not None:
        return name in _allowed
    return jax.default_backend() == "cpu" and jax.device_count() == 1


@contextlib.contextmanager
def restricted_to(names: frozenset[str] | None) -> Iterator[None]:
    """Decides what is traced inside: these formulations and no others, whatever the devices.

    Programs that were compiled before keep what they were traced with.

    Args:
        names: of `FORMULATIONS`; empty for the plain path, None for the usual choice.
    """
    global _allowed
    before, _allowed = _allowed, names
    try:
        yield
    finally:
        _allowed = before


def columns(x: Array, size: Sizes, strides: Sizes, out: Sizes) -> Array:
    """Returns the inputs under the kernel at every output position.

    Args:
        x: (batch, height, width, channels), padded.
        size: of the kernel.
        strides: of the kernel.
        out: height and width of the output.

    Returns:
        (batch, *out, size * channels), the channels fastest.
    """
    ends = [(n - 1) * s + 1 for n, s in zip(out, strides, strict=True)]
    taps = [
        lax.slice(
            x, (0, i, j, 0), (x.shape[0], i + ends[0], j + ends[1], x.shape[3]), (1, *strides, 1)
        )
        for i in range(size[0])
        for j in range(size[1])
    ]
    return jnp.concatenate(taps, axis=-1)


def pad_image(x: Array, pads: Pads) -> Array:
    """Returns (batch, height, width, channels) with zeros added at both ends of both axes."""
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))


def output_size(x: Array, size: Sizes, strides: Sizes, pads: Pads) -> Sizes:
    """Returns height and width of a convolution's output."""
    axes = zip(x.shape[1:3], size, strides, pads, strict=True)
    return tuple((n + low + high - k) // s + 1 for n, k, s, (low, high) in axes)


def plan_blocks(batch: int, out: Sizes, width: int) -> tuple[int, int]:
    """Returns (examples, output rows) of one block of columns.

    Args:
        batch: number of examples.
        out: height and width of the output.
        width: of one row of columns.
    """
    positions = max(1, GRADIENT_BLOCK // width)
    if math.prod(out) <= positions:
        most = positions // math.prod(out)
        return max(n for n in range(1, batch + 1) if batch % n == 0 and n <= most), out[0]
    rows = max(1, positions // out[1])
    return 1, -(-out[0] // -(-out[0] // rows))


def kernel_gradient(x: Array, dy: Array, size: Sizes, strides: Sizes, pads: Pads) -> Array:
    """Returns the weight gradient of a convolution, summed over blocks of columns.

    Args:
        x: (batch, height, width, in), the convolution's input.
        dy: (batch, *out, features), the gradient of its output.
        size: of the kernel.
        strides: of the kernel.
        pads: of the input.

    Returns:
        float32 (*size, in, features).
    """
    features, out, channels = dy.shape[3], dy.shape[1:3], x.shape[3]
    x, width = pad_image(x, pads), math.prod(size) * x.shape[3]
    examples, rows = plan_blocks(x.shape[0], out, width)
    per_example = -(-out[0] // rows)
    count = x.shape[0] // examples * per_example
    span = (rows - 1) * strides[0] + size[0]

    def product(number: int | Array) -> Array:
        example, part = number // per_example * examples, number % per_example
        # The last block is shifted back to end with the map; its rows that were had are zeroed.
        row = jnp.minimum(part * rows, out[0] - rows)
        taken = lax.dynamic_slice(dy, (example, row, 0, 0), (examples, rows, *dy.shape[2:]))
        if out[0] % rows:
            is_new = jnp.arange(rows)[None, :, None, None] >= part * rows - row
            taken = jnp.where(is_new, taken, 0)
        under = lax.dynamic_slice(
            x, (example, row * strides[0], 0, 0), (examples, span, *x.shape[2:])
        )
        block = columns(under, size, strides, (rows, out[1]))
        return _transposed_product(taken.reshape(-1, features), block.reshape(-1, width))

    if count == 1:
        total = product(0)
    else:
        zero = jnp.zeros((features, width), jnp.float32)
        total = lax.fori_loop(0, count, lambda number, sum_: sum_ + product(number), zero)
    return total.reshape(features, *size, channels).transpose(1, 2, 3, 0)


def _transposed_product(left: Array, right: Array) -> Array:
    """Returns left^T right in float32; this order beats right^T left on CPUs."""
    dims = (((0,), (0,)), ((), ()))
    return lax.dot_general(left, right, dims, preferred_element_type=jnp.float32)


def _native(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=dims)


def _spread(x: Array, size: Sizes, strides: Sizes, pads: Pads) -> Array:
    return columns(pad_image(x, pads), size, strides, output_size(x, size, strides, pads))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_image(x: Array, kernel: Array, strides: Sizes, pads: Pads) -> Array:
    """Returns a convolution whose weight gradient is formed in blocks that stay in the cache.

    Args:
        x: (batch, height, width, in).
        kernel: (height, width, in, features).
        strides: per axis.
        pads: zeros before and after, per axis.

    Returns:
        (batch, *out, features).
    """
    if math.prod(output_size(x, kernel.shape[:2], strides, pads)) <= SMALL_MAP:
        spread = _spread(x, kernel.shape[:2], strides, pads)
        return jnp.matmul(spread, kernel.reshape(-1, kernel.shape[3]))
    return _native(x, kernel, strides, pads)


def _image_forward(
    x: Array, kernel: Array, strides: Sizes, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return convolve_image(x, kernel, strides, pads), (x, kernel)


def _image_backward(
    strides: Sizes, pads: Pads, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    size = kernel.shape[:2]
    if kernel.shape[2] <= FEW_CHANNELS or math.prod(dy.shape[1:3]) <= SMALL_MAP:
        _, transpose = jax.vjp(lambda x: _spread(x, size, strides, pads), x)
        (dx,) = transpose(jnp.matmul(dy, kernel.reshape(-1, dy.shape[3]).T))
    else:
        _, transpose = jax.vjp(lambda x: _native(x, kernel, strides, pads), x)
        (dx,) = transpose(dy)
    return dx, kernel_gradient(x, dy, size, strides, pads).astype(kernel.dtype)


convolve_image.defvjp(_image_forward, _image_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_tall(x: Array, kernel: Array, pads: Pads) -> Array:
    """Returns a convolution with a kernel that spans many bands, for MusiCNN's vertical filters.

    Its gradients go over the output bands one by one: at each, the bands under the kernel are
    neighbours in memory once the shifts in time stand side by side.

    Args:
        x: (batch, times, bands, channels), few channels.
        kernel: (time, band, channels, features).
        pads: zeros before and after, per axis.

    Returns:
        (batch, times', bands', features).
    """
    return _native(x, kernel, (1, 1), pads)


def _tall_forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return convolve_tall(x, kernel, pads), (x, kernel)


def _tall_backward(pads: Pads, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    length, height, channels, features = kernel.shape
    batch, times, bands, _ = dy.shape
    positions, depth = batch * times, length * channels

    def shift(x: Array) -> Array:
        x = pad_image(x, pads)
        return columns(x, (length, 1), (1, 1), (times, x.shape[2]))

    shifted, transpose = jax.vjp(shift, x)
    shape = shifted.shape
    shifted = shifted.reshape(positions, -1)
    matrix = kernel.transpose(3, 1, 0, 2).reshape(features, height * depth)
    by_band = dy.reshape(positions, bands, features).swapaxes(0, 1)

    def body(band: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        d_shifted, d_matrix = totals
        part = lax.dynamic_index_in_dim(by_band, band, keepdims=False)
        start = (0, band * depth)
        under = lax.dynamic_slice(shifted, start, (positions, height * depth))
        before = lax.dynamic_slice(d_shifted, start, under.shape)
        d_shifted = lax.dynamic_update_slice(d_shifted, before + jnp.matmul(part, matrix), start)
        return d_shifted, d_matrix + _transposed_product(part, under)

    zeros = jnp.zeros_like(shifted), jnp.zeros(matrix.shape, jnp.float32)
    d_shifted, d_matrix = lax.fori_loop(0, bands, body, zeros)
    (dx,) = transpose(d_shifted.reshape(shape))
    d_kernel = d_matrix.reshape(features, height, length, channels).transpose(2, 1, 3, 0)
    return dx, d_kernel.astype(kernel.dtype)


convolve_tall.defvjp(_tall_forward, _tall_backward)


def max_pool(x: Array, window: Sizes) -> Array:
    """Returns max-pooling as the maximum of strided slices, whose gradient is no scatter.

    Where several inputs of a window are equal to the maximum they share its gradient; the plain
    form gives it to the first.

    Args:
        x: (batch, ..., channels).
        window: per spatial axis, used as stride too.

    Returns:
        (batch, ... // window, channels).
    """
    ends = [n // w * w for n, w in zip(x.shape[1:-1], window, strict=True)]
    offsets: list[Sizes] = [()]
    for w in window:
        offsets = [(*offset, i) for offset in offsets for i in range(w)]
    parts = [
        lax.slice(x, (0, *offset, 0), (x.shape[0], *ends, x.shape[-1]), (1, *window, 1))
        for offset in offsets
    ]
    return functools.reduce(jnp.maximum, parts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Returns a batch normalised by its own statistics, as one operation with its own gradient.

    No gradient flows through the returned statistics: they are for running estimates.

    Args:
        x: (batch, ..., channels).
        scale: float32 (channels,).
        bias: float32 (channels,).
        epsilon: added to the variance.

    Returns:
        The normalised batch, its mean and its (biased) variance, float32 (channels,).
    """
    return _normalise_forward(x, scale, bias, epsilon)[0]


def _per_channel(values: Array, x: Array) -> Array:
    return values.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _normalise_forward(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    axes = tuple(range(x.ndim - 1))
    x32 = x.astype(jnp.float32)
    mean = x32.mean(axes)
    var = jnp.maximum((x32 * x32).mean(axes) - mean * mean, 0.0)
    inverse = lax.rsqrt(var + epsilon)
    multiplier = inverse * scale
    y = x * _per_channel(multiplier, x) + _per_channel(bias - mean * multiplier, x)
    return (y, mean, var), (x, mean, inverse, scale)


def _normalise_backward(
    epsilon: float, saved: tuple[Array, Array, Array, Array], gradients: tuple[Array, ...]
) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    dy = gradients[0]
    axes, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    dy32 = dy.astype(jnp.float32)
    d_bias = dy32.sum(axes)
    d_scale = ((dy32 * x.astype(jnp.float32)).sum(axes) - mean * d_bias) * inverse
    slope = scale * inverse
    toward = -slope * inverse * d_scale / count
    offset = -slope * d_bias / count - toward * mean
    dx = dy * _per_channel(slope, dy) + x * _per_channel(toward, dy) + _per_channel(offset, dy)
    return dx, d_scale, d_bias


normalise.defvjp(_normalise_forward, _normalise_backward)
