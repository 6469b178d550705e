"""Convolutions of a spectrogram of which only the largest value over all bands is kept."""

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.kernels import cpu_maximum
from musrep_jax.kernels.formulations import is_used
from musrep_jax.models.layers import BATCH_NORM_EPSILON, BatchNorm, Conv, convolve, per_channel
from musrep_jax.types import Array


class BandConv(nn.Module):
    """Convolution, BatchNorm and ReLU, and the maximum over all bands; time keeps its length.

    In training the maximum is that of all values, whose statistics BatchNorm takes. Otherwise it is
    taken of the convolution itself: what follows rises or falls with it, by the sign of BatchNorm's
    multiplier, so that one value per frame and channel is left to be normalized.

    Attributes:
        features: number of output channels.
        kernel_size: (time, frequency). Of an even length over time, the odd zero comes last.
        is_rectified_first: whether ReLU comes before BatchNorm.
        epsilon: of BatchNorm.
    """

    features: int
    kernel_size: tuple[int, int]
    is_rectified_first: bool = False
    epsilon: float = BATCH_NORM_EPSILON

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time, frequency, 1) to (batch, time, features)."""
        length = self.kernel_size[0]
        pads = ((length - 1) // 2, length // 2)
        conv = Conv(self.features, self.kernel_size, padding=(0, 0), name="conv")
        norm = BatchNorm(self.epsilon, name="bn")
        if train:
            y = conv(jnp.pad(x, ((0, 0), pads, (0, 0), (0, 0))))
            if self.is_rectified_first:
                return norm.of_max(nn.relu(y), 2, train=True)
            return nn.relu(norm(y, train=True)).max(axis=2)
        kernel, bias = conv.weights(x.shape[-1])
        multiplier, shift = norm.affine(kernel, train=False)
        signs = jnp.where(multiplier >= 0, 1.0, -1.0)
        signed = (kernel * per_channel(signs, kernel)).astype(x.dtype)
        y = convolve_maximum(x, signed, pads).astype(jnp.float32)
        y = y * per_channel(signs, y)
        if bias is not None:
            y = y + per_channel(bias, y)
        if self.is_rectified_first:
            y = nn.relu(y)
        y = y * per_channel(multiplier, y) + per_channel(shift, y)
        return (y if self.is_rectified_first else nn.relu(y)).astype(x.dtype)


def convolve_maximum(x: Array, kernel: Array, pads: tuple[int, int]) -> Array:
    """Returns the maximum over all bands of a convolution of stride 1.

    Args:
        x: (batch, time, frequency, in).
        kernel: (time, frequency, in, out).
        pads: zeros before the first frame and after the last one, as many or more. Bands are not
            padded.

    Returns:
        (batch, time', out).
    """
    is_single = x.dtype == jnp.float32 == kernel.dtype
    if is_used("maximum") and is_single and cpu_maximum.is_fast(x.shape, kernel.shape):
        return cpu_maximum.convolve_maximum(x, kernel, pads)
    before, after = pads
    if after > before:  # otherwise the convolution pads, which has a form in ONNX
        x = jnp.pad(x, ((0, 0), (0, after - before), (0, 0), (0, 0)))
    return convolve(x, kernel, (1, 1), (before, 0)).max(axis=2)
