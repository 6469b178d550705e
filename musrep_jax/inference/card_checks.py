"""Validates a card that was read from a file: required fields, their types and ranges.

Anyone may have edited a card. A card that passes can be used without a crash; one that does not is
reported in one sentence with the file and the field.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from musrep_jax.config import ConfigError, suggest_name
from musrep_jax.evaluation.aggregation import AGGREGATIONS, OUTPUTS
from musrep_jax.models import ALIASES, MODELS, model_settings
from musrep_jax.rules.kinds import Rule, is_whole, judge, optional, real, whole
from musrep_jax.rules.model_settings import MODEL_FIELDS
from musrep_jax.training.checkpoints import ExportError

_FINITE = real(-math.inf, math.inf)
_OBJECT = Rule("an object", lambda value: isinstance(value, Mapping))
_ANYTHING = Rule("anything", lambda value: True)
_TEXT = Rule("text", lambda value: isinstance(value, str))
_TEXTS = Rule(
    "a list of texts",
    lambda x: isinstance(x, list) and all(isinstance(text, str) for text in x),
)
_OBJECT_OR_NONE = Rule("an object or null", lambda x: x is None or isinstance(x, Mapping))


def _one_of(words: Sequence[str]) -> Rule:
    return Rule(f"one of {', '.join(words)}", lambda x: isinstance(x, str) and x in words)


def _are_labels(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(x, str) and x.strip() for x in value):
        return False
    return len(set(value)) == len(value) and all(_is_encodable(x) for x in value)


def _is_encodable(text: str) -> bool:
    return not re.search("[\ud800-\udfff\0]", text)


def _is_probability(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2
        and all(map(_FINITE.accepts, value))
    )  # fmt: skip


REQUIRED: dict[str, Rule] = {
    "model": _OBJECT,
    "model.name": Rule(
        "a model of this version, see `musrep models`",
        lambda name: isinstance(name, str) and name in {*MODELS, *ALIASES},
    ),
    "model.settings": _OBJECT,
    "front_end": _OBJECT_OR_NONE,
    "front_end_id": _TEXT,
    "sample_rate": optional(whole(1_000, 384_000)),
    "num_samples": optional(whole(1, 10**8)),
    "labels": Rule("a list of different texts, none empty", _are_labels),
    "aggregate": _one_of(AGGREGATIONS),
    "data": _OBJECT,
    "data.name": _TEXT,
    "data.licence": _TEXT,
    "training": _OBJECT,
    "metrics": _OBJECT,
    "versions": _OBJECT,
}
"""Dotted field -> its rule; sections stand before what is in them."""

OPTIONAL: dict[str, Rule] = {
    "output": _one_of(OUTPUTS),
    "thresholds": _OBJECT_OR_NONE,
    "calibration": _OBJECT_OR_NONE,
    "label_groups": Rule(
        "an object of lists of labels, or null",
        lambda x: x is None or (isinstance(x, Mapping) and all(map(_are_labels, x.values()))),
    ),
    "data.citation": _TEXT,
    "data.description": _TEXT,
    "data.is_synthetic": Rule("true or false", lambda value: isinstance(value, bool)),
    "data.split_sizes": Rule(
        "an object of whole numbers",
        lambda x: isinstance(x, Mapping) and all(is_whole(n, 0, 10**12) for n in x.values()),
    ),
    "data.fingerprint": _TEXT,
    "versions.packages": _OBJECT,
    "metrics.test": _OBJECT,
    "metrics.validation": _OBJECT,
    "training.notes": _TEXTS,
    "published": _OBJECT,
    "published.scores": Rule(
        "an object of numbers",
        lambda x: isinstance(x, Mapping) and all(_is_probability(score) for score in x.values()),
    ),
    "published.scores_source": _TEXT,
    "published.allows_commercial_use": Rule("true or false", lambda x: isinstance(x, bool)),
    "published.notes": _TEXTS,
}
"""The same for fields that older exports lack."""

_PER_LABEL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "thresholds": (_is_probability, real(0, 1).words),
    "calibration": (_is_pair, "a pair of finite numbers, slope and offset"),
}


def check_fields(card: Mapping[str, Any], file: object) -> None:
    """Raises unless a card holds what a model needs, in types and ranges that can be used.

    Args:
        card: as it was read; its `card_format` is known to be this version's.
        file: its path, for messages.

    Raises:
        ExportError: one sentence with the file and the field.
    """
    try:
        for field, rule in REQUIRED.items():
            judge(field, _find(card, field, is_required=True), rule)
        for field, rule in OPTIONAL.items():
            if (value := _find(card, field, is_required=False)) is not None:
                judge(field, value, rule)
        _check_settings(card["model"]["name"], card["model"]["settings"])
        _check_per_label(card)
    except ConfigError as error:
        raise ExportError(f"The card of {file} cannot be used: {error}") from error


def _find(card: Mapping[str, Any], field: str, *, is_required: bool) -> Any:
    section, _, key = field.rpartition(".")
    where = card.get(section, {}) if section else card
    if key not in where:
        if is_required:
            raise ConfigError(f"{field} is missing.")
        return None
    return where[key]


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    known = model_settings(name)
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"model.settings.{key} is no setting of {name!r} in this version."
                f"{suggest_name(key, list(known))}"
            )
        if value is not None or known[key] is not None:
            judge(f"model.settings.{key}", value, MODEL_FIELDS.get(key, _ANYTHING))


def _check_per_label(card: Mapping[str, Any]) -> None:
    labels = card["labels"]
    for field, (is_allowed, words) in _PER_LABEL.items():
        entries = card.get(field) or {}
        for label, value in entries.items():
            if label not in labels:
                raise ConfigError(f"{field} has {label!r}, which is no label.")
            if not is_allowed(value):
                raise ConfigError(f"{field} of {label!r} is {value!r}; it must be {words}.")
    grouped: set[str] = set()
    for group, members in (card.get("label_groups") or {}).items():
        for label in members:
            if label not in labels:
                raise ConfigError(f"label_groups.{group} has {label!r}, which is no label.")
            if label in grouped:
                raise ConfigError(f"label_groups has {label!r} in two groups; one is allowed.")
        grouped.update(members)
    if card.get("calibration") and (lacking := [x for x in labels if x not in card["calibration"]]):
        raise ConfigError(f"calibration has no entry for the label {lacking[0]!r}.")
