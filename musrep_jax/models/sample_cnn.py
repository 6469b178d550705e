"""Sample-level CNNs: convolutions of three samples, straight from the waveform.

Layers of `SampleCNN` for 59,049 = 3^10 samples, (time x channels) after each; every layer is a
convolution of width 3, BatchNorm, ReLU, and from the second on max-pooling by 3:

    layer1          19683 x 128    stride 3, no pooling
    layer2, 3       6561, 2187 x 128
    layer4          729 x 256
    layer5 to 9     243, 81, 27, 9, 3 x 256
    layer10         1 x 512
    layer11         1 x 512        width 1, no pooling
    dropout, head

`SampleCNNSE` has the same plan with residual blocks whose second convolution is gated per channel
(squeeze and excitation), followed by dense1 512, BatchNorm, ReLU, dropout, head. With
`residual=False` every block is the convolution, BatchNorm, ReLU and pooling of `SampleCNN`, and the
gate after them: squeeze and excitation alone. It has 1,844,224 parameters of `SampleCNN`'s layers,
1,939,200 of the gates, 263,680 of dense1 and bn, and 25,650 of the head for 50 classes.

The length has to end in exactly one cell: 59,047 to 118,095 samples. The waveform is not
normalized.

`MIREX_2017` holds the settings of the network that Lee et al. submitted to MIREX 2017: 22,050 Hz,
256 channels up to the end, no padding before the first convolution, no dropout; 1,462,322
parameters for 50 tags. Its three last layers are `layer_9`, `layer_10` and `layer_11`.

Kept: eleven blocks (the thesis says ten convolutions; the last has width 1); the gate's two dense
layers have full width, without the usual reduction.
Not kept, of the submission: He's initial values and a BatchNorm whose running estimates move by
1 % per step; here both are PyTorch's, as in all models.

Source: Lee, Park, Kim, Nam, "Sample-level deep convolutional neural networks for music auto-tagging
using raw waveforms", SMC 2017; Kim, Lee, Nam, "Sample-level CNN architectures for music
auto-tagging using raw waveforms", ICASSP 2018; in the form of Won, Ferraro, Bogdanov, Serra, SMC
2020; public code minzwon/sota-music-tagging-models. `MIREX_2017`: Lee et al., submissions LPNKK1
to LPNKK3 to MIREX 2017; public code jongpillee/musicTagging_MSD.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.models.base import InputError, Tagger, check_waveform
from musrep_jax.models.layers import (
    BatchNorm,
    Conv,
    ConvBlock,
    Dense,
    convolve_together,
    max_pool,
)
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

MIREX_2017: Mapping[str, Any] = MappingProxyType(
    {
        "channel_factors": (1, 1, 1, 2, 2, 2, 2, 2, 2, 2),
        "first_padding": 0,
        "dropout_rate": 0.0,
        "sample_rate": 22050,
    }
)
"""Settings of `sample_cnn` for the network of Lee et al., MIREX 2017, trained on the MSD."""


def check_collapses(
    inputs: Array, sample_rate: int, num_layers: int, model: str, first_padding: int = 1
) -> None:
    """Checks that `num_layers` layers that each divide by three end in exactly one cell.

    Args:
        inputs: the array handed to the model.
        sample_rate: in Hz, for the message.
        num_layers: the strided convolution and the max-poolings together.
        model: for the message.
        first_padding: zeros on each side before the strided convolution, of width 3.

    Raises:
        InputError: if they do not, or if the input is no batch of mono waveforms.
    """
    shortest = 3**num_layers - 2 * first_padding  # the poolings round down
    longest = 2 * 3**num_layers - 1 - 2 * first_padding
    check_waveform(inputs, sample_rate, shortest)
    if inputs.shape[1] > longest:
        raise InputError(
            f"The waveform has {inputs.shape[1]} samples; {model} has to end in exactly one cell "
            f"and takes {shortest} to {longest} samples ({shortest / sample_rate:.2f} to "
            f"{longest / sample_rate:.2f} s at {sample_rate} Hz). Cut it into chunks."
        )


class SEResBlock(nn.Module):
    """Residual block in one dimension with a gate per channel (squeeze and excitation).

    Attributes:
        features: number of output channels.
        kernel_size: samples.
        stride: of the first convolution and the shortcut.
        pool: max-pooling window at the end; 1 is no pooling.
        padding: zeros on each side before the first convolution and the shortcut; None is
            `kernel_size // 2`.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    pool: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time, in) to (batch, time', features)."""
        size, strides = (self.kernel_size,), (self.stride,)
        padding = None if self.padding is None else (self.padding,)
        conv_1 = Conv(self.features, size, strides, padding, name="conv_1")
        if self.stride != 1 or x.shape[-1] != self.features:
            conv_3 = Conv(self.features, size, strides, padding, name="conv_3")
            h, x = convolve_together(conv_1, conv_3, x)
            x = BatchNorm(name="bn_3")(x, train=train)
        else:
            h = conv_1(x)
        h = nn.relu(BatchNorm(name="bn_1")(h, train=train))
        h = BatchNorm(name="bn_2")(Conv(self.features, size, name="conv_2")(h), train=train)
        gate = nn.relu(Dense(self.features, name="dense1")(h.mean(axis=1)))
        gate = nn.sigmoid(Dense(self.features, name="dense2")(gate))
        return max_pool(nn.relu(x + h * gate[:, None]), (self.pool,))


class SEBlock(nn.Module):
    """Convolution, BatchNorm, ReLU and max-pooling, then a gate per channel.

    Attributes:
        features: number of output channels.
        kernel_size: samples.
        stride: of the convolution.
        pool: max-pooling window; 1 is no pooling.
        padding: zeros on each side before the convolution; None is `kernel_size // 2`.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    pool: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps (batch, time, in) to (batch, time', features)."""
        padding = None if self.padding is None else (self.padding,)
        conv = Conv(self.features, (self.kernel_size,), (self.stride,), padding, name="conv_1")
        x = max_pool(nn.relu(BatchNorm(name="bn_1")(conv(x), train=train)), (self.pool,))
        gate = nn.relu(Dense(self.features, name="dense1")(x.mean(axis=1)))
        return x * nn.sigmoid(Dense(self.features, name="dense2")(gate))[:, None]


class SampleCNN(Tagger):
    """Ten convolutions of width 3 over 3.7 s of waveform, and one of width 1.

    Attributes:
        n_channels: channels of the first layer.
        channel_factors: multiples of `n_channels`, one per layer that divides by three; the last
            layer, of width 1, has as many channels as the one before it.
        first_padding: zeros on each side of the waveform, before the first convolution.
    """

    n_channels: int = 128
    channel_factors: tuple[int, ...] = (1, 1, 1, 2, 2, 2, 2, 2, 2, 4)
    first_padding: int = 1

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^dense\.", "head."),)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the waveform, (batch, samples, 1).

        Raises:
            InputError: if it would not end in exactly one cell.
        """
        num_layers = len(self.channel_factors)
        check_collapses(
            inputs, self.sample_rate, num_layers, type(self).__name__, self.first_padding
        )
        return inputs[..., None].astype(self.dtype)

    def make_block(self, index: int, features: int, stride: int, pool: int, size: int) -> nn.Module:
        """Returns block number `index`, counted from 1."""
        padding = (self.first_padding,) if index == 1 else None
        return ConvBlock(features, (size,), (stride,), padding, (pool,), name=f"layer{index}")

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(len(self.channel_factors) + 1), "feature_map")

    def run_blocks(self, x: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Maps (batch, samples, 1) to (batch, channels) and the maps on the way.

        They are `layer_1` ..., (batch, time, channels) after each block, and `feature_map`, the
        last one that has more than one step.
        """
        widths = [factor * self.n_channels for factor in self.channel_factors]
        maps = {}
        for index, features in enumerate(widths, start=1):
            stride, pool = (3, 1) if index == 1 else (1, 3)
            maps["feature_map"] = x
            x = maps[f"layer_{index}"] = self.make_block(index, features, stride, pool, 3)(
                x, train=train
            )
        last = len(widths) + 1
        x = maps[f"layer_{last}"] = self.make_block(last, widths[-1], 1, 1, 1)(x, train=train)
        return x[:, 0], maps

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 4 n_channels) and the maps of `run_blocks`."""
        x, maps = self.run_blocks(features, train=train)
        return x.astype(jnp.float32), maps


class SampleCNNSE(SampleCNN):
    """The sample-level CNN with gated blocks and a dense layer before the output.

    Attributes:
        residual: whether a block adds two convolutions to its input, as in the public code of Won
            et al.; False is the plain block of Kim et al. with one convolution.
    """

    residual: bool = True

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^dense2\.", "head."),)

    def make_block(self, index: int, features: int, stride: int, pool: int, size: int) -> nn.Module:
        """Returns block number `index`, counted from 1."""
        padding = self.first_padding if index == 1 else None
        block = SEResBlock if self.residual else SEBlock
        return block(features, size, stride, pool, padding, name=f"layer{index}")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 4 n_channels) and the maps of `run_blocks`."""
        x, maps = self.run_blocks(features, train=train)
        x = BatchNorm(name="bn")(Dense(x.shape[-1], name="dense1")(x), train=train)
        return nn.relu(x).astype(jnp.float32), maps
