"""What fits a terminal: its width, texts cut to it, a line that is written anew."""

import shutil
import unicodedata
from collections.abc import Sequence
from typing import TextIO

DEFAULT_WIDTH = 100
"""Columns where there is no terminal."""


def get_width() -> int:
    """Returns the columns of the terminal, or of the variable COLUMNS; 100 where there is none."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


def measure_display_width(text: str) -> int:
    """Returns the width of a text in terminal columns.

    >>> measure_display_width("Uşşak"), measure_display_width("三味線")
    (5, 6)

    Args:
        text: one line.

    Returns:
        Wide characters count two, combining marks none.
    """
    return sum(map(_measure_character, text))


def cut(text: str, width: int) -> str:
    """Returns a text that is not wider than asked for; an ellipsis stands for what is cut off.

    >>> cut("western", 7), cut("hindustani", 7)
    ('western', 'hindus…')

    Args:
        text: one line.
        width: in columns, at least 1.
    """
    if measure_display_width(text) <= width:
        return text
    kept, used = [], 1  # of the ellipsis
    for character in text:
        used += _measure_character(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + "…"


def cut_start(text: str, width: int) -> str:
    """Returns a text of which the end is kept, as `cut` keeps the beginning.

    >>> cut_start("western, scratch", 9), cut_start("western", 0)
    ('… scratch', '')

    Args:
        text: one line.
        width: in columns; a text of none is empty.
    """
    return cut(text[::-1], width)[::-1] if width > 0 else ""


class RewrittenLine:
    """A line at the bottom of a terminal that is written over; it is gone when closed.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def show(self, parts: Sequence[str], label: str = "") -> None:
        """Replaces the line.

        Args:
            parts: most important first; those at the end are left out where the terminal is narrow.
            label: before them; loses its beginning where it does not fit beside the first part, or
                where it would take more than half of the line from the others.
        """
        # A line that wraps, or fills the last column, would stand there again with every update.
        room = max(get_width() - 1, 1)
        line = cut(parts[0], room)
        if label:
            wanted = measure_display_width("  ".join(parts))
            most = max(room - wanted, min(room // 2, room - measure_display_width(line)))
            line = cut_start(f"{label}: ", most) + line
        for part in parts[1:]:
            if measure_display_width(f"{line}  {part}") > room:
                break
            line += f"  {part}"
        width = measure_display_width(line)
        self._stream.write("\r" + line + " " * (self._width - width))
        self._stream.flush()
        self._width = width

    def close(self) -> None:
        """Wipes the line, if there is one."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


def _measure_character(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
