"""Formats a tagger's results for output: tags of whole recordings and over time."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.inference.folders import FileResult
from musrep_jax.inference.tagger import LoadedTagger


@dataclasses.dataclass(frozen=True)
class TagPredictor:
    """Output format of the tags: probabilities, calibrated or raw.

    Attributes:
        tagger: the tagger that produced them.
        is_raw: whether calibration is skipped.
    """

    tagger: LoadedTagger
    is_raw: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.tagger.labels

    @functools.cached_property
    def thresholds(self) -> dict[str, float]:
        """Label -> probability above which it counts as present, for labels with a threshold."""
        given: Mapping[str, float] = self.tagger.card.get("thresholds") or {}
        scores = self._show([[given.get(label, 0.5) for label in self.labels]])[0].tolist()
        return {k: v for k, v in zip(self.labels, scores, strict=True) if k in given}

    def of(self, heard: FileResult, over_time: bool) -> tuple[list[list[float]], Any]:
        """Returns time spans in seconds, and the probabilities of each, (spans, labels)."""
        if not over_time:
            scores = self.tagger.join(heard.logits)[None]
            return [[0.0, heard.seconds]], self._show(scores)
        scores = probabilities(heard.logits, self.tagger.output)
        return heard.spans.tolist(), self._show(scores)

    def _show(self, scores: Any) -> Any:
        return np.asarray(scores) if self.is_raw else self.tagger.calibrate(scores)


def about(tags: TagPredictor) -> dict[str, Any]:
    """Returns the model and the output format, as JSON values.

    Args:
        tags: the output format of the tags.
    """
    card = tags.tagger.card
    return {
        "model": card["model"]["name"],
        "fingerprint": tags.tagger.fingerprint,
        "labels": list(tags.labels),
        "thresholds": tags.thresholds,
        "is_calibrated": bool(card.get("calibration")) and not tags.is_raw,
    }


def describe(tags: TagPredictor, path: str, heard: FileResult, over_time: bool) -> dict[str, Any]:
    """Returns the tags of a recording as JSON values.

    Args:
        tags: the output format of the tags.
        path: of the recording.
        heard: the tagger's result.
        over_time: whether to list every chunk, too.

    Returns:
        path, seconds, is_silent, tags, and perhaps chunks: start, end, is_silent, tags. Silence
            cannot be judged: its tags are empty.
    """

    def tell(row: Sequence[float], is_silent: bool) -> dict[str, Any]:
        named = {} if is_silent else dict(zip(tags.labels, row, strict=True))
        return {"is_silent": bool(is_silent), "tags": named}

    _, (whole,) = tags.of(heard, over_time=False)
    found = {"path": path, "seconds": heard.seconds, **tell(whole.tolist(), heard.is_silent)}
    if over_time:
        spans, scores = tags.of(heard, over_time)
        found["chunks"] = [
            {"start": start, "end": end, **tell(row, is_silent)}
            for (start, end), row, is_silent in zip(
                spans, scores.tolist(), heard.silent, strict=True
            )
        ]
    return found
