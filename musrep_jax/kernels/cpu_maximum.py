"""The maximum over all bands of a convolution of spectrograms, fast on a CPU.

A network that convolves a spectrogram of one channel and keeps the largest value of all bands needs
no map of all values, which is the largest array of all. Both ways here compute the maximum of a
block of frames at a time, while its values are in cache:

- Tall kernels, over many bands, become products in the frequency domain: a discrete Fourier
  transform over the bands has one complex product per frequency where a sum over bands was. It is
  taken about the middle of the outputs, where the values y(b) and y(-b) are E + O and E - O of an
  even and an odd part, so that their maximum is E + |O|: half of the inverse transform is left.
- Long kernels over time, of one band, become one matrix product for a block of frames.

A tall kernel then has less to compute than by the plain twin
(`models.band_conv.convolve_maximum`): a fifth to a fourth of the products, of those of MusiCNN. All
operations have plain derivatives.

Worth (forward, one example at a time, one core): musicnn_original 2.1, musicnn 2.1.
"""

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from musrep_jax.types import Array

MIN_LENGTH = 16
"""Shortest kernel over time, in frames, that is taken by blocks of frames."""

MAX_COST = 0.5
"""Share of the plain products above which a tall kernel is left to XLA: the Fourier transforms are
products too, and grow with the square of the number of bands."""

FRAMES = 16
"""Frames of a block, of long kernels: more of them repeat more of the input."""

BLOCK_ELEMENTS = 2**19
"""Numbers in a block's spectra, of tall kernels: 2 MB, which stay in a second-level cache."""

Pads = tuple[int, int]
ComplexArray = npt.NDArray[np.complex128]


def is_fast(image: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Returns whether a convolution's maximum is faster by this file than by XLA.

    Args:
        image: shape of the input, (batch, frames, bands, in).
        kernel: its shape, (frames, bands, in, out).
    """
    length, height, channels, _ = kernel
    if channels != 1 or height > image[2]:
        return False
    if height == 1:
        return length >= MIN_LENGTH
    outputs, frequencies = image[2] - height + 1, image[2] // 2 + 1
    cost = frequencies * (4 * length + outputs)
    return cost <= MAX_COST * outputs * height * length


def convolve_maximum(x: Array, kernel: Array, pads: Pads) -> Array:
    """Returns the maximum over all bands of a convolution of stride 1.

    Args:
        x: (batch, frames, bands, 1), float32.
        kernel: (frames, bands, 1, out), for which `is_fast` holds.
        pads: zeros before the first frame and after the last one. Bands are not padded.

    Returns:
        (batch, frames', out).
    """
    x = jnp.pad(x[..., 0], ((0, 0), pads, (0, 0)))
    weights = kernel[:, :, 0]
    return _of_long(x, weights[:, 0]) if kernel.shape[1] == 1 else _of_tall(x, weights)


def _of_long(x: Array, weights: Array) -> Array:
    """(batch, frames, bands), (length, out) -> (batch, frames', out).

    What the outputs of a block see is one slice of the input; the kernel is written once for each
    of the block's frames, one row lower each time.
    """
    (length, features), (batch, frames, bands) = weights.shape, x.shape
    num_frames = frames - length + 1
    num_blocks = -(-num_frames // FRAMES)
    seen = length + FRAMES - 1
    x = jnp.pad(x, ((0, 0), (0, num_blocks * FRAMES - num_frames), (0, 0)))
    shifted = [jnp.pad(weights, ((i, FRAMES - 1 - i), (0, 0))) for i in range(FRAMES)]
    matrix = jnp.stack(shifted, axis=1).reshape(seen, FRAMES * features)
    parts = [x[:, block * FRAMES :][:, :seen] for block in range(num_blocks)]
    blocks = jnp.stack(parts, axis=1).reshape(batch * num_blocks, seen, bands)
    highest = lax.map(lambda block: jnp.matmul(block.T, matrix).max(axis=0), blocks)
    return highest.reshape(batch, num_blocks * FRAMES, features)[:, :num_frames]


def _of_tall(x: Array, weights: Array) -> Array:
    """(batch, frames, bands), (length, height, out) -> (batch, frames', out)."""
    (length, height, features), (batch, frames, bands) = weights.shape, x.shape
    of_input, of_kernel, even, odd = _fourier_matrices(bands, height)
    num_frequencies = of_input.shape[1]
    num_frames = frames - length + 1
    num_blocks = -(-2 * num_frequencies * num_frames * features // BLOCK_ELEMENTS)
    rows = -(-num_frames // num_blocks)
    num_blocks = -(-num_frames // rows)
    x = jnp.pad(x, ((0, 0), (0, num_blocks * rows - num_frames), (0, 0)))

    def shifts(part: np.ndarray) -> Array:
        spectrum = jnp.einsum("btf,fk->bkt", x, part.astype(np.float32))
        return jnp.stack([spectrum[:, :, i:][:, :, : num_blocks * rows] for i in range(length)], -1)

    real, imaginary = (
        jnp.einsum("jhc,hk->kjc", weights, part.astype(np.float32))
        for part in (of_kernel.real, of_kernel.imag)
    )
    # One product of (real, imaginary) shifts gives the real part, another the imaginary one.
    to_real = jnp.concatenate([real, -imaginary], axis=1)
    to_imaginary = jnp.concatenate([imaginary, real], axis=1)
    seen = jnp.concatenate([shifts(of_input.real), shifts(of_input.imag)], axis=-1)
    seen = seen.reshape(batch, num_frequencies, num_blocks, rows, 2 * length).swapaxes(1, 2)
    blocks = seen.reshape(batch * num_blocks, num_frequencies, rows, 2 * length)

    def one(block: Array) -> Array:
        real, imaginary = (
            jnp.matmul(block, weights).reshape(num_frequencies, rows * features)
            for weights in (to_real, to_imaginary)
        )
        return (jnp.matmul(even, real) + jnp.abs(jnp.matmul(odd, imaginary))).max(axis=0)

    highest = lax.map(one, blocks)
    return highest.reshape(batch, num_blocks * rows, features)[:, :num_frames]


def _fourier_matrices(
    bands: int, height: int
) -> tuple[ComplexArray, ComplexArray, np.ndarray, np.ndarray]:
    """Returns the transforms of input and kernel, and the inverse of even and odd part.

    Returns:
        Complex (bands, frequencies) and (height, frequencies), the latter with the shift to the
        middle of the outputs, and float32 (half of the outputs, frequencies) twice.
    """
    frequency = np.arange(bands // 2 + 1)
    angle = 2 * np.pi / bands * frequency
    middle = (bands - height) / 2
    to_outputs = np.arange(bands - height + 1) - middle
    to_outputs = to_outputs[to_outputs >= 0]
    is_single = (frequency == 0) | (2 * frequency == bands)
    share = np.where(is_single, 1, 2) / bands
    of_input = np.exp(-1j * np.outer(np.arange(bands), angle))
    of_kernel = np.exp(1j * np.outer(np.arange(height) + middle, angle))
    even, odd = (
        (share * wave(np.outer(to_outputs, angle))).astype(np.float32) for wave in (np.cos, np.sin)
    )
    return of_input, of_kernel, even, odd
