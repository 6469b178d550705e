"""The contracts of models: an encoder maps its input to an embedding, a tagger has labels too.

Every model returns a `ModelOutput`. The output layer is found by the model (`is_head_path`), never
by its name.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.spectrogram import LogMel, log_mel_spectrogram
from musrep_jax.models.layers import Dense
from musrep_jax.models.outputs import check_output_names, pool_over_time
from musrep_jax.types import Array, Chunking, ModelOutput

NO_TOKEN = -1
"""In a batch of token ids: the text has ended before."""


class InputError(ValueError):
    """The input's shape does not fit the model; the message says what does."""


class Encoder(nn.Module):
    """Base of all models: maps its input to an embedding and to named outputs, and has no labels.

    A subclass writes `features`, `embed` and, for outputs other than the embedding,
    `intermediate_names`. Its fields are its configuration: a config file states deviations from
    them only. What reads audio is an `AudioEncoder`, what reads text a `TextEncoder`.
    """

    INPUT: ClassVar[str] = "audio"
    """What the model reads: "audio", float32 (batch, samples) or log-mel (batch, frames, mels); or
    "tokens", int32 (batch, tokens), `NO_TOKEN` where a text has ended."""

    HEAD: ClassVar[tuple[str, ...]] = ()
    """Names of the modules and parameters of the output layer: what trains on a frozen backbone,
    which has none of it."""

    FEATURES: ClassVar[tuple[str, ...]] = ("embedding",)
    """Outputs that are features for another classifier where none are named."""

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(regular expression, replacement) pairs, applied in order, that turn the parameter names of
    the public PyTorch code into this module's paths; see `musrep_jax.weights.state_dicts`."""

    TORCH_IGNORED: ClassVar[tuple[str, ...]] = ()
    """Regular expressions of keys in the public checkpoints that the model has no use for."""

    def adapt_torch_weights(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns a PyTorch checkpoint's arrays after the model's special cases, names unchanged.

        Args:
            arrays: key -> array in PyTorch's layout, without prefixes.

        Returns:
            The same keys, or others, in PyTorch's layout.
        """
        return arrays

    @property
    def input_shape(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example as the model usually reads it, without the batch."""
        raise NotImplementedError

    def batch_shape(self, batch: int) -> jax.ShapeDtypeStruct:
        """Returns shape and dtype of a batch of so many examples, for tracing."""
        one = self.input_shape
        return jax.ShapeDtypeStruct((batch, *one.shape), one.dtype)

    @property
    def front_end(self) -> Mapping[str, Any] | None:
        """The front end's settings as plain data, or None for a model that has none."""
        return None

    @property
    def head_paths(self) -> tuple[tuple[str, ...], ...]:
        """Paths of the modules of the output layer in the parameters; none for an encoder."""
        return tuple((name,) for name in self.HEAD)

    def is_head_path(self, path: Sequence[str]) -> bool:
        """Returns whether a parameter belongs to the output layer.

        Args:
            path: of the parameter or of a module, without its collection: `("head", "kernel")`.
        """
        return any(tuple(path[: len(head)]) == head for head in self.head_paths)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the network's features, computed from the input."""
        raise NotImplementedError

    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding, (batch, width), and the intermediates."""
        raise NotImplementedError

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of what the model can show beside the embedding, such as "layer_3"."""
        return ()

    def output_names(self) -> tuple[str, ...]:
        """Returns the names that `outputs` knows."""
        return ("embedding", *self.intermediate_names)

    def embed_options(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Returns the arguments of `embed` that bring outputs which it does not give by itself."""
        return {}

    def steps_that_count(self, name: str, inputs: Array, num_steps: int) -> Array | None:
        """Returns which steps of an output are pooled, bool (batch or 1, steps); None is all."""
        return None

    def outputs(
        self, inputs: Array, names: Sequence[str], *, pool: str | None = None, train: bool = False
    ) -> dict[str, Array]:
        """Returns outputs by name; what is not asked for is not computed.

        Call it as `model.apply(variables, inputs, names, pool="mean", method="outputs")`.

        Args:
            inputs: see `INPUT`.
            names: of `output_names()`.
            pool: how outputs that have a time axis, their second, are pooled over it: "mean",
                "max", "both" (mean, then maximum), or None. Those without one, and attention
                weights, stay as they are; class tokens and padding are left out.
            train: as of `__call__`; False is evaluation.
            train: see `__call__`.

        Returns:
            Name -> float32 (batch, ...), in the order of the names.

        Raises:
            OutputNameError: if the model gives no output of a name; the sentence lists those it
                gives.
        """
        check_output_names(type(self).__name__, names, self.output_names())
        features = self.features(inputs, train=train)
        embedding, intermediates = self.embed(features, train=train, **self.embed_options(names))
        found = {}
        for name in names:
            if name == "logits":
                value = self.classify(embedding, train=train)
            else:
                value = embedding if name == "embedding" else intermediates[name]
            has_time = value.ndim > 2 and "attention" not in name
            counts = self.steps_that_count(name, inputs, value.shape[1]) if has_time else None
            found[name] = pool_over_time(value, pool if has_time else None, counts)
        return found

    def classify(self, embedding: Array, *, train: bool) -> Array:
        """Returns the logits of an embedding; of taggers only."""
        raise NotImplementedError(f"{type(self).__name__} has no output layer.")

    def __call__(self, inputs: Array, *, train: bool) -> ModelOutput:
        """Encodes a batch.

        Args:
            inputs: see `INPUT`.
            train: whether batch statistics are used and updated and dropout is active.

        Returns:
            embedding (batch, width) and intermediates; no logits.

        Raises:
            InputError: if the shape does not fit; the sentence says what does.
        """
        embedding, intermediates = self.embed(self.features(inputs, train=train), train=train)
        return ModelOutput(embedding=embedding, intermediates=intermediates)


class TextEncoder(Encoder):
    """Base of the encoders that read text.

    Attributes:
        num_tokens: length that texts are cut or padded to.
        dtype: of the computation, "float32" or "bfloat16"; parameters stay float32.
    """

    num_tokens: int = 64
    dtype: str = "float32"

    INPUT: ClassVar[str] = "tokens"

    @property
    def input_shape(self) -> jax.ShapeDtypeStruct:
        """One text: int32 (num_tokens,)."""
        return jax.ShapeDtypeStruct((self.num_tokens,), jnp.int32)

    def steps_that_count(self, name: str, inputs: Array, num_steps: int) -> Array | None:
        """Returns the mask of a text's tokens."""
        return inputs != NO_TOKEN


class AudioEncoder(Encoder):
    """Base of the encoders that read audio.

    Attributes:
        sample_rate: of the waveform, in Hz.
        num_samples: length of one chunk in training and evaluation, in samples.
        dtype: of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay
            float32.
    """

    sample_rate: int = 16000
    num_samples: int = 59049
    dtype: str = "float32"

    @property
    def input_shape(self) -> jax.ShapeDtypeStruct:
        """One chunk of a waveform: float32 (num_samples,)."""
        return jax.ShapeDtypeStruct((self.num_samples,), jnp.float32)

    @property
    def chunking(self) -> Chunking:
        """How a recording is cut into what the model reads at once, in samples."""
        return Chunking(self.num_samples)


class Tagger(AudioEncoder):
    """An encoder of audio with an output layer: base of all taggers.

    Attributes:
        num_classes: number of output units; 0 for a backbone, which is asked for embeddings only.
        dropout_rate: before the output layer.
    """

    num_classes: int = dataclasses.field(kw_only=True)
    dropout_rate: float = 0.5

    HEAD: ClassVar[tuple[str, ...]] = ("head",)

    def output_names(self) -> tuple[str, ...]:
        """Returns the names that `outputs` knows; a backbone has no logits."""
        return (("logits",) if self.num_classes else ()) + super().output_names()

    @property
    def frozen_output(self) -> str:
        """Name of the output that a frozen backbone gives the output layer, of `output_names()`."""
        return "embedding"

    def classify_frozen(self, value: Array, *, train: bool) -> Array:
        """Returns the logits of `frozen_output`: what is trained when the backbone is frozen.

        Args:
            value: (batch, width).
            train: whether dropout is active.

        Returns:
            float32 (batch, classes).
        """
        return self.classify(value, train=train)

    def setup(self) -> None:
        """Creates the output layer, the only part that depends on the label set."""
        self.head = Dense(self.num_classes)
        self.head_dropout = nn.Dropout(self.dropout_rate)

    def classify(self, embedding: Array, *, train: bool) -> Array:
        """Returns the logits of an embedding.

        Args:
            embedding: (batch, width).
            train: whether dropout is active.

        Returns:
            float32 (batch, classes).
        """
        embedding = self.head_dropout(embedding, deterministic=not train)
        return self.head(embedding.astype(jnp.float32))

    def __call__(self, inputs: Array, *, train: bool) -> ModelOutput:
        """Tags a batch.

        Args:
            inputs: float32 (batch, samples), mono waveform in [-1, 1] at `sample_rate`; or float32
                (batch, frames, mels), log-mel in dB made with `front_end`.
            train: whether batch statistics are used and updated and dropout is active.

        Returns:
            logits float32 (batch, classes), embedding (batch, width), intermediates; of a backbone
            no logits.

        Raises:
            InputError: if the shape does not fit; the sentence says what does.
        """
        if not self.num_classes:
            return super().__call__(inputs, train=train)
        embedding, intermediates = self.embed(self.features(inputs, train=train), train=train)
        logits = self.classify(embedding, train=train)
        return ModelOutput(logits=logits, embedding=embedding, intermediates=intermediates)


def check_waveform(inputs: Array, sample_rate: int, min_samples: int) -> None:
    """Checks that the input is a batch of mono waveforms that are long enough.

    Args:
        inputs: the array handed to the model.
        sample_rate: in Hz, for the message.
        min_samples: fewest samples that the architecture can read.

    Raises:
        InputError: if it is not.
    """
    if inputs.ndim != 2:
        raise InputError(
            f"This model reads mono waveforms of shape (batch, samples) at {sample_rate} Hz, and "
            f"got shape {inputs.shape}: average the channels, or pass one chunk per row."
        )
    if inputs.shape[1] < min_samples:
        raise InputError(
            f"The waveform has {inputs.shape[1]} samples; this model needs at least {min_samples} "
            f"({min_samples / sample_rate:.2f} s at {sample_rate} Hz). Pad it with zeros."
        )


class SpectrogramTagger(Tagger):
    """Base of the taggers that read a log-mel spectrogram.

    Attributes:
        n_fft: window length and FFT size, in samples.
        hop_length: in samples.
        n_mels: number of mel bands.
        f_min: lower edge of the mel bands, in Hz.
        f_max: upper edge of the mel bands, in Hz.
    """

    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 8000.0

    MIN_FRAMES: ClassVar[int] = 1

    @property
    def log_mel(self) -> LogMel:
        """The spectrogram settings."""
        return LogMel(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            f_min=self.f_min,
            f_max=self.f_max,
        )

    @property
    def front_end(self) -> Mapping[str, Any] | None:
        """The spectrogram settings as plain data."""
        return self.log_mel.to_dict()

    @property
    def chunking(self) -> Chunking:
        """How a recording is cut into chunks.

        Frames that lie inside the chunk are those of the whole recording, with reflect padding at
        its ends, cut without overlap; a rest at the end that is shorter than a chunk is left out,
        as the package musicnn does.
        """
        if self.log_mel.is_centered:
            return super().chunking
        overlap, margin = self.n_fft - self.hop_length, self.n_fft // 2
        return Chunking(self.num_samples, overlap, margin, keeps_rest=False)

    @property
    def min_frames(self) -> int:
        """Fewest spectrogram frames that the architecture can read."""
        return self.MIN_FRAMES

    def spectrogram(self, inputs: Array) -> Array:
        """Returns the log-mel spectrogram, computed here or handed in.

        Args:
            inputs: float32 (batch, samples) or (batch, frames, mels).

        Returns:
            float32 (batch, frames, mels), on the level of the front end, such as dB.

        Raises:
            InputError: if the shape fits neither.
        """
        if inputs.ndim == 3:
            if inputs.shape[2] != self.n_mels:
                advice = "compute it with the model's own front end"
                if 2 in inputs.shape[1:]:
                    advice += ", or average the channels if this is a stereo waveform"
                raise InputError(
                    f"This model reads {self.n_mels} mel bands, and got a spectrogram with "
                    f"{inputs.shape[2]} (shape {inputs.shape}, expected (batch, frames, "
                    f"{self.n_mels})): {advice}."
                )
            log_mel = inputs.astype(jnp.float32)
        else:
            fewest = self.n_fft // 2 + 1 if self.log_mel.is_centered else self.n_fft
            check_waveform(inputs, self.sample_rate, fewest)
            log_mel = log_mel_spectrogram(inputs, self.log_mel)
        if log_mel.shape[1] < self.min_frames:
            seconds = (self.min_frames - 1) * self.hop_length / self.sample_rate
            raise InputError(
                f"The input has {log_mel.shape[1]} spectrogram frames; {type(self).__name__} needs "
                f"at least {self.min_frames} ({seconds:.2f} s). Pad it with silence."
            )
        return log_mel
