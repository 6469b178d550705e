"""Kinds of rules: what a value may be, as a test and in words."""

import dataclasses
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from musrep_jax.config import ConfigError, split_list, suggest_name

_MAX_SHOWN = 80
"""Characters of a value that a message repeats."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a field may hold.

    Attributes:
        words: what is allowed, to stand after "it must be".
        accepts: whether a value is.
        choices: the words that are allowed, where a misspelled one can be guessed.
    """

    words: str
    accepts: Callable[[Any], bool]
    choices: Sequence[str] = ()


def judge(field: str, value: Any, rule: Rule) -> None:
    """Raises unless a rule allows a value.

    Args:
        field: dotted name, for the message.
        value: of the field.
        rule: of the field.

    Raises:
        ConfigError: one sentence with the field, the value, what is allowed and the nearest word.
    """
    if rule.accepts(value):
        return
    guess = ""
    if rule.choices and isinstance(value, str):
        wrong = next((part for part in split_list(value) if part not in rule.choices), value)
        guess = suggest_name(wrong, rule.choices)
    shown = " ".join(repr(value).split())
    if len(shown) > _MAX_SHOWN:
        shown = f"{shown[:_MAX_SHOWN]}..."
    raise ConfigError(f"{field} is {shown}; it must be {rule.words}.{guess}")


def whole(low: int, high: int) -> Rule:
    """Returns the rule of whole numbers from `low` to `high`."""
    return Rule(f"a whole number from {low:,} to {high:,}", lambda x: is_whole(x, low, high))


def is_whole(value: Any, low: int, high: int) -> bool:
    """Returns whether a value is an int (and no bool) from `low` to `high`."""
    return type(value) is int and low <= value <= high


def real(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
    """Returns the rule of finite numbers between `low` and `high`.

    Args:
        low: the least.
        high: the greatest.
        above: whether `low` itself is not allowed.
        below: whether `high` itself is not allowed.
    """

    def accepts(value: Any) -> bool:
        # Not math.isfinite: it raises of a whole number that no float can hold.
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            return False
        return (low < value if above else low <= value) and (
            value < high if below else value <= high
        )

    start = f"above {low:g}" if above else f"from {low:g}"
    return Rule(f"a number {start} {'and below' if below else 'to'} {high:g}", accepts)


def flag() -> Rule:
    """Returns the rule of True and False."""
    return Rule("True or False", lambda value: isinstance(value, bool))


def choice(names: Collection[str]) -> Rule:
    """Returns the rule of a word among several."""
    return Rule(
        f"one of {', '.join(names)}", lambda x: isinstance(x, str) and x in names, tuple(names)
    )


def text() -> Rule:
    """Returns the rule of text that says something."""
    return Rule("text, and not empty", lambda x: isinstance(x, str) and bool(x.strip()))


def any_text() -> Rule:
    """Returns the rule of text that may be empty."""
    return Rule("text", lambda value: isinstance(value, str))


def names(allowed: Sequence[str]) -> Rule:
    """Returns the rule of one or several words among `allowed`, separated by commas."""
    return Rule(
        f"one or several of {', '.join(allowed)}, separated by commas",
        lambda x: _all_parts(x, allowed.__contains__),
        tuple(allowed),
    )


def numerals(low: int, high: int, *words: str) -> Rule:
    """Returns the rule of text with whole numbers, or some words, separated by commas."""

    def is_part(part: str) -> bool:
        if part in words:
            return True
        return part.isascii() and part.isdigit() and len(part) < 20 and low <= int(part) <= high

    other = "".join(f", or {word!r}" for word in words)
    return Rule(
        f"whole numbers from {low:,} to {high:,} separated by commas{other}",
        lambda value: _all_parts(value, is_part),
    )


def list_of_text() -> Rule:
    """Returns the rule of text with at least one part between its commas."""
    return Rule("names separated by commas", lambda value: _all_parts(value, bool))


def _all_parts(value: Any, accepts: Callable[[str], bool]) -> bool:
    if not isinstance(value, str):
        return False
    parts = split_list(value)
    return bool(parts) and all(accepts(part) for part in parts)


def sequence(item: Rule, length: int | None = None) -> Rule:
    """Returns the rule of a sequence whose items a rule allows.

    Args:
        item: the rule of each; its words are in the singular.
        length: number of items; None for one or more.
    """

    def accepts(value: Any) -> bool:
        if not isinstance(value, tuple | list):
            return False
        fits = len(value) == length if length else len(value) > 0
        return fits and all(item.accepts(part) for part in value)

    return Rule(f"{length or 'one or more'} in parentheses, each {item.words}", accepts)


def optional(rule: Rule) -> Rule:
    """Returns a rule that also allows None, the default of the code that reads the field."""
    return Rule(rule.words, lambda value: value is None or rule.accepts(value), rule.choices)
