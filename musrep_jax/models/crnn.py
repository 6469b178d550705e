"""CRNN: a convolutional network whose last map is read by a gated recurrent network.

Layers for 464,000 samples (1813 frames), (time x mel x channels) after each; every layer is a 3 x 3
convolution, BatchNorm, ReLU and max-pooling:

    spec_bn    1813 x 96 x 1
    layer1     906 x 48 x 64     pool 2 x 2
    layer2     302 x 16 x 128    pool 3 x 3
    layer3     75 x 4 x 128      pool 4 x 4
    layer4     18 x 1 x 128      pool 4 x 4
    layer5     18 x 32           gated recurrent network, two layers, forward in time
    last step (embedding 32), dropout, head

Any length from 96 frames on is taken. Avoided: the published output layer is fixed to 50 tags.

Source: Choi, Fazekas, Sandler, Cho, "Convolutional recurrent neural networks for music
classification", ICASSP 2017, in the form of Won, Ferraro, Bogdanov, Serra, SMC 2020; public code
minzwon/sota-music-tagging-models.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.models.base import InputError, SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, ConvBlock, make_bias_init
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

POOLS = ((2, 2), (3, 3), (4, 4), (4, 4))
MEL_FACTOR = 96  # product of the pools: fewer mels leave nothing, twice as many leave two rows


class StateProjection(nn.Module):
    """The weights of one side (input or state) of a recurrent layer with gates.

    Initially uniform in +-1/sqrt(hidden), as in PyTorch.

    Attributes:
        hidden_size: width of the state.
        num_gates: 3 (reset, update, new) or 4 of a long short-term memory.
        use_bias: whether there is a bias; without, it is zero.
    """

    hidden_size: int
    num_gates: int = 3
    use_bias: bool = True

    @nn.compact
    def __call__(self, input_size: int) -> tuple[Array, Array]:
        """Returns kernel (input_size, gates x hidden_size) and bias (gates x hidden_size,)."""
        init, outputs = make_bias_init(self.hidden_size), self.num_gates * self.hidden_size
        kernel = self.param("kernel", init, (input_size, outputs))
        bias = self.param("bias", init, (outputs,)) if self.use_bias else jnp.zeros(outputs)
        return kernel, bias


class GRULayer(nn.Module):
    """A gated recurrent layer, forward in time, with PyTorch's two biases and zero initial state.

    r, z = sigmoid(x W + h U), n = tanh(x W_n + r (h U_n)), h' = (1 - z) n + z h, where both W and U
    have a bias. The recurrence is float32 whatever the dtype of the input.

    Attributes:
        hidden_size: width of the state.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, time, in) to the states, float32 (batch, time, hidden_size)."""
        x = x.astype(jnp.float32)
        kernel, bias = StateProjection(self.hidden_size, name="ih")(x.shape[-1])
        state_kernel, state_bias = StateProjection(self.hidden_size, name="hh")(self.hidden_size)
        projected = jnp.matmul(x, kernel) + bias[None, None]

        def step(state: Array, from_input: Array) -> tuple[Array, Array]:
            from_state = jnp.matmul(state, state_kernel) + state_bias[None]
            input_r, input_z, input_n = jnp.split(from_input, 3, axis=-1)
            state_r, state_z, state_n = jnp.split(from_state, 3, axis=-1)
            update = nn.sigmoid(input_z + state_z)
            new = jnp.tanh(input_n + nn.sigmoid(input_r + state_r) * state_n)
            state = (1 - update) * new + update * state
            return state, state

        initial = jnp.zeros((x.shape[0], self.hidden_size))
        _, states = jax.lax.scan(step, initial, projected.swapaxes(0, 1))
        return states.swapaxes(0, 1)


class GRU(nn.Module):
    """A stack of gated recurrent layers, each reading the states of the one below.

    Attributes:
        hidden_size: width of the states.
        num_layers: number of layers.
    """

    hidden_size: int
    num_layers: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, time, in) to the states of the last layer, (batch, time, hidden_size)."""
        for index in range(self.num_layers):
            x = GRULayer(self.hidden_size, name=f"layer_{index}")(x)
        return x


class CRNN(SpectrogramTagger):
    """Four 3 x 3 convolutions and a two-layer gated recurrent network.

    Attributes:
        n_channels: channels of the first layer; the others have twice as many.
        hidden_size: width of the recurrent layers and of the embedding.
        num_recurrent_layers: number of recurrent layers.
    """

    num_samples: int = 464000
    n_mels: int = 96
    n_channels: int = 64
    hidden_size: int = 32
    num_recurrent_layers: int = 2

    MIN_FRAMES: ClassVar[int] = 96
    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ((r"^dense\.", "head."),)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels, 1).

        Raises:
            InputError: if the number of mel bands does not end in one row.
        """
        if self.n_mels // MEL_FACTOR != 1:
            raise InputError(
                f"n_mels is {self.n_mels}; CRNN takes {MEL_FACTOR} to {2 * MEL_FACTOR - 1} mel "
                "bands."
            )
        return self.spectrogram(inputs)[..., None]

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(len(POOLS)), "states")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, hidden_size) the maps and the states at all steps."""
        x = BatchNorm(name="spec_bn")(features, train=train).astype(self.dtype)
        maps = {}
        for index, pool in enumerate(POOLS, start=1):
            channels = self.n_channels * (1 if index == 1 else 2)
            block = ConvBlock(channels, pool=pool, name=f"layer{index}")
            x = maps[f"layer_{index}"] = block(x, train=train)
        states = GRU(self.hidden_size, self.num_recurrent_layers, name="layer5")(x[:, :, 0])
        return states[:, -1], {**maps, "states": states}
