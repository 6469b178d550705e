"""Keeps what libmpg123 prints from the terminal, and nothing else.

libmpg123 writes to file descriptor 2 whenever an mp3 is a little odd, also where nothing is lost,
and the libsndfile that holds it has no switch for that. While it works the descriptor leads into a
pipe, from which a thread passes on every other line: what anyone else prints meanwhile, in this
process or in one that was started then, is not lost.
"""

import atexit
import contextlib
import os
import re
import threading
from collections.abc import Iterator

_CHATTER = re.compile(
    rb"\[[^\]\s]*libmpg123[/\\]"
    rb"|(Note|Warning): (Illegal Audio-MPEG|Trying to resync|Hit end of|Skipped \d+ bytes|Xing str"
    rb"|Encountered (more|fewer)|Big change|Large difference|Junk at the beginning|Real sample"
    rb"|Cannot read next)"
)
"""How the lines of libmpg123 1.25 to 1.33 begin."""
_END = b"\0end of decoding\0\n"
_PART_BYTES = 1 << 16
_PATIENCE_SECONDS = 5.0
"""For whoever reads our standard error; a reader that has stopped must not stop the program."""


class _Filter:
    """The pipe of a process, and who makes use of it at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_users = 0
        self._target = -1
        self._pipe: tuple[int, int] | None = None
        self._is_drained = threading.Event()

    def enter(self) -> None:
        with self._lock:
            self._num_users += 1
            if self._num_users > 1:
                return
            if self._pipe is None:
                self._pipe, self._target = os.pipe(), os.dup(2)
                threading.Thread(target=self._pass_on, args=[self._pipe[0]], daemon=True).start()
                atexit.register(self.drain)  # of a process that was started and writes later
            else:
                os.dup2(2, self._target, inheritable=False)
            os.dup2(self._pipe[1], 2)

    def leave(self) -> None:
        with self._lock:
            self._num_users -= 1
            if self._num_users:
                return
            os.dup2(self._target, 2)
            self._drain()

    def drain(self) -> None:
        """Waits until everything that is in the pipe has been passed on."""
        with self._lock:
            if self._pipe is not None:
                self._drain()

    def _drain(self) -> None:
        self._is_drained.clear()
        os.write(self._pipe[1], _END)
        self._is_drained.wait(_PATIENCE_SECONDS)

    def _pass_on(self, source: int) -> None:
        held = b""
        while part := os.read(source, _PART_BYTES):
            before, end, after = (held + part).partition(_END)
            if end:
                self._write(before)
                held = after
                self._is_drained.set()
            else:
                whole, newline, held = before.rpartition(b"\n")
                self._write(whole + newline)

    def _write(self, text: bytes) -> None:
        kept = [line for line in text.splitlines(keepends=True) if not _CHATTER.match(line)]
        with contextlib.suppress(OSError):  # nobody reads our standard error any more
            os.write(self._target, b"".join(kept))

    def forget(self) -> None:
        """Gives a forked process its own descriptor back; the thread stayed with the parent."""
        if self._num_users:
            os.dup2(self._target, 2)
        self.__init__()


_FILTER = _Filter()
if hasattr(os, "register_at_fork"):  # not on Windows, where no process is forked
    os.register_at_fork(after_in_child=_FILTER.forget)


@contextlib.contextmanager
def silence_libmpg123() -> Iterator[None]:
    """Keeps the lines of libmpg123 from standard error; threads may be inside at the same time."""
    _FILTER.enter()
    try:
        yield
    finally:
        _FILTER.leave()
