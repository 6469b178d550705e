"""Opens exported taggers, and tags and embeds recordings with them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musrep_jax.evaluation.aggregation import aggregate_tracks, probabilities
from musrep_jax.evaluation.calibration import calibrate
from musrep_jax.inference.card import make_card as make_card
from musrep_jax.inference.chunks import AudioInputError, check_not_silent, cut
from musrep_jax.inference.encoder import BackboneError as BackboneError
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.explanation import (
    Explanation,
    ExplanationError,
    check_reader,
    explain_attention,
    explain_contributions,
)
from musrep_jax.inference.input_maps import explain_by_gradients, explain_by_occlusion
from musrep_jax.inference.opening import check_card, check_variables
from musrep_jax.inference.reading import read_model
from musrep_jax.models import Tagger
from musrep_jax.types import Chunking, PyTree


def load_tagger(path: str | Path) -> "LoadedTagger":
    """Returns the tagger of an exported directory, of the Hugging Face Hub, or a pretrained one.

    Args:
        path: a directory that a training run, `musrep import-weights` or `musrep export --format
            safetensors` wrote; "hub:OWNER/NAME", "hub:OWNER/NAME@REVISION" (needs the extra `hub`);
            or the name of a pretrained model, such as "musicnn-msd", which is fetched once (see
            `musrep models --pretrained`).

    Returns:
        The tagger, ready to use; a backbone, without output layer, embeds only.

    Raises:
        ExportError: if the directory is missing, damaged, or does not agree with itself.
        BackboneError: if the model is an encoder, which `load_encoder` opens.
    """
    variables, card = read_model(path)
    return build_tagger(variables, card, path)


def load_encoder(path: str | Path) -> LoadedEncoder:
    """Returns the model of an exported directory, or of the Hub, whether it has labels or not.

    Args:
        path: as `load_tagger` takes it.

    Returns:
        The model, ready to embed; a `LoadedTagger` if it is one.

    Raises:
        ExportError: if the directory is missing, damaged, or does not agree with itself.
    """
    variables, card = read_model(path)
    return build_encoder(variables, card, path)


def build_encoder(variables: PyTree, card: Mapping[str, Any], path: str | Path) -> LoadedEncoder:
    """Returns the model of variables and a card that have been read.

    Args:
        variables: nested dict of arrays: `params` and other collections.
        card: as `make_card` makes it.
        path: where they come from, for messages.

    Raises:
        ExportError: if they are inconsistent, or incompatible with this version.
    """
    model = check_card(card, path)
    check_variables(model, variables, path, bool(card["labels"]))
    if not isinstance(model, Tagger):
        return LoadedEncoder(model=model, variables=variables, card=card)
    return LoadedTagger(model=model, variables=variables, card=card)


def build_tagger(variables: PyTree, card: Mapping[str, Any], path: str | Path) -> "LoadedTagger":
    """Returns the tagger of variables and a card that have been read; see `build_encoder`.

    Raises:
        ExportError: if they do not agree with each other, or with this version.
        BackboneError: if the model is an encoder, which `load_encoder` opens.
    """
    loaded = build_encoder(variables, card, path)
    if not isinstance(loaded, LoadedTagger):
        raise BackboneError(
            f"{path} holds the encoder {card['model']['name']!r}, which has no labels: open it "
            "with musrep_jax.load_encoder, which embeds."
        )
    return loaded


@dataclasses.dataclass(frozen=True, repr=False)
class LoadedTagger(LoadedEncoder):
    """A tagger with its parameters and labels.

    Attributes:
        model: the Flax module.
        variables: its parameters and statistics.
        card: what the export says about itself.
    """

    model: Tagger

    @property
    def output(self) -> str:
        """What turns logits into probabilities, "sigmoid" or "softmax"."""
        return self.card.get("output", "sigmoid")

    def calibrate(self, scores: np.ndarray) -> np.ndarray:
        """Returns probabilities corrected by the calibration fitted on validation data.

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
        last ends with the recording (or, as the model's `chunking` says, before it), and the
        chunks' probabilities (or logits, as the card says) are averaged. A recording shorter than a
        chunk is padded with silence. The probabilities of a model of exclusive classes, `output`
        "softmax", sum to 1. Silence has no tags: whatever a network gives for it says nothing about
        music.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Returns:
            Label -> probability, in the order of the output units.

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            BackboneError: if the model has no output layer.
        """
        self.check_head()
        _, silent, logits, _ = self._run(audio, sample_rate)
        check_not_silent(silent)
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
            classes), NaN where a chunk is silent. Padding is not part of the times.

        Raises:
            AudioInputError: if the audio is empty, not mono, or not finite.
            BackboneError: if the model has no output layer.
        """
        self.check_head()
        times, silent, logits, _ = self._run(audio, sample_rate)
        scores = probabilities(logits, self.output)
        return times, np.where(silent[:, None], np.nan, scores)

    def predict_log_mel(
        self, log_mel: np.ndarray, front_end: Mapping[str, Any]
    ) -> dict[str, float]:
        """Returns the probabilities of a spectrogram that was computed elsewhere.

        Args:
            log_mel: (frames, mels), in dB.
            front_end: how it was computed, as in `card["front_end"]`.

        Raises:
            AudioInputError: if it was not computed with this model's own front end, or is silent
                throughout.
            BackboneError: if the model has no output layer.
        """
        self.check_head()
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
        settings = self.model.log_mel
        check_not_silent(values.max(axis=1) <= settings.silence)
        length, keeps_rest = settings.num_frames(self.num_samples), self.chunking.keeps_rest
        chunks, _ = cut(values, Chunking(length, keeps_rest=keeps_rest), settings.silence)
        logits, _ = self._apply(chunks)
        return self._join(logits)

    def attention(self, audio: np.ndarray, sample_rate: int) -> Explanation:
        """Returns whom the class token attends to over time, per head and summed.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            ExplanationError: if the model has no attention.
        """
        return explain_attention(self, audio, sample_rate)

    def contributions(
        self, audio: np.ndarray, sample_rate: int, tags: Sequence[str]
    ) -> Explanation:
        """Returns the probability of each tag from each moment alone, of a model with attention.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.
            tags: of `labels`.

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            BackboneError: if the model has no output layer.
            ExplanationError: if the model has no attention, or no such label.
        """
        self.check_head()
        return explain_contributions(self, audio, sample_rate, tags, self.output)

    def occlusion(
        self, audio: np.ndarray, sample_rate: int, tags: Sequence[str], seconds: float = 0.5
    ) -> Explanation:
        """Returns what each tag's logit loses when a part of the recording is silenced.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.
            tags: of `labels`.
            seconds: length of what is silenced at once.

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            BackboneError: if the model has no output layer.
            ExplanationError: if the model has no such label.
        """
        self.check_head()
        return explain_by_occlusion(self, audio, sample_rate, tags, seconds)

    def gradients(self, audio: np.ndarray, sample_rate: int, tags: Sequence[str]) -> Explanation:
        """Returns integrated gradients: each tag's logit, shared out over time and frequency.

        Args:
            audio: (samples,), mono, float in [-1, 1].
            sample_rate: of the audio, in Hz.
            tags: of `labels`.

        Raises:
            AudioInputError: if the audio is empty, not mono, not finite, or silent throughout.
            BackboneError: if the model has no output layer.
            ExplanationError: if the model has no such label.
        """
        self.check_head()
        return explain_by_gradients(self, audio, sample_rate, tags)

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

    def check_head(self) -> None:
        """Raises `BackboneError` if the model has no output layer."""
        if not self.has_head:
            raise BackboneError(
                "This model is a backbone without output layer: it embeds recordings and does not "
                "tag them. Train an output layer with --config.source=export:DIRECTORY."
            )


def choose_methods(tagger: LoadedTagger) -> list[str]:
    """Returns the maps that show most of a tagger in seconds.

    Args:
        tagger: to be explained.
    """
    try:
        check_reader(tagger)
    except ExplanationError:
        return ["occlusion"]
    return ["attention", "contribution"]


def make_map(
    tagger: LoadedTagger, audio: np.ndarray, method: str, tags: Sequence[str], seconds: float = 0.5
) -> Explanation:
    """Returns a map of a recording by the name of its method.

    Args:
        tagger: to be explained.
        audio: (samples,), mono, float in [-1, 1], at the tagger's sample rate.
        method: of `musrep_jax.inference.explanation.METHODS`.
        tags: of the labels; attention is of no tag.
        seconds: length of what occlusion silences at once.

    Raises:
        AudioInputError, ExplanationError: see the methods of `LoadedTagger`.
    """
    rate = tagger.sample_rate
    if method == "attention":
        return tagger.attention(audio, rate)
    if method == "contribution":
        return tagger.contributions(audio, rate, tags)
    if method == "occlusion":
        return tagger.occlusion(audio, rate, tags, seconds)
    return tagger.gradients(audio, rate, tags)
