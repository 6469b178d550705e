"""What stands before HuBERT's transformer: strided convolutions of the waveform, and positions.

Source: Hsu et al., "HuBERT: self-supervised speech representation learning by masked prediction of
hidden units", TASLP 2021; Baevski et al., "wav2vec 2.0", NeurIPS 2020; public code
huggingface/transformers (Hubert).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.models.attention import LayerNorm
from musrep_jax.models.layers import Conv, gelu, make_bias_init, per_channel
from musrep_jax.types import Array

FRONT_NORMS = ("group", "layer")
"""Normalization of the convolutional front: of the first layer over time, channel by channel; or
of every layer over channels."""


class NormOverTime(nn.Module):
    """Normalization of each channel of each example over time: GroupNorm with a group per channel.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the normalized input, (batch, time, channels), in its own dtype."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x32 = x.astype(jnp.float32)
        mean = x32.mean(axis=1, keepdims=True)
        variance = ((x32 - mean) ** 2).mean(axis=1, keepdims=True)
        factor = jax.lax.rsqrt(variance + self.epsilon) * per_channel(scale, variance)
        return ((x32 - mean) * factor + per_channel(bias, mean)).astype(x.dtype)


class WaveformConvolutions(nn.Module):
    """Strided convolutions from a waveform to features, with a norm and GELU.

    Attributes:
        channels: of each layer.
        kernels: lengths of their kernels, in steps of the layer before.
        strides: of each layer.
        use_bias: whether the convolutions have a bias.
        norm: one of `FRONT_NORMS`.
    """

    channels: Sequence[int]
    kernels: Sequence[int]
    strides: Sequence[int]
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, samples) to (batch, steps, channels)."""
        x = x[..., None]
        sizes = zip(self.channels, self.kernels, self.strides, strict=True)
        for index, (features, kernel, stride) in enumerate(sizes):
            conv = Conv(
                features, (kernel,), (stride,), (0,), self.use_bias, name=f"layer_{index}_conv"
            )
            x = conv(x)
            if self.norm == "layer":
                x = LayerNorm(name=f"layer_{index}_norm")(x)
            elif index == 0:
                x = NormOverTime(name="layer_0_norm")(x)
            x = gelu(x)
        return x


class ConvolvedPositions(nn.Module):
    """Positions as a grouped convolution over time, with a normalized kernel, and GELU.

    The kernel is `kernel` divided by its norm and multiplied by `gain`, tap by tap.

    Attributes:
        kernel_size: in steps; of an even kernel the last output is left out.
        num_groups: of channels, each convolved for itself; must divide the width.
    """

    kernel_size: int
    num_groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, steps, width) to the same shape."""
        width = x.shape[-1]
        size, in_group = self.kernel_size, width // self.num_groups
        fan_in = size * in_group

        def init_kernel(key: Array, shape: Sequence[int]) -> Array:
            return jax.random.normal(key, shape) * (4 / (size * width)) ** 0.5

        kernel = self.param("kernel", init_kernel, (size, in_group, width))
        norm = jnp.sqrt((kernel * kernel).sum(axis=(1, 2), keepdims=True))
        # At first the gain is the norm, so that the kernel is the one drawn.
        gain = self.param("gain", lambda key: jnp.full((size,), 2 * (in_group / size) ** 0.5))
        bias = self.param("bias", make_bias_init(fan_in), (width,))
        weights = (kernel / norm * gain[:, None, None]).astype(x.dtype)
        pads = (size // 2, size // 2 - (1 - size % 2))
        y = jax.lax.conv_general_dilated(
            x,
            weights,
            (1,),
            (pads,),
            dimension_numbers=("NTC", "TIO", "NTC"),
            feature_group_count=self.num_groups,
        )
        return gelu(y + per_channel(bias, y))
