"""Formulations that are fast on a GPU; see `formulations` for when they are used.

XLA hands a convolution to a library that pads few input channels to eight, so that long kernels
over the one channel of a spectrogram do eight times the work; and plain attention writes its
weights to memory. And from 32 examples on, XLA lays a sequence of tokens out with the batch as the
last axis, because the gradient of the positions is a sum over it.
"""

import re

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from musrep_jax.kernels import formulations
from musrep_jax.types import Array

MIN_TALL_WIDTH = 16
"""Shortest kernel, along the last spatial axis, whose windows become channels."""

MAX_HEAD_WIDTH = 128
"""Widest attention head of the fused kernel. Source: cuDNN, on devices before Hopper."""

FUSED_CAPABILITY = (8, 0)
"""Oldest compute capability with the fused kernel. Source: cuDNN."""


def is_tall(kernel_shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Returns whether `convolve_tall` is for this kernel, (height, width, in, out)."""
    return kernel_shape[1] >= MIN_TALL_WIDTH and kernel_shape[2] == 1 and set(strides) == {1}


def convolve_tall(x: Array, kernel: Array, pads: tuple[tuple[int, int], ...]) -> Array:
    """Returns a convolution of one-channel images with kernels that are long in the last axis.

    What a kernel sees of that axis is laid out as channels first, by a convolution with the
    identity; what is left is a convolution over the other axis with many channels.

    Args:
        x: (batch, height, width, 1).
        kernel: (height, width, 1, out).
        pads: zeros before and after, per spatial axis.

    Returns:
        (batch, height', width', out).
    """
    numbers = ("NHWC", "HWIO", "NHWC")
    width = kernel.shape[1]
    identity = jnp.eye(width, dtype=x.dtype).reshape(1, width, 1, width)
    seen = lax.conv_general_dilated(
        x, identity, (1, 1), ((0, 0), pads[1]), dimension_numbers=numbers
    )
    return lax.conv_general_dilated(
        seen, kernel.swapaxes(1, 2), (1, 1), (pads[0], (0, 0)), dimension_numbers=numbers
    )


def attention_implementation(query: Array) -> str | None:
    """Returns "cudnn" where its fused attention can be had, else None, for JAX to choose.

    It never writes the attention weights to memory. It takes 16-bit numbers and heads whose width
    is a multiple of eight, on NVIDIA GPUs from Ampere on.

    Args:
        query: (batch, queries, heads, head width).
    """
    width = query.shape[-1]
    fits = query.dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= MAX_HEAD_WIDTH
    if not fits or not formulations.is_used("flash_attention"):
        return None
    capability = getattr(jax.devices()[0], "compute_capability", "")
    numbers = re.fullmatch(r"(\d+)\.(\d+)", capability)  # AMD's are names
    return "cudnn" if numbers and tuple(map(int, numbers.groups())) >= FUSED_CAPABILITY else None


def make_last_axis_contiguous(x: Array) -> Array:
    """Returns tokens whose last axis is contiguous in memory, as is their gradient.

    Without it, XLA puts transposes into every block of spectrogram_transformer and
    tagging_transformer at batch 64. With several devices tokens are left as they are: the
    constraint would gather the whole batch on each of them.

    Args:
        x: (batch, tokens, width).
    """
    if not formulations.is_used("rows") or jax.device_count() > 1:
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))
