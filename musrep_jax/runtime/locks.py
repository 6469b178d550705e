"""Locks for one process at a time: a file names the holder, and a dead process loses its lock."""

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from musrep_jax.config import ConfigError
from musrep_jax.runtime.files import write_bytes
from musrep_jax.runtime.processes import is_running

_POLL_SECONDS = 2.0
_UNSUPPORTED_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class LockedError(ConfigError):
    """Something is in use by another process."""


class Lock:
    """A lock, held while its context is active; a file names its holder.

    The system's own lock, on a file `.guard...` beside it, shows whether the holder is alive, so
    that neither a reused process number nor the clock can mislead. A lock left behind by a dead
    process of this host is taken over with a message. One left behind by another host is refused,
    because not every shared file system propagates locks. If the file system has no locks at all,
    the content of the file decides.

    Args:
        path: the file that names the holder; its folder is created. It is removed at the end.
        what: names the locked resource, for messages.
        should_wait: whether to wait for a held lock, or to refuse.
        is_local: whether to take over locks left behind by other hosts, too: for work that is
            verified anyway and cheap to repeat.

    Raises:
        LockedError: on entering, when another process holds it.
    """

    def __init__(
        self, path: Path, what: str, *, should_wait: bool = False, is_local: bool = False
    ) -> None:
        self.path, self._what = path, what
        self._is_waited_for, self._is_local = should_wait, is_local
        self._guard = path.with_name(lock_files(path.name)[1])
        self._lock = filelock.FileLock(self._guard, thread_local=False, fallback_to_soft=False)

    def __enter__(self) -> Self:
        has_waited = False
        while not self.take(is_quiet=has_waited):
            if not self._is_waited_for:
                raise LockedError(
                    f"{self._what} is in use by {self.holder()}: wait for its end, or stop it."
                )
            if not has_waited:
                _say(f"{self._what} is in use by {self.holder()}: waiting for it")
            has_waited = True
            time.sleep(_POLL_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def take(self, *, is_quiet: bool = False) -> bool:
        """Takes the lock and returns True, or returns False while another process holds it.

        Args:
            is_quiet: whether to take over the lock of a dead process without a message.

        Raises:
            LockedError: if a process of another host has left it.
        """
        is_certain = True
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED_ERRNOS:
                raise
            is_certain = False
        try:
            left = _read_holder(self.path)
            is_ours = left.get("host") == socket.gethostname()
            if is_ours and not is_certain and is_running(left["pid"]):
                return False
            if left and not is_ours and not self._is_local:
                raise LockedError(
                    f"{self._what} was locked by {_describe(left)}, and whether that still runs "
                    f"cannot be seen from here: if it does not, remove {self.path} and start again."
                )
            if left and not is_quiet:
                who = _describe(left)
                _say(f"{self._what} was left locked by {who}, which has ended: taken over")
            write_bytes(self.path, json.dumps(_this_process()).encode(), is_synced=False)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Releases the lock and removes its files."""
        # In a folder that has become read-only they stay; the next run takes them over. In one that
        # was removed and created again, they belong to another process.
        with contextlib.suppress(OSError):
            if _read_holder(self.path) == _this_process():
                self.path.unlink()
            guard = self.fileno()
            if guard is not None and os.path.samestat(os.fstat(guard), self._guard.stat()):
                self._guard.unlink()
        self._lock.release()

    def holder(self) -> str:
        """Returns a description of the lock's holder."""
        for _ in range(10):  # a process holds the lock a moment before it writes its name
            if holder := _read_holder(self.path):
                break
            time.sleep(0.05)
        return _describe(holder)

    def fileno(self) -> int | None:
        """Returns the descriptor of the system's lock; a process that inherits it holds the lock,
        too.

        Returns:
            None where the file system has no locks.
        """
        return self._lock._context.lock_file_fd


def lock_files(name: str) -> tuple[str, str]:
    """Returns the names of the two files of a lock: the one that names its holder, and its guard.

    Args:
        name: of the lock's `path`.
    """
    return name, f".guard.{name.removeprefix('.')}"


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _read_holder(path: Path) -> dict[str, Any]:
    """Returns `host` and `pid` of the writer of a lock file; empty if not recorded."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    is_whole = isinstance(holder, dict) and isinstance(holder.get("pid"), int)
    return holder if is_whole and isinstance(holder.get("host"), str) else {}


def _describe(holder: Mapping[str, Any]) -> str:
    return f"process {holder['pid']} on host {holder['host']}" if holder else "another run"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
