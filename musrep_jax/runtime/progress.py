"""Progress display of a transfer."""

import sys
import time
from collections.abc import Callable, Hashable, Sequence
from typing import TextIO

from musrep_jax.runtime.terminal import RewrittenLine

_MEGABYTE = 1e6
_TERMINAL_INTERVAL_SECONDS, _LOG_INTERVAL_SECONDS = 0.2, 30.0
"""Seconds between two lines."""
_INITIAL_DELAY_SECONDS = 2.0
"""Seconds before the first line: shorter transfers show no progress."""


def format_seconds(seconds: float) -> str:
    """Returns a duration in hours, minutes and seconds.

    >>> format_seconds(59.4), format_seconds(75), format_seconds(3725)
    ('59s', '1m15s', '1h02m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class TimeLeft:
    """Tells the time that jobs will take, from those of the same kind that are done.

    Args:
        clock: returns seconds; another one for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._took: dict[Hashable, list[float]] = {}
        self._last = clock()

    def tell(self, done: Hashable, todo: Sequence[Hashable]) -> str:
        """Returns a clause, such as ", 30s left"; "" while a kind is to come that has not yet run.

        Args:
            done: kind of the job that has taken the time since the last call.
            todo: kinds of the jobs that follow.
        """
        now = self._clock()
        self._took.setdefault(done, []).append(now - self._last)
        self._last = now
        if not set(todo) <= set(self._took):
            return ""
        means = {kind: sum(took) / len(took) for kind, took in self._took.items()}
        return f", {format_seconds(sum(means[kind] for kind in todo))} left"


class Progress:
    """Shows the progress of a transfer: one rewritten line on a terminal, periodic lines
    elsewhere."""

    def __init__(self, name: str, unit: str = "MB", stream: TextIO | None = None) -> None:
        """Starts the clock.

        Args:
            name: of the transfer.
            unit: of the count; bytes are shown as MB.
            stream: the output stream; None for standard error.
        """
        self._name = name
        self._unit = unit
        self._scale, self._digits = (_MEGABYTE, 1) if unit == "MB" else (1.0, 0)
        self._stream = sys.stderr if stream is None else stream
        self._line = RewrittenLine(self._stream) if self._stream.isatty() else None
        self._start = self._last = time.monotonic()
        self._initial_count: int | None = None

    def __call__(self, have: int, total: int | None, note: str = "") -> None:
        """Updates the count so far, the total, and an additional text."""
        now = time.monotonic()
        self._initial_count = have if self._initial_count is None else self._initial_count
        if now - self._start < _INITIAL_DELAY_SECONDS:
            return
        if now - self._last < (_TERMINAL_INTERVAL_SECONDS if self._line else _LOG_INTERVAL_SECONDS):
            return
        self._last = now
        rate = (have - self._initial_count) / (now - self._start)
        line = f"{self._name}: {self._show(have)} {self._unit}"
        if total:
            line = f"{self._name}: {self._show(have)} of {self._show(total)} {self._unit}"
            line += f" ({100 * have / total:.0f}%)"
        line += f", {rate / self._scale:.1f} {self._unit}/s"
        if total and rate > 0:
            line += f", {format_seconds((total - have) / rate)} left"
        line += f", {note}" if note else ""
        if self._line:
            self._line.show([line])
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _show(self, count: int) -> str:
        return f"{count / self._scale:,.{self._digits}f}"

    def close(self) -> None:
        """Wipes the line that is being rewritten, if there is one."""
        if self._line:
            self._line.close()
