"""Published weights become an exported model, which is opened and tried on a test tone."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musrep_jax.exports.cards import make_usage_lines
from musrep_jax.inference.tagger import LoadedTagger, load_tagger
from musrep_jax.weights.checks import ImportWeightsError
from musrep_jax.weights.conversion import convert_weights

TONE_HZ = 440.0


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """The result of an import.

    Attributes:
        path: of the export.
        card: what the export says about itself.
        num_params: trainable parameters, without the output layer if there is none.
        inferred: settings that were read off the weights.
        left_out: keys of the file that the model has no use for, without counters and front-end
            constants.
        notes: sentences that a user of the model should know.
        tone: probabilities of a test tone, label -> probability, highest first; empty for a
            backbone.
        embedding_width: of the model.
    """

    path: Path
    card: Mapping[str, Any]
    num_params: int
    inferred: Mapping[str, Any]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    tone: Mapping[str, float]
    embedding_width: int

    @property
    def python_lines(self) -> tuple[str, str, str]:
        """Three lines of Python that load and use the model."""
        return make_usage_lines(self.card, str(self.path))

    @property
    def transfer_line(self) -> str:
        """The command that trains from here, without the target."""
        words = ["python", "main.py", "--config=configs/transfer.py:pretrained"]
        return shlex.join([*words, f"--config.source=export:{self.path}"])

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return {
            "export": str(self.path),
            "model": self.card["model"]["name"],
            "settings": dict(self.card["model"]["settings"]),
            "inferred": dict(self.inferred),
            "num_params": self.num_params,
            "labels": list(self.card["labels"]),
            "front_end": self.card["front_end"],
            "sample_rate": self.card["sample_rate"],
            "num_samples": self.card["num_samples"],
            "embedding_width": self.embedding_width,
            "data": dict(self.card["data"]),
            "training": dict(self.card["training"]),
            "left_out": list(self.left_out),
            "notes": list(self.notes),
            "test_tone": dict(self.tone),
            "python": list(self.python_lines),
        }


def import_weights(
    weights: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    name: str,
    licence: str,
    labels: Sequence[str] | None = None,
    citation: str = "",
    settings: Mapping[str, Any] | None = None,
    spatial: str = "frequency_time",
    aggregate: str = "probability",
    output: str = "sigmoid",
    input_statistics: tuple[float, float] | None = None,
) -> ImportedModel:
    """Turns a checkpoint into an exported model, opens it and tags a test tone.

    Without labels the output layer is left out: the export is a backbone, which embeds recordings
    and starts trainings (`--config.source=export:DIR`), and refuses to tag.

    Args:
        weights: file of the weights, see `read_state_dict`, or a directory as the Hub has them,
            see `read_hub_directory`.
        out: directory of the export; an export that is there is replaced, nothing else is.
        model: a key of `MODELS` or `ALIASES`; None where a directory says it.
        name: of the data that the weights were trained on.
        licence: of the weights.
        labels: names of the output units in order, or None for a backbone.
        citation: of the weights.
        settings: of the model; what is left out is read off the weights or is the default.
        spatial: axes of the checkpoint's 2-D kernels, "frequency_time" or "time_frequency" (the
            VGG-ish model of the cross-cultural code).
        aggregate: how a track's chunks are joined, "probability" or "logit".
        output: "sigmoid" for labels that are there or not, "softmax" for exclusive classes.
        input_statistics: mean and standard deviation of the training data in dB, for a model that
            normalizes its input by them.

    Returns:
        What was written.

    Raises:
        ImportWeightsError: if the number of labels is not that of the output units, the weights
            hold no output layer, values that are not finite, or another front end.
        WeightsError: if keys are unknown, missing or wrongly shaped; all of them are named.
        WeightFileError: if the file cannot be read.
        ExportError: if `out` is something else, or the disk is full.
        ConfigError: if a word is none of those allowed, or name or license are empty.
    """
    converted = convert_weights(
        weights,
        out,
        model=model,
        name=name,
        licence=licence,
        labels=labels,
        citation=citation,
        settings=settings,
        spatial=spatial,
        aggregate=aggregate,
        output=output,
        input_statistics=input_statistics,
    )
    opened = load_tagger(converted.path)
    tone, embedding_width = tag_test_tone(opened)
    return ImportedModel(
        path=converted.path,
        card=opened.card,
        num_params=sum(int(np.size(leaf)) for leaf in jax.tree.leaves(opened.variables["params"])),
        inferred=converted.inferred,
        left_out=converted.left_out,
        notes=converted.notes,
        tone=tone,
        embedding_width=embedding_width,
    )


def tag_test_tone(tagger: LoadedTagger) -> tuple[dict[str, float], int]:
    """Returns what a model says about one second of a tone, to show that it works.

    Args:
        tagger: as opened.

    Returns:
        Label -> probability, highest first (empty for a backbone), and the embedding's width.

    Raises:
        ImportWeightsError: if the answer is not finite.
    """
    time = np.arange(tagger.sample_rate) / tagger.sample_rate
    tone = (0.5 * np.sin(2 * np.pi * TONE_HZ * time)).astype(np.float32)
    if tagger.has_head:
        scores = tagger.predict(tone, tagger.sample_rate)
        answer = list(scores.values())
    else:
        scores, answer = {}, tagger.embed(tone, tagger.sample_rate)
    if not np.isfinite(answer).all():
        raise ImportWeightsError(
            "The model gives values that are not finite for a test tone, so it is of no use: check "
            "that model and settings are those the weights were made with."
        )
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return dict(ranked), tagger.width
