"""A trained tagger in use: open an exported directory, tag and embed recordings."""

import dataclasses
import functools
import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.config import fingerprint
from musrep_jax.evaluation.aggregation import OUTPUTS, aggregate_tracks, probabilities
from musrep_jax.evaluation.calibration import calibrate
from musrep_jax.inference.card import CARD_FORMAT
from musrep_jax.inference.card import make_card as make_card
from musrep_jax.inference.chunks import AudioInputError, cut, prepare
from musrep_jax.inference.reading import read_model
from musrep_jax.models import Tagger, create_model, model_settings
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.types import PyTree

BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 8, 64
_PREFETCH_BATCHES = 2
"""That are on their way through the device while the next one is put together."""
_NUMERIC_CARD_FIELDS = ("model", "front_end", "sample_rate", "num_samples", "labels", "aggregate",
                    "output")  # fmt: skip


class BackboneError(ValueError):
    """Tags were asked of a model that has no output layer."""


def load_tagger(path: str | Path) -> "LoadedTagger":
    """Returns the tagger of an exported directory, or of the Hugging Face Hub.

    Args:
        path: a directory that a training run, `musrep import-weights` or `musrep export --format
            safetensors` wrote; or "hub:OWNER/NAME", "hub:OWNER/NAME@REVISION" (needs the extra
            `hub`).

    Returns:
        The tagger, ready to use.

    Raises:
        ExportError: if the directory is missing, damaged, or does not agree with itself.
    """
    variables, card = read_model(path)
    return build_tagger(variables, card, path)


def build_tagger(variables: PyTree, card: Mapping[str, Any], path: str | Path) -> "LoadedTagger":
    """Returns the tagger of variables and a card that have been read.

    Args:
        variables: nested dict of arrays: `params` and other collections.
        card: as `make_card` makes it.
        path: where they come from, for messages.

    Raises:
        ExportError: if they do not agree with each other, or with this version.
    """
    if card.get("card_format") != CARD_FORMAT:
        raise ExportError(
            f"{path} has card format {card.get('card_format')!r}; this version of musrep_jax reads "
            f"{CARD_FORMAT}: open it with the version that wrote it."
        )
    if card.get("output", "sigmoid") not in OUTPUTS:
        raise ExportError(
            f"{path} has the output {card['output']!r}, which this version does not know; it knows "
            f"{' and '.join(OUTPUTS)}: open it with the version that wrote it."
        )
    name = card["model"]["name"]
    settings = {key: to_tuples(value) for key, value in card["model"]["settings"].items()}
    known = model_settings(name)
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ExportError(
            f"{path} was made by a version whose model {name!r} has the settings "
            f"{', '.join(unknown)}, which this version does not know."
        )
    model = create_model(name, len(card["labels"]), settings)
    front_end = None if model.front_end is None else dict(model.front_end)
    found = fingerprint({"front_end": front_end, "sample_rate": model.sample_rate})
    if found != card["front_end_id"] or front_end != card["front_end"]:
        raise ExportError(
            f"The front end written in {path} is not the one its model settings give (the card "
            "was edited, or another version computes it differently): export the model again."
        )
    return LoadedTagger(model=model, variables=variables, card=card)


@dataclasses.dataclass(frozen=True)
class LoadedTagger:
    """A tagger with its parameters and labels.

    Attributes:
        model: the Flax module.
        variables: its parameters and statistics.
        card: what the export says about itself.
    """

    model: Tagger
    variables: PyTree
    card: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in the order of the output units."""
        return tuple(self.card["labels"])

    @property
    def has_head(self) -> bool:
        """Whether there is an output layer: a backbone embeds recordings and does not tag them."""
        return bool(self.card["labels"])

    @property
    def output(self) -> str:
        """What turns logits into probabilities, "sigmoid" or "softmax"."""
        return self.card.get("output", "sigmoid")

    @property
    def sample_rate(self) -> int:
        """The rate that recordings are resampled to, in Hz."""
        return self.model.sample_rate

    def calibrate(self, scores: np.ndarray) -> np.ndarray:
        """Returns probabilities as the calibration of validation data corrects them.

        Args:
            scores: (..., classes), probabilities as the other methods give them.

        Returns:
            float64 of the same shape; the same numbers if the export has no calibration.
        """
        calibration = self.card.get("calibration")
        if not calibration:
            return np.asarray(scores, np.float64)
        return calibrate(scores, [calibration[label] for label in self.labels])

    def predict(self, audio: np.ndarray, sample_rate: int) -> dict[str, float]:
        """Returns the probability of every label for a whole recording.

        The recording is resampled to the model's rate, cut into consecutive chunks of which the
        last ends with the recording, and the chunks' probabilities (or logits, as the card says)
        are averaged. A recording shorter than a chunk is padded with silence. The probabilities of
        a model of exclusive classes, `output` "softmax", sum to 1.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            Label -> probability, in the order of the output units.

        Raises:
            AudioInputError: if the audio is empty, not mono, or not finite.
            BackboneError: if the model has no output layer.
        """
        self._check_head()
        _, logits, _ = self._run(audio, sample_rate)
        return self._join(logits)

    def predict_over_time(
        self, audio: np.ndarray, sample_rate: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the probabilities of every chunk of a recording.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            Start and end of the chunks in seconds, (chunks, 2), and probabilities, (chunks,
            classes). Padding is not part of the times.

        Raises:
            AudioInputError: if the audio is empty, not mono, or not finite.
            BackboneError: if the model has no output layer.
        """
        self._check_head()
        times, logits, _ = self._run(audio, sample_rate)
        return times, probabilities(logits, self.output)

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Returns the embedding of a whole recording: the mean over its chunks.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            float32 (width,).
        """
        return self.embed_over_time(audio, sample_rate)[1].mean(axis=0)

    def embed_over_time(self, audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the embeddings of the chunks of a recording.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            Start and end of the chunks in seconds, (chunks, 2), and float32 (chunks, width).
        """
        times, _, embeddings = self._run(audio, sample_rate)
        return times, embeddings

    def predict_log_mel(
        self, log_mel: np.ndarray, front_end: Mapping[str, Any]
    ) -> dict[str, float]:
        """Returns the probabilities of a spectrogram that was computed elsewhere.

        Args:
            log_mel: (frames, mels), in dB.
            front_end: how it was computed, as in `card["front_end"]`.

        Raises:
            AudioInputError: if it was not computed with this model's own front end.
            BackboneError: if the model has no output layer.
        """
        self._check_head()
        own = self.card["front_end"]
        if own is None:
            raise AudioInputError("This model reads waveforms and takes no spectrogram.")
        wrong = [k for k in sorted({*own, *front_end}) if own.get(k) != front_end.get(k)]
        if wrong:
            listed = ", ".join(f"{k} {front_end.get(k)} instead of {own.get(k)}" for k in wrong)
            raise AudioInputError(
                f"The spectrogram was computed with another front end than the model's: {listed}."
            )
        values = np.asarray(log_mel, np.float32)
        if values.ndim != 2 or values.shape[1] != own["n_mels"] or not np.isfinite(values).all():
            raise AudioInputError(
                f"The spectrogram has shape {values.shape}; expected finite values of shape "
                f"(frames, {own['n_mels']})."
            )
        length = 1 + self.model.num_samples // own["hop_length"]
        chunks, _ = cut(values, length, -100.0)
        logits, _ = self._apply(chunks)
        return self._join(logits)

    def join(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probabilities of a recording from the logits of its chunks.

        Args:
            logits: (chunks, classes).

        Returns:
            float64 (classes,), in [0, 1].
        """
        owner = np.zeros(len(logits), int)
        return aggregate_tracks(logits, owner, None, 1, self.card["aggregate"], self.output)[0]

    def _join(self, logits: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, self.join(logits).tolist(), strict=True))

    def _check_head(self) -> None:
        if not self.has_head:
            raise BackboneError(
                "This model is a backbone without output layer: it embeds recordings and does not "
                "tag them. Train an output layer with --config.source=export:DIRECTORY."
            )

    def _run(
        self, audio: np.ndarray, sample_rate: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        waveform = prepare(audio, sample_rate, self.sample_rate)
        chunks, spans = cut(waveform, self.model.num_samples, 0.0)
        logits, embeddings = self._apply(chunks)
        return spans / self.sample_rate, logits, embeddings

    def forward(self, variables: PyTree, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits and embeddings of chunks: the function that is compiled.

        Args:
            variables: of the model.
            inputs: float32 (batch, samples) or (batch, frames, mels).

        Returns:
            (batch, classes), where a backbone has no classes, and (batch, width).
        """
        if not self.has_head:
            embedding = self.model.apply(variables, inputs, method=_embed)
            return jnp.zeros((inputs.shape[0], 0)), embedding
        output = self.model.apply(variables, inputs, train=False)
        return output.logits, output.embedding

    @functools.cached_property
    def _forward(self) -> Any:
        if jax.default_backend() != "cpu":
            return jax.jit(self.forward)

        def one_by_one(variables: PyTree, chunks: jax.Array) -> tuple[jax.Array, jax.Array]:
            def one(chunk: jax.Array) -> tuple[jax.Array, jax.Array]:
                logits, embedding = self.forward(variables, chunk[None])
                return logits[0], embedding[0]

            return jax.lax.map(one, chunks)

        # In products of whole batches the last rows may be rounded in another way.
        return jax.jit(one_by_one)

    def _apply(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits and embeddings of the chunks of a recording."""
        logits, embeddings = zip(*self.run_chunks(chunks), strict=True)
        return np.stack(logits), np.stack(embeddings)

    def run_chunks(self, chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields logits and embedding of every chunk, in order, some batches after it was taken.

        Every batch has one size, so one program is compiled. On a CPU the numbers of a chunk are
        the same, bit for bit, whatever else is in its batch and wherever in it the chunk stands:
        that costs up to half as much again for compact models, and little for published sizes.

        Args:
            chunks: (samples,) or (frames, mels), all of one shape; of any number of recordings.

        Returns:
            An iterator of float32 (classes,) and (width,).
        """
        rest, pending = iter(chunks), deque()
        while True:
            batch = list(itertools.islice(rest, self.batch_size))
            if batch:
                padded = batch + batch[-1:] * (self.batch_size - len(batch))
                pending.append((self._forward(self.variables, np.stack(padded)), len(batch)))
            if not pending:
                return
            if len(pending) > _PREFETCH_BATCHES or not batch:
                outputs, num_real = pending.popleft()
                logits, embeddings = (np.asarray(x, np.float32) for x in jax.device_get(outputs))
                yield from zip(logits[:num_real], embeddings[:num_real], strict=True)

    @functools.cached_property
    def width(self) -> int:
        """Length of an embedding."""
        shape = jax.ShapeDtypeStruct((self.batch_size, self.model.num_samples), jnp.float32)
        return jax.eval_shape(self._forward, self.variables, shape)[1].shape[1]

    @property
    def batch_size(self) -> int:
        """Chunks that are computed at once."""
        return BATCH_SIZE if jax.default_backend() == "cpu" else ACCELERATOR_BATCH_SIZE

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of all that its numbers depend on: parameters, and the card without the prose.

        The same model has the same fingerprint wherever it lies and whenever it was exported, also
        under another licence, name or description.
        """
        facts = {key: self.card.get(key) for key in _NUMERIC_CARD_FIELDS}
        digest = hashlib.sha256(fingerprint(facts).encode())
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(self.variables))
        for path, leaf in leaves:
            digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf))
        return digest.hexdigest()


def to_tuples(value: Any) -> Any:
    """Returns JSON's lists as the tuples that a model's fields are, nested ones included.

    Example:
        >>> to_tuples([[4, 2], [4, 2]])
        ((4, 2), (4, 2))
    """
    return tuple(to_tuples(v) for v in value) if isinstance(value, list) else value


def _embed(model: Tagger, inputs: jax.Array) -> jax.Array:
    """Returns the embedding without asking for the output layer's parameters."""
    return model.embed(model.features(inputs, train=False), train=False)[0]
