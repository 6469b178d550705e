"""One build of a data set at a time: the lock on its building folder."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

BUILD_LOCK_FILE = "lock"
_POLL_SECONDS = 0.2
_LOCK_UNSUPPORTED_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class BuildInterruptedError(OSError):
    """A build could not go on, and can be continued; the message is one sentence that says how."""


@contextlib.contextmanager
def lock_build_folder(
    folder: pathlib.Path, name: str, is_built: Callable[[], bool]
) -> Iterator[IO[bytes] | None]:
    """Holds a building folder, waiting while another build does; makes it if there is none.

    The lock is the operating system's, so that it ends with its process; the file says who that is.
    It is passed on to worker processes: a folder in which anyone still writes is not taken over.

    Args:
        folder: of the build.
        name: of the data set, for messages.
        is_built: whether the data set is finished.

    Yields:
        The open lock, or None when the data set has been finished meanwhile.

    Raises:
        BuildInterruptedError: if the folder was held by a process of another machine, of which this
            one cannot know whether it lives.
    """
    has_told = False
    while True:
        if is_built():
            yield None
            return
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(open(folder / BUILD_LOCK_FILE, "a+b"))
            except FileNotFoundError:
                continue  # The other build has just finished and removed its folder.
            holder = _read_holder(lock)
            if not _take(lock, holder):
                if not has_told:
                    process = f"process {holder[1]} on {holder[0]}" if holder else "another process"
                    say(f"waiting for {process}, which is building {name}")
                has_told = True
                time.sleep(_POLL_SECONDS)
                continue
            if not _is_same_file(lock, folder / BUILD_LOCK_FILE):
                continue
            holder = _read_holder(lock)
            if holder is not None and holder[0] != socket.gethostname():
                raise BuildInterruptedError(
                    f"{name} was being built by process {holder[1]} on {holder[0]}, and whether "
                    f"that still runs cannot be seen from here; when it has ended, delete "
                    f"{folder / BUILD_LOCK_FILE} and run the same command again."
                )
            if is_built():
                # Finished after we last asked: this folder is a new one, or what was left of it.
                shutil.rmtree(folder, ignore_errors=True)
                yield None
                return
            lock.truncate(0)
            lock.write(json.dumps([socket.gethostname(), os.getpid()]).encode("ascii"))
            lock.flush()
            try:
                yield lock
            finally:
                lock.truncate(0)
            return


def _take(lock: IO[bytes], holder: tuple[str, int] | None) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _LOCK_UNSUPPORTED_ERRNOS:
            raise
        # A file system without locks: what the file says must do.
        return holder is None or holder[0] != socket.gethostname() or not _is_alive(holder[1])
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_same_file(file: IO[bytes], path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _read_holder(lock: IO[bytes]) -> tuple[str, int] | None:
    lock.seek(0)
    content = lock.read()
    return tuple(json.loads(content)) if content else None


def remove_stale_build_folder(folder: pathlib.Path) -> None:
    """Removes what a build left when it was interrupted after its data set had been finished."""
    if folder.is_dir():
        with lock_build_folder(folder, folder.name, is_built=lambda: not folder.is_dir()):
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Prints a line on standard error at once."""
    print(text, file=sys.stderr, flush=True)
