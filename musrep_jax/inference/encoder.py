"""Loaded models, with or without labels, that embed recordings or texts."""

import dataclasses
import functools
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.config import fingerprint
from musrep_jax.inference.chunks import check_not_silent, cut, find_silent_chunks, prepare
from musrep_jax.inference.opening import embed_whole
from musrep_jax.models import (
    NO_TOKEN,
    Encoder,
)
from musrep_jax.models.outputs import check_output_names
from musrep_jax.types import Chunking, PyTree

BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 8, 64
_PREFETCH_BATCHES = 2
"""That are on their way through the device while the next one is put together."""
_NUMERIC_CARD_FIELDS = ("model", "front_end", "sample_rate", "num_samples", "labels", "aggregate",
                    "output")  # fmt: skip
_WHAT_IS_READ = {"audio": "recordings", "tokens": "texts, as token ids"}


class InputKindError(ValueError):
    """A model was given a kind of input that it does not read."""


class BackboneError(ValueError):
    """Tags were requested from a model that has no output layer."""


@dataclasses.dataclass(frozen=True, repr=False)
class LoadedEncoder:
    """A model with its parameters, for embeddings. A `LoadedTagger` also has labels.

    Attributes:
        model: the Flax module.
        variables: its parameters and statistics.
        card: the card of its export.
    """

    model: Encoder
    variables: PyTree
    card: Mapping[str, Any]

    def __repr__(self) -> str:
        """Returns a line: kind, architecture, labels, what it reads."""
        facts = [self.card["model"]["name"], *([f"{len(self.labels)} labels"] * self.has_head)]
        if self.model.INPUT == "audio":
            facts.append(f"{self.num_samples} samples at {self.sample_rate} Hz")
        return f"<{type(self).__name__}: {', '.join(facts)}>"

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in the order of the output units; empty for an encoder."""
        return tuple(self.card["labels"])

    @property
    def has_head(self) -> bool:
        """Whether there is an output layer; a backbone embeds recordings but does not tag them."""
        return bool(self.card["labels"])

    @property
    def sample_rate(self) -> int:
        """The rate that recordings are resampled to, in Hz.

        Raises:
            InputKindError: if the model reads no audio.
        """
        self.check_input("audio")
        return self.model.sample_rate

    @property
    def num_samples(self) -> int:
        """Length of a chunk, in samples.

        Raises:
            InputKindError: if the model reads no audio.
        """
        return self.chunking.length

    @property
    def chunking(self) -> Chunking:
        """How recordings are cut into chunks, in samples; of models that read audio."""
        self.check_input("audio")
        return self.model.chunking

    def check_input(self, kind: str) -> None:
        """Raises if the model reads another kind of input.

        Args:
            kind: "audio" or "tokens".

        Raises:
            InputKindError: if it does.
        """
        if kind != self.model.INPUT:
            raise InputKindError(
                f"The model {self.card['model']['name']!r} reads "
                f"{_WHAT_IS_READ[self.model.INPUT]}, and was given {_WHAT_IS_READ[kind]}."
            )

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Returns the embedding of a whole recording: the mean over its chunks.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            float32 (width,).

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            InputKindError: if the model reads texts.
        """
        _, silent, _, embeddings = self._run(audio, sample_rate)
        check_not_silent(silent)
        return embeddings.mean(axis=0)

    def embed_over_time(self, audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings of the chunks of a recording, of silent ones too.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            Start and end of the chunks in seconds, (chunks, 2), and float32 (chunks, width).
        """
        times, _, _, embeddings = self._run(audio, sample_rate)
        return times, embeddings

    def embed_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the embeddings of texts.

        Args:
            tokens: int (texts, tokens), at most the model's `num_tokens` of each; `NO_TOKEN` where
                a text has ended.

        Returns:
            float32 (texts, width).

        Raises:
            InputKindError: if the model reads audio, or the texts are too long or no token ids.
        """
        self.check_input("tokens")
        tokens, (longest,) = np.asarray(tokens), self.model.input_shape.shape
        fits = tokens.ndim == 2 and np.issubdtype(tokens.dtype, np.integer)
        if not fits or tokens.shape[1] > longest:
            raise InputKindError(
                f"The texts have the shape {tokens.shape} and type {tokens.dtype}; expected token "
                f"ids of shape (texts, tokens) with at most {longest} tokens each: cut them."
            )
        padding = ((0, 0), (0, longest - tokens.shape[1]))
        padded = np.pad(tokens, padding, constant_values=NO_TOKEN).astype(np.int32)
        found = [embedding for _, embedding in self.run_chunks(padded)]
        return np.stack(found) if found else np.zeros((0, self.width), np.float32)

    def _run(
        self, audio: np.ndarray, sample_rate: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns spans in seconds, silence, logits and embeddings of the chunks."""
        waveform = prepare(audio, sample_rate, self.sample_rate)
        chunks, spans = cut(waveform, self.chunking, 0.0)
        logits, embeddings = self._apply(chunks)
        return spans / self.sample_rate, find_silent_chunks(chunks), logits, embeddings

    def forward(self, variables: PyTree, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits and embeddings of chunks: the function that is compiled.

        Args:
            variables: of the model.
            inputs: float32 (batch, samples) or (batch, frames, mels), or int32 (batch, tokens).

        Returns:
            (batch, classes), where an encoder has no classes, and (batch, width).
        """
        if not self.has_head:
            embedding = self.model.apply(variables, inputs, method=embed_whole)
            return jnp.zeros((inputs.shape[0], 0)), embedding
        output = self.model.apply(variables, inputs, train=False)
        return output.logits, output.embedding

    @functools.cached_property
    def _forward(self) -> Any:
        return _compile(self.forward)

    def _apply(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits and embeddings of the chunks of a recording."""
        logits, embeddings = zip(*self.run_chunks(chunks), strict=True)
        return np.stack(logits), np.stack(embeddings)

    def run_chunks(self, chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields logits and embedding of every chunk, in order, a few batches after reading it.

        Every batch has one size, so one program is compiled. On a CPU the numbers of a chunk are
        the same, bit for bit, regardless of the other chunks in its batch and of its position: that
            costs up to half as much again for compact models, and little for published sizes.

        Args:
            chunks: (samples,), (frames, mels) or (tokens,), all of one shape; of any number of
                recordings or texts.

        Returns:
            An iterator of float32 (classes,) and (width,).
        """
        yield from self._run_batches(self._forward, chunks)

    def run_program(
        self,
        name: str,
        forward: Callable[[Any, jax.Array], Any],
        chunks: Iterable[np.ndarray],
        bound: Any = None,
    ) -> Iterator[Any]:
        """Yields what a function gives for every chunk, in order; see `run_chunks`.

        Args:
            name: the function is compiled once under it.
            forward: of `bound` and a batch of chunks.
            chunks: as `run_chunks` takes them.
            bound: its first argument; None is the model's variables.
        """
        if name not in self._programs:
            self._programs[name] = _compile(forward)
        # On a CPU rows go one by one anyway; a recording has few.
        size = 1 if jax.default_backend() == "cpu" else self.batch_size
        yield from self._run_batches(self._programs[name], chunks, bound, size)

    def _run_batches(
        self,
        program: Any,
        chunks: Iterable[np.ndarray],
        bound: Any = None,
        size: int | None = None,
    ) -> Iterator[Any]:
        """Yields the outputs of a program for every chunk, in order; see `run_chunks`."""
        bound, size = (self.variables if bound is None else bound), size or self.batch_size
        rest, pending = iter(chunks), deque()
        while True:
            batch = list(itertools.islice(rest, size))
            if batch:
                padded = batch + batch[-1:] * (size - len(batch))
                pending.append((program(bound, np.stack(padded)), len(batch)))
            if not pending:
                return
            if len(pending) > _PREFETCH_BATCHES or not batch:
                outputs, num_real = pending.popleft()
                arrays = jax.tree.map(lambda x: np.asarray(x, np.float32), jax.device_get(outputs))
                for row in range(num_real):
                    yield jax.tree.map(lambda x, row=row: x[row], arrays)

    def outputs(
        self, audio: np.ndarray, sample_rate: int, names: Sequence[str], *, pool: str | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns outputs of the model by name for the chunks of a recording, in one pass.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.
            names: of `model.output_names()`, such as "layer_3".
            pool: over the steps of a chunk: "mean", "max", "both", or None; see
                `musrep_jax.models.Encoder.outputs`.

        Returns:
            Start and end of the chunks in seconds, (chunks, 2); and name -> float32 (chunks, ...).

        Raises:
            AudioInputError: if the audio is empty, not mono, or not finite.
            InputKindError: if the model reads texts.
            OutputNameError: if the model has no output of that name.
        """
        waveform = prepare(audio, sample_rate, self.sample_rate)
        chunks, spans = cut(waveform, self.chunking, 0.0)
        return spans / self.sample_rate, self.chunk_outputs(chunks, names, pool=pool)

    def chunk_outputs(
        self, chunks: Iterable[np.ndarray], names: Sequence[str], *, pool: str | None = None
    ) -> dict[str, np.ndarray]:
        """Returns outputs of the model by name for chunks or texts; see `outputs`.

        Args:
            chunks: at least one, each as `run_chunks` takes it.
            names: of `model.output_names()`.
            pool: see `outputs`.
        """
        check_output_names(self.card["model"]["name"], names, self.model.output_names())
        key = (tuple(names), pool)
        if key not in self._programs:
            self._programs[key] = _compile(
                lambda variables, inputs: self.model.apply(
                    variables, inputs, key[0], pool=pool, method="outputs"
                )
            )
        rows = list(self._run_batches(self._programs[key], chunks))
        return {name: np.stack([row[name] for row in rows]) for name in names}

    @functools.cached_property
    def _programs(self) -> dict[Any, Any]:
        """Compiled programs, keyed by output names and pooling, or by a name."""
        return {}

    @functools.cached_property
    def width(self) -> int:
        """Length of an embedding."""
        shape = self.model.batch_shape(self.batch_size)
        return jax.eval_shape(self._forward, self.variables, shape)[1].shape[1]

    @property
    def batch_size(self) -> int:
        """Number of chunks per batch."""
        return BATCH_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_BATCH_SIZE

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that the outputs depend on: parameters, and the card without its
        text.

        The same model has the same fingerprint regardless of its location and export time, and of
        its license, name and description.
        """
        facts = {key: self.card.get(key) for key in _NUMERIC_CARD_FIELDS}
        digest = hashlib.sha256(fingerprint(facts).encode())
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(self.variables))
        for path, leaf in leaves:
            digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf))
        return digest.hexdigest()


def _compile(forward: Callable[[PyTree, jax.Array], Any]) -> Any:
    """Returns a compiled function of variables and a batch; on a CPU it takes rows one by one."""
    if jax.default_backend() != "cpu":
        return jax.jit(forward)

    def one_by_one(variables: PyTree, chunks: jax.Array) -> Any:
        def one(chunk: jax.Array) -> Any:
            return jax.tree.map(lambda x: x[0], forward(variables, chunk[None]))

        return jax.lax.map(one, chunks)

    # Products of whole batches may round the last rows differently.
    return jax.jit(one_by_one)
