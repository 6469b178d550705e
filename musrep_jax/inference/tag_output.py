"""Formats a tagger's results for output: tags of whole recordings and over time."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.evaluation.decisions import choose_tags
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

    @functools.cached_property
    def label_groups(self) -> dict[str, list[str]]:
        """Group -> labels of which a recording has one at most."""
        given: Mapping[str, Sequence[str]] = self.tagger.card.get("label_groups") or {}
        return {group: list(members) for group, members in given.items()}

    def choose(self, scores: Any) -> np.ndarray:
        """Returns the labels that are tags: above their threshold, one of a group at most.

        Args:
            scores: (spans, labels), from `of`.

        Returns:
            bool (spans, labels); a label without threshold is none.
        """
        cuts = [self.thresholds.get(label, np.inf) for label in self.labels]
        columns = {label: column for column, label in enumerate(self.labels)}
        groups = [[columns[label] for label in group] for group in self.label_groups.values()]
        return choose_tags(scores, cuts, groups)

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
        "label_groups": tags.label_groups,
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
        path, seconds, is_silent, tags (label to probability), chosen (the labels that are tags,
            see `TagPredictor.choose`), and perhaps chunks: start, end, is_silent, tags, chosen.
            Silence cannot be judged: its tags are empty.
    """

    def tell(row: Sequence[float], is_silent: bool) -> dict[str, Any]:
        if is_silent:
            return {"is_silent": True, "tags": {}, "chosen": []}
        named = dict(zip(tags.labels, row, strict=True))
        (is_tag,) = tags.choose([row])
        chosen = [label for label, is_one in zip(tags.labels, is_tag, strict=True) if is_one]
        return {"is_silent": False, "tags": named, "chosen": chosen}

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
