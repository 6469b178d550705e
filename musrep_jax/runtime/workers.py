"""Worker processes: both ends of the pipes to them.

A worker is a fresh Python, neither forked from a process that may hold JAX nor running its main
module again. It exits at once when its pipes are closed, and hence whenever its parent dies. Ctrl-C
in a terminal reaches only the parent. A crashing library takes down only the worker. The pipes
carry pickled objects, each preceded by its length.
"""

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_LENGTH = struct.Struct("<Q")


class WorkerDiedError(Exception):
    """A worker has exited without an answer.

    Attributes:
        code: its exit code, negative for a signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(signal.Signals(-code).name if code < 0 else f"exit code {code}")
        self.code = code


class Worker:
    """The parent's side of a worker.

    Args:
        module: the module to run, which calls `serve`.
        inherited_fds: file descriptors that the process keeps open.
        is_quiet: whether to discard its standard error.
    """

    def __init__(
        self, module: str, *, inherited_fds: tuple[int, ...] = (), is_quiet: bool = False
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if is_quiet else None,
            bufsize=0,
            pass_fds=inherited_fds,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )

    def fileno(self) -> int:
        """Returns a descriptor that becomes readable on an answer, or at the end."""
        return self._process.stdout.fileno()

    def send(self, request: Any) -> None:
        """Sends a request.

        Args:
            request: a picklable object.

        Raises:
            WorkerDiedError: if the worker has ended.
        """
        try:
            _write(self._process.stdin, request)
        except OSError as error:
            raise self._make_death() from error

    def receive(self) -> Any:
        """Returns the next answer.

        Raises:
            WorkerDiedError: if the worker has exited without one.
        """
        try:
            return pickle.loads(_read_bytes(self._process.stdout))
        except (EOFError, OSError) as error:
            raise self._make_death() from error

    def kill(self) -> None:
        """Kills the process; a pending `receive` raises `WorkerDiedError`."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process and closes the pipes."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _make_death(self) -> WorkerDiedError:
        return WorkerDiedError(self._process.wait())


def serve(handle: Callable[[Any, Callable[[Any], None]], None]) -> NoReturn:
    """Serves the parent until it closes the pipes; prints go to standard error.

    Args:
        handle: called with each request and a function that sends an answer; it may send any
            number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, target = sys.stdin.buffer.raw, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # the output of libraries must not mix with answers
    requests: queue.SimpleQueue[bytearray] = queue.SimpleQueue()

    def receive() -> None:
        while True:
            try:
                requests.put(_read_bytes(source))
            except (EOFError, OSError):
                os._exit(0)

    def send(answer: Any) -> None:
        try:
            _write(target, answer)
        except OSError:  # the parent has closed its end
            os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        # Unpickled here: two threads that import at once get in each other's way (a library may
        # replace `__import__` while it is being imported).
        handle(pickle.loads(requests.get()), send)


def _write(file: Any, message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    for part in (_LENGTH.pack(len(data)), data):
        left = memoryview(part)
        while left:
            left = left[file.write(left) :]


def _read_bytes(file: Any) -> bytearray:
    """Returns the next message, still pickled."""
    (length,) = _LENGTH.unpack(_read_exactly(file, _LENGTH.size))
    return _read_exactly(file, length)


def _read_exactly(file: Any, length: int) -> bytearray:
    data = bytearray(length)
    left = memoryview(data)
    while left:
        num = file.readinto(left)
        if not num:
            raise EOFError
        left = left[num:]
    return data
