"""Layers shared by the architectures: convolution, dense layer, BatchNorm, pooling, blocks.

Layout is (batch, time, frequency, channels) for images and (batch, time, channels) for sequences.
Initial values are PyTorch's defaults, uniform in +-1/sqrt(fan_in) for kernels and biases, because
the published models were trained from them.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.kernels import cpu as cpu_kernels
from musrep_jax.kernels import gpu as gpu_kernels
from musrep_jax.kernels.formulations import is_used
from musrep_jax.types import Array

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9  # PyTorch's 0.1, counted from the other end

kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def per_channel(values: Array, x: Array) -> Array:
    """Returns one value per channel in the shape and dtype of `x`, ready to be added or multiplied.

    They are spread before they are cast, so that the gradient of `values` is summed in their own
    dtype: float32, however short the numbers of `x` are.

    Args:
        values: (channels,).
        x: (..., channels).

    Returns:
        (..., channels).
    """
    spread = values.reshape((1,) * (x.ndim - 1) + (-1,))
    return jnp.broadcast_to(spread, x.shape).astype(x.dtype)


def make_bias_init(fan_in: int) -> nn.initializers.Initializer:
    """Returns an initializer that is uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


@jax.custom_jvp
def gelu(x: Array) -> Array:
    """Returns x times the standard normal distribution function of x, exact (not the tanh form).

    Computed in float32 by the error function, as in PyTorch. The slope is computed beside the value
    and kept for the backward pass in the input's dtype, instead of x and parts of both.

    Args:
        x: any shape.

    Returns:
        The same shape and dtype.
    """
    x32 = x.astype(jnp.float32)
    return (x32 * _normal_distribution(x32)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    x32 = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * x32 * x32) / math.sqrt(2 * math.pi)
    slope = _normal_distribution(x32) + x32 * density
    return gelu(x), tangent * slope.astype(x.dtype)


def _normal_distribution(x: Array) -> Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


class Dense(nn.Module):
    """A dense layer: (..., in) -> (..., features), with float32 parameters.

    The computation is done in the input's dtype.

    Attributes:
        features: number of outputs.
        use_bias: whether a bias is added.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns x @ kernel + bias."""
        fan_in = x.shape[-1]
        kernel = self.param("kernel", kernel_init, (fan_in, self.features))
        # Two matrices: with more axes XLA puts transposes into the gradients, on GPU and CPU.
        y = jnp.matmul(x.reshape(-1, fan_in), kernel.astype(x.dtype))
        y = y.reshape(*x.shape[:-1], self.features)
        if self.use_bias:
            bias = self.param("bias", make_bias_init(fan_in), (self.features,))
            y = y + per_channel(bias, y)
        return y


class Conv(nn.Module):
    """A convolution over time (and frequency) with explicit symmetric padding.

    Attributes:
        features: number of output channels.
        kernel_size: (time,) or (time, frequency).
        strides: same length as `kernel_size`; None is 1 everywhere.
        padding: zeros on each side per axis; None is `kernel_size // 2`.
        use_bias: whether a bias is added.
    """

    features: int
    kernel_size: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    use_bias: bool = True

    def __call__(self, x: Array) -> Array:
        """Maps (batch, time[, frequency], in) to (batch, time'[, frequency'], features)."""
        return self.compute(x, *self.weights(x.shape[-1]))

    @nn.compact
    def weights(self, channels: int) -> tuple[Array, Array | None]:
        """Returns the kernel, (*kernel_size, in, features), and the bias, (features,) or None."""
        shape = (*self.kernel_size, channels, self.features)
        kernel = self.param("kernel", kernel_init, shape)
        if not self.use_bias:
            return kernel, None
        bias_init = make_bias_init(math.prod(self.kernel_size) * channels)
        return kernel, self.param("bias", bias_init, (self.features,))

    def compute(self, x: Array, kernel: Array, bias: Array | None) -> Array:
        """Returns the convolution with given weights, of any number of features."""
        strides = self.strides or (1,) * len(self.kernel_size)
        padding = self.padding or tuple(k // 2 for k in self.kernel_size)
        y = convolve(x, kernel.astype(x.dtype), strides, padding)
        return y if bias is None else y + per_channel(bias, y)


def convolve_together(first: Conv, second: Conv, x: Array) -> list[Array]:
    """Returns the outputs of two convolutions of one input, computed as one.

    The input is read once, and narrow convolutions become less narrow: on a CPU a train step of a
    short-chunk ResNet with 16 channels takes 12 to 16 % fewer CPU seconds.

    Args:
        first: with a bias.
        second: with a bias, and of the same kernel size, strides and padding.
        x: (batch, time[, frequency], in).

    Returns:
        The output of each.
    """
    weights = [conv.weights(x.shape[-1]) for conv in (first, second)]
    kernel, bias = (jnp.concatenate(parts, axis=-1) for parts in zip(*weights, strict=True))
    return jnp.split(first.compute(x, kernel, bias), [first.features], axis=-1)


def convolve(x: Array, kernel: Array, strides: tuple[int, ...], padding: tuple[int, ...]) -> Array:
    """Returns a channels-last convolution with symmetric zero padding.

    Args:
        x: (batch, time[, frequency], in).
        kernel: (time[, frequency], in, out).
        strides: per spatial axis.
        padding: zeros on each side, per spatial axis.

    Returns:
        (batch, time'[, frequency'], out).
    """
    pads = tuple((p, p) for p in padding)
    if x.ndim == 4 and is_used("convolution"):
        return cpu_kernels.convolve(x, kernel, tuple(strides), pads)
    if x.ndim == 4 and is_used("patches") and gpu_kernels.is_tall(kernel.shape, strides):
        return gpu_kernels.convolve_tall(x, kernel, pads)
    spatial = "TF"[: x.ndim - 2]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, with PyTorch's running estimates.

    Statistics are float32, as is all arithmetic, and, under a sharded batch, global; padded
    examples do not count, see `mask_padding`. The running variance is the unbiased estimate, as in
    PyTorch and unlike `flax.linen.BatchNorm`. Batch statistics are used, and the running ones
    updated, in training and only when the collection `batch_stats` is mutable: that is how
    statistics are frozen while the rest of the network trains.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = BATCH_NORM_EPSILON

    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """Returns the normalized input; see the class for when statistics are updated.

        Args:
            x: (batch, ..., channels).
            train: whether batch statistics are used and updated.
            mask: (batch,) 1 for an example that counts in the statistics and 0 for padding; None
                counts every example.
        """
        multiplier, shift = self.affine(x, train=train, mask=mask)
        x32 = x.astype(jnp.float32)
        return (x32 * per_channel(multiplier, x32) + per_channel(shift, x32)).astype(x.dtype)

    def of_max(self, x: Array, axis: int, *, train: bool) -> Array:
        """Returns the maximum of the normalized input over an axis.

        The maximum is taken before the affine function (where that falls, the minimum): the large
        array is read once, and the gradient finds the place of the maximum, which it may miss where
        XLA rounds the same sum in two ways.

        Args:
            x: (batch, ..., channels).
            axis: neither the first nor the last.
            train: as in `__call__`.
        """
        multiplier, shift = self.affine(x, train=train)
        highest, lowest = (f(axis=axis).astype(jnp.float32) for f in (x.max, x.min))
        chosen = jnp.where(per_channel(multiplier, highest) >= 0, highest, lowest)
        return (chosen * per_channel(multiplier, chosen) + per_channel(shift, chosen)).astype(
            x.dtype
        )

    @nn.compact
    def affine(self, x: Array, *, train: bool, mask: Array | None = None) -> tuple[Array, Array]:
        """Returns what the input is multiplied by and what is added, (channels,) each."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        x32 = x.astype(jnp.float32)
        if train and self.is_mutable_collection("batch_stats"):
            mean, var, count = _moments(x32, mask)
            if not self.is_initializing():
                unbiased = var * (count / jnp.maximum(count - 1, 1))
                momentum = BATCH_NORM_MOMENTUM
                running_mean.value = momentum * running_mean.value + (1 - momentum) * mean
                running_var.value = momentum * running_var.value + (1 - momentum) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        multiplier = jax.lax.rsqrt(var + self.epsilon) * scale
        return multiplier, bias - mean * multiplier


def _moments(x: Array, mask: Array | None) -> tuple[Array, Array, Array | int]:
    """Returns mean and variance per channel, and over how many positions they were taken."""
    axes = tuple(range(x.ndim - 1))
    count = math.prod(x.shape[:-1])
    if mask is None:
        mean, square = x.mean(axes), (x * x).mean(axes)
    else:
        if mask.shape != x.shape[:1]:
            raise ValueError(
                f"The mask has the shape {mask.shape} and BatchNorm's input {x.shape}: the first "
                "axis of both must be the batch."
            )
        weights = mask.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        count = jnp.maximum(mask.sum(dtype=x.dtype), 1) * (count // x.shape[0])
        mean, square = (x * weights).sum(axes) / count, (x * x * weights).sum(axes) / count
    return mean, jnp.maximum(square - mean * mean, 0.0), count


@contextlib.contextmanager
def mask_padding(mask: Array | None) -> Iterator[None]:
    """Within this context, the BatchNorm layers of a model that is called leave padding out.

    Every other operation treats each example by itself. A context, because the batch's mask does
    not concern an architecture.

    Args:
        mask: (batch,) 1 for a real example and 0 for padding; None counts every example.
    """

    def hand_mask(
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if isinstance(context.module, BatchNorm) and context.method_name == "affine":
            options = {**options, "mask": mask}
        return call(*arguments, **options)

    with nn.intercept_methods(hand_mask):
        yield


def max_pool(x: Array, window: tuple[int, ...]) -> Array:
    """Returns the maximum over non-overlapping windows; a remainder at the end is left out.

    Args:
        x: (batch, time[, frequency], channels).
        window: per spatial axis, used as stride too.

    Returns:
        (batch, time // window[0][, frequency // window[1]], channels).
    """
    if all(w == 1 for w in window):
        return x
    if is_used("pooling"):
        return cpu_kernels.max_pool(x, tuple(window))
    dims = (1, *window, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, dims, dims, "VALID")


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ReLU, max-pooling.

    Attributes:
        features: number of output channels.
        kernel_size: (time,) or (time, frequency).
        strides: of the convolution.
        padding: of the convolution; None is `kernel_size // 2`.
        pool: max-pooling window; None is no pooling.
    """

    features: int
    kernel_size: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    pool: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time[, frequency], in) to (batch, time'[, frequency'], features)."""
        conv = Conv(self.features, self.kernel_size, self.strides, self.padding, name="conv")
        x = nn.relu(BatchNorm(name="bn")(conv(x), train=train))
        return max_pool(x, self.pool) if self.pool else x


class ResBlock(nn.Module):
    """Residual block of two convolutions, with a convolved shortcut where the shape changes.

    The shortcut's convolution has the same kernel size as the others, not 1 x 1. Down-sampling is
    by stride of the first convolution and the shortcut, or by max-pooling at the end.

    Attributes:
        features: number of output channels.
        kernel_size: (time,) or (time, frequency).
        strides: of the first convolution and the shortcut; a shortcut convolution exists when
            strides are given or the number of channels changes.
        pool: max-pooling window at the end; None is no pooling.
    """

    features: int
    kernel_size: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] | None = None
    pool: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time[, frequency], in) to (batch, time'[, frequency'], features)."""
        size = self.kernel_size
        conv_1 = Conv(self.features, size, self.strides, name="conv_1")
        if self.strides is not None or x.shape[-1] != self.features:
            conv_3 = Conv(self.features, size, self.strides, name="conv_3")
            h, x = convolve_together(conv_1, conv_3, x)
            x = BatchNorm(name="bn_3")(x, train=train)
        else:
            h = conv_1(x)
        h = nn.relu(BatchNorm(name="bn_1")(h, train=train))
        h = BatchNorm(name="bn_2")(Conv(self.features, size, name="conv_2")(h), train=train)
        y = nn.relu(x + h)
        return max_pool(y, self.pool) if self.pool else y
