"""Processes that examine files for another one; both ends of the line.

A decoder that crashes on a damaged file takes its process with it and nothing else: the file is
known, and the next process goes on. As a program this module is such a process.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from musrep_jax.data.audio.formats import Container
from musrep_jax.data.doctor.measurements import FileMeasurements, measure_file
from musrep_jax.runtime.workers import Worker, WorkerDiedError, serve

_READY = None
_WAIT_SECONDS = 1.0
"""Without a file that is done, after which those that are being examined are told."""


class MeasurementWorkerError(RuntimeError):
    """An examining process cannot be started; the message says what it said."""


def measure_files(
    paths: Sequence[str | os.PathLike],
    num_workers: int,
    on_wait: Callable[[Sequence[str]], None] = lambda pending: None,
) -> Iterator[tuple[str, FileMeasurements | OSError]]:
    """Yields (path, facts) of each file, in the order in which they are done.

    Args:
        paths: of regular files.
        num_workers: processes, each of which decodes one file at a time.
        on_wait: called every second in which no file is done, with those that are being examined.

    Returns:
        An iterator; an `OSError` stands for the facts of a file that could not be read.

    Raises:
        MeasurementWorkerError: if a process cannot be started.
    """
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for path in paths:
        todo.put(os.fspath(path))
    done: queue.SimpleQueue[tuple[str, FileMeasurements | Exception]] = queue.SimpleQueue()
    examiners = [_MeasurementWorker() for _ in range(max(1, min(num_workers, len(paths))))]

    def work(examiner: "_MeasurementWorker") -> None:
        try:
            while True:
                path = todo.get_nowait()
                done.put((path, examiner.examine(path)))
        except queue.Empty:
            return
        except Exception as error:
            done.put(("", error))

    threads = [threading.Thread(target=work, args=[examiner]) for examiner in examiners]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(paths)):
            path, found = _take(done, examiners, on_wait)
            if isinstance(found, Exception) and not isinstance(found, OSError):
                raise found
            yield path, found
    finally:
        while not todo.empty():
            todo.get_nowait()
        for examiner in examiners:
            examiner.kill()
        for thread, examiner in zip(threads, examiners, strict=True):
            thread.join()
            examiner.close()


def _take(
    done: "queue.SimpleQueue[tuple[str, FileMeasurements | Exception]]",
    examiners: "Sequence[_MeasurementWorker]",
    on_wait: Callable[[Sequence[str]], None],
) -> tuple[str, FileMeasurements | Exception]:
    while True:
        try:
            return done.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            pending = [path for examiner in examiners if (path := examiner.path)]
            if pending:
                on_wait(pending)


class _MeasurementWorker:
    """A process that examines files, seen from its parent; started when it is needed.

    Attributes:
        path: of the file that it examines; "" between two.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self.path = ""

    def examine(self, path: str) -> FileMeasurements | OSError:
        """Returns the facts of a file, also when the process dies of it."""
        self.path = path
        try:
            return self._examine(path)
        finally:
            self.path = ""

    def _examine(self, path: str) -> FileMeasurements | OSError:
        try:
            status = os.stat(path)
        except OSError as error:
            return error
        worker = self._worker or self._start()
        try:
            worker.send(path)
            return worker.receive()
        except WorkerDiedError as death:
            self.close()
            told = f"cannot be read: the decoder crashes on it ({death})."
            return _make_failed_measurements(status, told)

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        if self._worker is not None:
            self._worker.kill()

    def close(self) -> None:
        """Ends the process and the pipes to it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _start(self) -> Worker:
        # The report is more useful than the decoders' messages on standard error.
        self._worker = worker = Worker(__name__, is_quiet=True)
        try:
            worker.send(_READY)
            worker.receive()
        except WorkerDiedError as death:
            raise MeasurementWorkerError(
                f"a process that examines files did not start ({death}); "
                f"`{sys.executable} -m {__name__}` shows why."
            ) from death
        return worker


def _make_failed_measurements(status: os.stat_result, error: str) -> FileMeasurements:
    return FileMeasurements(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        container=Container(""),
        content="",
        error=error,
    )


def answer(path: str | None, send: Callable[[FileMeasurements | OSError | None], None]) -> None:
    """Examines a file for the parent.

    Args:
        path: of the file; None only asks whether this process is there.
        send: sends the findings.
    """
    if path is _READY:
        return send(None)
    try:
        found = measure_file(path)
    except OSError as error:
        found = OSError(error.errno, error.strerror or str(error), path)
    except Exception as error:
        # One file must not stop the others; the report has the error.
        told = f"cannot be read: {type(error).__name__} ({' '.join(str(error).split())})."
        found = _make_failed_measurements(os.stat(path), told)
    send(found)


if __name__ == "__main__":
    serve(answer)
