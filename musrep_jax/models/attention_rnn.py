"""Attention RNN: a small recurrent network for keywords that attends to the frames that matter.

Layers for 16,000 samples (126 frames), (time x mel x channels) after each:

    log-mel        126 x 80         n_fft 1024, hop 128, 40 to 8000 Hz, dB
    normalization  126 x 80 x 1     mean 0, deviation 1 over the frames and bands of each chunk
    layer1         126 x 80 x 10    convolution 5 x 1 (over time), ReLU, BatchNorm
    layer2         126 x 80 x 1     convolution 5 x 1, ReLU, BatchNorm
    layer3         126 x 128        long short-term memory, 64 forward and 64 backward
    layer4         126 x 128        the same
    query          128              dense layer of the last frame
    attention      126              softmax over time of the product of query and frame
    context        128              mean of the frames with these weights
    dense1         64               ReLU
    dense2         32               embedding
    dropout, head

Parameters for c classes: 60 + 20 and 51 + 2 (convolutions with their BatchNorm), 4 gates x 64
units x (80 + 64 + 1) x 2 directions = 74,240 and 4 x 64 x (128 + 64 + 1) x 2 = 98,816 (memories),
16,512, 8,256 and 2,080 (dense layers), 33 c: 201,687 for 50 classes, and 201,192 for the 35 words
of Speech Commands, where the paper says 202 thousand.

Any length from 513 samples on is taken; the paper trains on one second. Differences: the public
code's first form limits a spectrogram to 80 dB below its maximum, the levels here are not limited;
it has 125 frames, padded with zeros; initial values, also those of the forget gate, and BatchNorm
are PyTorch's, as in all models.

Source: de Andrade, Leo, Viana, Bernkopf, "A neural attention model for speech command recognition",
2018; public code douglas125/SpeechCmdRecognition.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.crnn import StateProjection
from musrep_jax.models.layers import BatchNorm, Conv, Dense
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

MIN_DEVIATION = 1e-3
"""In dB: a chunk of silence stays zero."""


class LSTMLayer(nn.Module):
    """A long short-term memory in one direction, with one bias and zero initial state.

    c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c'), where i, f, g and o are the
    four parts of x W + h U + b. The recurrence is float32 whatever the dtype of the input.

    Attributes:
        hidden_size: width of the state.
        reverse: whether it begins at the last frame.
    """

    hidden_size: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, time, in) to the states, float32 (batch, time, hidden_size)."""
        size, x = self.hidden_size, x.astype(jnp.float32)
        kernel, bias = StateProjection(size, 4, name="ih")(x.shape[-1])
        state_kernel, _ = StateProjection(size, 4, use_bias=False, name="hh")(size)
        projected = jnp.matmul(x, kernel) + bias[None, None]

        def step(
            carry: tuple[Array, Array], from_input: Array
        ) -> tuple[tuple[Array, Array], Array]:
            state, memory = carry
            gates = from_input + jnp.matmul(state, state_kernel)
            enter, keep, new, leave = jnp.split(gates, 4, axis=-1)
            memory = nn.sigmoid(keep) * memory + nn.sigmoid(enter) * jnp.tanh(new)
            state = nn.sigmoid(leave) * jnp.tanh(memory)
            return (state, memory), state

        initial = jnp.zeros((x.shape[0], size))
        _, states = jax.lax.scan(
            step, (initial, initial), projected.swapaxes(0, 1), reverse=self.reverse
        )
        return states.swapaxes(0, 1)


class BidirectionalLSTM(nn.Module):
    """Two memories, one in each direction, side by side.

    Attributes:
        hidden_size: width of each state.
    """

    hidden_size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, time, in) to float32 (batch, time, 2 hidden_size)."""
        forward = LSTMLayer(self.hidden_size, name="forward")(x)
        backward = LSTMLayer(self.hidden_size, reverse=True, name="backward")(x)
        return jnp.concatenate([forward, backward], axis=-1)


class AttentionRNN(SpectrogramTagger):
    """Two convolutions over time, two bidirectional memories, attention of the last frame to all.

    Attributes:
        n_channels: channels of the first convolution.
        hidden_size: width of a memory in one direction; `dense1` is as wide, the embedding half.
    """

    num_samples: int = 16000
    n_fft: int = 1024
    hop_length: int = 128
    n_mels: int = 80
    f_min: float = 40.0
    n_channels: int = 10
    hidden_size: int = 64
    dropout_rate: float = 0.0

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, normalized per chunk, (batch, frames, mels, 1)."""
        levels = self.spectrogram(inputs)
        centered = levels - levels.mean(axis=(1, 2), keepdims=True)
        deviation = jnp.sqrt((centered**2).mean(axis=(1, 2), keepdims=True) + MIN_DEVIATION**2)
        return (centered / deviation)[..., None]

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return (*layer_names(4), "attention")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, hidden_size / 2), the layers and the attention.

        `attention` is (batch, time, 1), weights that sum to 1 over time.
        """
        x, maps = features.astype(self.dtype), {}
        for index, channels in enumerate((self.n_channels, 1), start=1):
            x = nn.relu(Conv(channels, (5, 1), name=f"conv{index}")(x))
            x = maps[f"layer_{index}"] = BatchNorm(name=f"bn{index}")(x, train=train)
        x = x[..., 0]
        for index in (3, 4):
            layer = BidirectionalLSTM(self.hidden_size, name=f"layer{index}")
            x = maps[f"layer_{index}"] = layer(x)
        query = Dense(x.shape[-1], name="query")(x[:, -1])
        weights = jax.nn.softmax((query[:, None] * x).sum(axis=-1), axis=-1)
        maps["attention"] = weights[..., None]
        context = (weights[..., None] * x).sum(axis=1)
        hidden = nn.relu(Dense(self.hidden_size, name="dense1")(context))
        return Dense(max(1, self.hidden_size // 2), name="dense2")(hidden), maps
