"""One build of a data set at a time: the lock on its building folder."""

import contextlib
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

from musrep_jax.runtime.locks import Lock, LockedError

BUILD_LOCK_FILE = "lock"
_POLL_SECONDS = 0.2


class BuildInterruptedError(OSError):
    """A build could not go on, and can be continued; the message is one sentence that says how."""


@contextlib.contextmanager
def lock_build_folder(
    folder: pathlib.Path, name: str, is_built: Callable[[], bool]
) -> Iterator[Lock | None]:
    """Locks a building folder, creating it if needed and waiting while another build holds it.

    The lock may be passed on to worker processes: a folder in which anyone still writes is not
    taken over.

    Args:
        folder: of the build.
        name: of the data set, for messages.
        is_built: whether the data set is finished.

    Yields:
        The lock, or None when the data set has been finished meanwhile.

    Raises:
        BuildInterruptedError: if the folder was held by a process of another machine, of which this
            one cannot know whether it lives.
    """
    has_told = False
    lock = Lock(folder / BUILD_LOCK_FILE, f"the build of {name}")
    while not is_built():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            is_taken = lock.take(is_quiet=has_told)
        except FileNotFoundError:
            continue  # The other build removes its folder at this moment.
        except LockedError as error:
            raise BuildInterruptedError(str(error)) from error
        if not is_taken:
            if not has_told:
                say(f"waiting for {lock.holder()}, which is building {name}")
            has_told = True
            time.sleep(_POLL_SECONDS)
            continue
        try:
            if not is_built():
                yield lock
                return
            # Finished after we last asked: this folder is a new one, or what was left of it.
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()
        break
    yield None


def remove_stale_build_folder(folder: pathlib.Path) -> None:
    """Removes the leftovers of a build that was interrupted after its data set was finished."""
    if folder.is_dir():
        with lock_build_folder(folder, folder.name, is_built=lambda: not folder.is_dir()):
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Prints a line on standard error at once."""
    print(text, file=sys.stderr, flush=True)
