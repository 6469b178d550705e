"""The few types that every room of the house shares: batches, model outputs, training state."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import struct

Array = jax.Array
PyTree = Any

Stream = Mapping[str, Array]
Batch = Mapping[str, "Array | Batch"]
"""One step's data: one stream, or named streams of any sizes.

A stream is a mapping of arrays with one length, its examples. Named streams are a mapping of
streams, such as `{"labeled": {...}, "unlabeled": {...}}`, each with a length and a mask of its own.
Arrays and streams never stand side by side in one mapping.

Keys of a stream: `audio` float32 (batch, samples), mono in [-1, 1] at the model's sample rate, or
`log_mel` float32 (batch, frames, mels) in dB, or `tokens` int32 (batch, tokens), -1 where a text
has ended; `labels` float32 (batch, classes), multi-hot or soft; `mask` float32 (batch,), 1 for a
real example and 0 for padding; `track_index` int32 (batch,), the track each chunk was cut from."""

Metrics = Mapping[str, Array]

LossFn = Callable[[PyTree, PyTree, Batch, Array], tuple[Array, tuple[PyTree, Metrics]]]
"""`(params, model_state, batch, key) -> (loss, (new_model_state, metrics))`. What differs between
training schemes is this function and nothing else."""


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How a recording is cut into chunks of one length.

    Attributes:
        length: of a chunk.
        overlap: how much of a chunk the next one begins with.
        margin: reflect padding at both ends of the recording.
        keeps_rest: whether what is left at the end is heard, in a last chunk that ends where the
            recording ends. A recording shorter than one chunk is always padded with silence.
    """

    length: int
    overlap: int = 0
    margin: int = 0
    keeps_rest: bool = True


@struct.dataclass
class ModelOutput:
    """What every model returns.

    Attributes:
        embedding: (batch, width), what a tagger's `classify` turns into logits: the input of the
            output layer, before dropout.
        logits: float32 (batch, classes), never probabilities; None of an encoder without labels.
        intermediates: name -> array, whatever the architecture has to show (feature maps,
            attention weights). XLA removes what the caller does not use.
    """

    embedding: Array
    logits: Array | None = None
    intermediates: Mapping[str, Array] = struct.field(default_factory=dict)


class TrainState(struct.PyTreeNode):
    """The whole state of a training run: arrays only.

    Attributes:
        step: int32 scalar, number of updates made.
        params: nested dict of float32 arrays; one subtree per network where there are several.
            Those that are not trainable may follow the others, as an averaged teacher does.
        model_state: every other collection of the variables (BatchNorm statistics, input
            statistics, queues), by collection name.
        opt_state: the optimizer's state, for the trainable parameters only.
    """

    step: Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree


INPUT_KEYS = ("audio", "log_mel", "tokens", "embedding")


def model_inputs(stream: Stream) -> Array:
    """Returns the array that a model, or its output layer, is called with.

    Args:
        stream: see `Batch`; one of cached embeddings has `embedding` (batch, width) instead of
            audio.

    Returns:
        float32 (batch, samples), (batch, frames, mels) or (batch, width); int32 (batch, tokens).

    Raises:
        KeyError: if the stream has none of them.
    """
    for key in INPUT_KEYS:
        if key in stream:
            return stream[key]
    raise KeyError(f"The batch has none of {', '.join(INPUT_KEYS)}, only {', '.join(stream)}.")
