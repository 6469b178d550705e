"""Progress of a transfer, for whoever waits for it."""

import datetime
import sys
import time
from typing import TextIO

_MEGABYTE = 1e6


class Progress:
    """Shows a transfer: one line that is rewritten on a terminal, one now and then elsewhere."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        """Starts the clock.

        Args:
            name: what is transferred.
            stream: where it is shown; None for standard error.
        """
        self._name = name
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._had: int | None = None
        self._width = 0

    def __call__(self, have: int, total: int | None) -> None:
        """Takes the bytes so far and in all."""
        now = time.monotonic()
        self._had = have if self._had is None else self._had
        if now - self._last < (0.2 if self._is_terminal else 30.0):
            return
        self._last = now
        rate = (have - self._had) / (now - self._start)
        line = f"{self._name}: {have / _MEGABYTE:,.1f}"
        if total:
            line += f" of {total / _MEGABYTE:,.1f} MB ({100 * have / total:.0f}%)"
            if rate > 0:
                left = datetime.timedelta(seconds=round((total - have) / rate))
                line += f", {rate / _MEGABYTE:.1f} MB/s, {left} left"
        else:
            line += f" MB, {rate / _MEGABYTE:.1f} MB/s"
        if self._is_terminal:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the line that is being rewritten, if there is one."""
        if self._width:
            self._stream.write("\n")
            self._width = 0
