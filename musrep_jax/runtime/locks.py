"""One process at a time: a lock file that names its holder, and that a dead process gives up."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from musrep_jax.config import ConfigError

_POLL_SECONDS = 2.0


class Lock:
    """A lock on a file, held from entering the context to leaving it.

    The system's own record lock (POSIX `lockf`) says whether the holder lives, so neither a
    process number used again nor the clock can deceive; the file's text says who it is. A lock
    left behind by a dead process of this host is taken over with a line. One left behind by
    another host is refused, because not every shared file system passes record locks on.

    Args:
        path: the file; its folder must exist. It is removed at the end.
        what: what is locked, for messages.
        is_waited_for: whether a lock that is held is waited for, or refused.

    Raises:
        LockedError: on entering, when another process holds it.
    """

    def __init__(self, path: Path, what: str, *, is_waited_for: bool = False) -> None:
        self.path, self._what, self._is_waited_for = path, what, is_waited_for

    def __enter__(self) -> Self:
        has_said = False
        while (file := self._try()) is None:
            if not has_said:
                _say(f"{self._what} is in use by {_holder(self.path)}: waiting for it")
                has_said = True
            time.sleep(_POLL_SECONDS)
        self._file = file
        file.seek(0)
        left = _parse(file.read())
        if left and left["host"] != socket.gethostname():
            file.close()
            raise LockedError(
                f"{self._what} was locked by {_describe(left)}, and whether that still runs cannot "
                f"be seen from here: if it does not, remove {self.path} and start again."
            )
        if left and not has_said:
            _say(f"{self._what} was left locked by {_describe(left)}, which has ended: taken over")
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        return self

    def _try(self) -> IO[str] | None:
        """Returns the locked file, or None while another process holds it and is waited for."""
        while True:
            file = self.path.open("a+", encoding="utf-8")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                if self._is_waited_for:
                    return None
                raise LockedError(
                    f"{self._what} is in use by {_holder(self.path)}: wait for its end, or stop it."
                ) from error
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # its holder removed it between the two calls

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In a folder that has become read-only the file stays; the next run takes it over, because
        # its record lock is free.
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._file.close()


class LockedError(ConfigError):
    """Something is in use by another process."""


def _parse(text: str) -> dict[str, Any]:
    """Returns `host` and `pid` of who wrote a lock file; empty when it does not say."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return {}


def _holder(path: Path) -> str:
    """Returns in words who holds a lock.

    Never called while this process holds it: closing any handle of a file ends its record lock.
    """
    with contextlib.suppress(FileNotFoundError):
        return _describe(_parse(path.read_text(encoding="utf-8")))
    return "another run"


def _describe(holder: Mapping[str, Any]) -> str:
    return f"process {holder['pid']} on host {holder['host']}" if holder else "another run"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
