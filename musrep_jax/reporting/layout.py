"""Layout of tables: Markdown for files, aligned text that fits a terminal."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.runtime.terminal import measure_display_width

STYLES = ("markdown", "text")
EMPTY_CELL = "-"
_WHOLE_WORDS = re.compile(r"( ?)(\[[^\]]*\](?: \*+)?|\([^)]*\)|[^ ]+)")
_WHOLE_BRACKETS = re.compile(r"( ?)(\[[^\]]*\](?: \*+)?|\([^)]*\)|[^ _]*_+|[^ _]+)")
_WORDS = re.compile(r"( ?)(\[[^\],]*\]|[^ _]*_+|[^ _]+)")
"""Separators and parts of a text, between which it may be broken."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: of the header row.
        is_number: aligned to the right.
        is_optional: left out of a text that would be wider than asked for.
    """

    title: str
    is_number: bool = False
    is_optional: bool = False


def format_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    style: str = "markdown",
    width: int | None = None,
) -> str:
    """Returns a table whose columns line up also in the source.

    Args:
        columns: from left to right.
        rows: one text per column.
        style: `markdown` or `text`.
        width: of a text, in terminal columns: wider cells are broken at spaces. As long as that is
            not enough, empty columns and then optional ones are left out from the right, then words
            are broken after underscores, and at last brackets. None for a table as wide as it is.

    Returns:
        Lines without a final line break; the last one names the columns that were left out.

    Raises:
        EvaluationError: when the style is not known.
    """
    if style not in STYLES:
        raise EvaluationError(f"table style {style!r} is not known; choose {' or '.join(STYLES)}.")
    is_markdown = style == "markdown"
    clean: Callable[[str], str] = _escape if is_markdown else _one_line
    grid = [[clean(text) for text in row] for row in [[c.title for c in columns], *rows]]
    shown = list(range(len(columns)))
    left_out: list[str] = []
    widths = [max(3, *(measure_display_width(row[i]) for row in grid)) for i in shown]
    parts = _WHOLE_WORDS
    if not is_markdown and width is not None:
        least = _measure_parts(grid, parts)
        empty = [i for i in shown if rows and all(row[i] == EMPTY_CELL for row in grid[1:])]
        optional = [i for i in shown if columns[i].is_optional and i not in empty]
        leaving = [*optional, *empty]
        while leaving and _total([least[i] for i in shown]) > width:
            shown.remove(leaving.pop())
        left_out = [column.title for i, column in enumerate(columns) if i not in shown]
        for finer in (_WHOLE_BRACKETS, _WORDS):
            if _total([least[i] for i in shown]) > width:
                parts, least = finer, _measure_parts(grid, finer)
        widths = _shrink([widths[i] for i in shown], [least[i] for i in shown], width)
    lines = []
    for row in grid:
        broken = [_break(row[i], size, parts) for i, size in zip(shown, widths, strict=True)]
        for texts in itertools.zip_longest(*broken, fillvalue=""):
            padded = [
                _pad(text, size, columns[i].is_number)
                for text, size, i in zip(texts, widths, shown, strict=True)
            ]
            lines.append(f"| {' | '.join(padded)} |" if is_markdown else "  ".join(padded).rstrip())
        if row is grid[0]:
            rule = [
                "-" * (size - 1) + (":" if columns[i].is_number and is_markdown else "-")
                for size, i in zip(widths, shown, strict=True)
            ]
            lines.append(f"| {' | '.join(rule)} |" if is_markdown else "  ".join(rule))
    if left_out:
        lines.append(f"Not shown, too wide: {'; '.join(left_out)}.")
    return "\n".join(lines)


def _total(widths: Sequence[int]) -> int:
    """Returns the width of a text table with columns of these widths."""
    return sum(widths) + 2 * (len(widths) - 1)


def _shrink(widths: list[int], least: Sequence[int], width: int) -> list[int]:
    """Returns widths of columns that fit a table's as far as they can; the widest give way."""
    while _total(widths) > width:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= 1
    return widths


def _measure_parts(grid: Sequence[Sequence[str]], parts: re.Pattern[str]) -> list[int]:
    """Returns the width of the widest part of every column, which the column cannot go below."""
    return [
        max(3, *(measure_display_width(part) for text in column for _, part in parts.findall(text)))
        for column in zip(*grid, strict=True)
    ]


def _break(text: str, width: int, parts: re.Pattern[str]) -> list[str]:
    """Returns the lines of a text in a column; a part that is wider stays whole.

    >>> _break("0.5 [0.4, 0.6] *", 13, _WHOLE_BRACKETS), _break("vgg_ish", 4, _WHOLE_BRACKETS)
    (['0.5', '[0.4, 0.6] *'], ['vgg_', 'ish'])
    >>> _break("0.5 [0.4, 0.6] *", 6, _WORDS)
    ['0.5', '[0.4,', '0.6] *']
    """
    if measure_display_width(text) <= width:
        return [text]
    lines = [""]
    for separator, part in parts.findall(text):
        longer = lines[-1] + separator + part if lines[-1] else part
        if lines[-1] and measure_display_width(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def join_paragraphs(lines: Sequence[str], style: str) -> str:
    """Returns table and sentences; in Markdown every sentence is a list item.

    Args:
        lines: the table, an empty line, the sentences.
        style: `markdown` or `text`.
    """
    if style == "text":
        return "\n".join(lines)
    head, blank, *sentences = lines
    return "\n".join([head, blank, *(f"- {_escape(sentence)}" for sentence in sentences)])


def _one_line(text: str) -> str:
    """Returns a text without line breaks and other control characters."""
    return " ".join(text.split())


def _escape(text: str) -> str:
    """Returns a text that Markdown shows as it is within a table cell."""
    plain = _one_line(text).replace("\\", "\\\\")
    for sign in "|*<":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _pad(text: str, width: int, is_number: bool) -> str:
    """Returns a text filled up with spaces to a display width."""
    space = " " * (width - measure_display_width(text))
    return space + text if is_number else text + space
