"""Output of a training run: progress lines, metric rows, its record."""

import contextlib
import errno
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jax

from musrep_jax.runtime.closing import Closing
from musrep_jax.runtime.files import to_json_safe, write_text
from musrep_jax.runtime.progress import format_seconds
from musrep_jax.runtime.terminal import RewrittenLine

_CLOSED_READER_ERRNOS = (errno.EPIPE, errno.EIO)
"""Errors of a write when the reader of a pipe has exited, or the terminal was closed."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml_collections")


def make_run_record() -> dict[str, Any]:
    """Returns the environment of a run: versions, devices and the code's git revision.

    Returns:
        `python`, `packages` (name -> version or None), `backend`, `device_kind`, `num_devices`,
        `num_processes`, `git_revision` (None outside a git checkout) and `command` (without the
        folders of absolute paths, because exports travel), ready for JSON.
    """
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "backend": device.platform,
        "device_kind": device.device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "git_revision": _git_revision(),
        "command": shlex.join(strip_folders(word) for word in sys.argv),
    }


def strip_folders(word: str) -> str:
    """Returns a word of a command with the last part only of its absolute paths.

    Example:
        >>> strip_folders("--config.source=export:/home/some body/a,runs/b")
        '--config.source=export:a,runs/b'
    """
    return re.sub(r"(?<![\w.~/-])~?/(?:[^,:=/]+/)*", "", word)


def _version(package: str) -> str | None:
    """Returns the installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Returns the commit of the checkout that holds this file (`-dirty` when edited), or None."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


class MetricsLog(Closing):
    """A file of metric rows, one JSON object per line, flushed after every row.

    Args:
        path: the file; its folder is created. Rows are appended to what is there.
        fields: written into every row, to tell trainings that share a file apart.
    """

    def __init__(self, path: str | Path, **fields: Any) -> None:
        self.path = Path(path)
        self._fields = to_json_safe(fields)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")

    def drop_rows_after(self, step: int) -> None:
        """Drops this training's rows after `step`, where it resumes, and an incomplete last line.

        Args:
            step: the last step whose rows stay.
        """
        self._file.close()
        kept = [
            row
            for row in read_rows(self.path)
            if row.get("step", 0) <= step
            or any(row.get(name) != value for name, value in self._fields.items())
        ]
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, **row: Any) -> None:
        """Appends one row; numbers that are not finite become null."""
        self._file.write(json.dumps({**self._fields, **to_json_safe(row)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics file; a last line that was cut off is left out.

    Args:
        path: a file written by `MetricsLog`.

    Raises:
        ValueError: when another line than the last is not JSON, naming it.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(
                    f"Line {number} of {path} is not JSON ({error.msg}); remove that line."
                ) from error
    return rows


class Progress:
    """A progress line of training: rewritten on a terminal, printed periodically elsewhere.

    Args:
        num_steps: steps in the whole training.
        label: what is trained, printed first.
        max_seconds: time after which the training ends, if it has not before; None is no limit.
        stream: where to write.
        every_seconds: least time between lines when the stream is no terminal.
        clock: returns seconds; another one for tests.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        label: str = "train",
        max_seconds: float | None = None,
        stream: TextIO | None = None,
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_steps = num_steps
        self._label = label
        self._end = math.inf if max_seconds is None else clock() + max_seconds
        self._stream = sys.stderr if stream is None else stream
        self._every_seconds = every_seconds
        self._clock = clock
        self._last_time = -math.inf
        self._validation: list[str] = []
        self._line = RewrittenLine(self._stream) if self._stream.isatty() else None

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows a row of `fit`: step, loss, learning rate, steps/s, time left, wait for data.

        Args:
            row: `step`, `loss`, `learning_rate`, `steps_per_second`, `data_wait` (fraction).
        """
        now = self._clock()
        is_last = row["step"] >= self._num_steps
        if not (self._line or is_last or now - self._last_time >= self._every_seconds):
            return
        self._last_time = now
        rate = row["steps_per_second"]
        seconds = (self._num_steps - row["step"]) / rate if rate > 0 else math.inf
        seconds = min(seconds, max(0.0, self._end - now))
        left = format_seconds(seconds) if math.isfinite(seconds) else "?"
        parts = [
            f"step {row['step']}/{self._num_steps}",
            f"{left} left",
            f"loss {row['loss']:.4f}",
            *self._validation,
            f"{rate:.2f} steps/s",
            f"lr {row['learning_rate']:.2g}",
            f"{100 * row['data_wait']:.0f}% waiting for data",
        ]
        if self._line:
            self._line.show(parts, label=self._label)
        else:
            self._stream.write(f"{self._label}: {'  '.join(parts)}\n")
            self._stream.flush()

    def record_validation(self, metric: str, value: float, is_best: bool) -> None:
        """Stores a validation value for the next lines."""
        self._validation = [f"{metric} {value:.4f}{' (best)' if is_best else ''}"]

    def note(self, text: str) -> None:
        """Writes a permanent line."""
        self.close()
        self._stream.write(f"{self._label}: {text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Wipes the line that is being rewritten, if there is one."""
        if self._line:
            self._line.close()


class _FaultTolerantStream:
    """A text stream that discards output after its reader is gone, instead of failing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text if it can be written."""
        self._try_write(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flushes the buffer, if it can be written."""
        self._try_write(self._stream.flush)

    def _try_write(self, write: Callable[..., Any], *arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:  # there is nobody who could be told
            if error.errno in _CLOSED_READER_ERRNOS:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def tolerate_output_errors() -> Iterator[None]:
    """Lets the program survive a closed terminal, an exited reader, and a full disk of its log.

    A training that runs for days is not to fail because a line about it cannot be shown.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_FaultTolerantStream, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
