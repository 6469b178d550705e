"""Processes that examine files for another one; both ends of the line.

A decoder that crashes on a damaged file takes its process with it and nothing else: the file is
known, and the next process goes on. As a program this module is such a process: it reads the path
of a file from each line of its standard input, as JSON, and writes what it found.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from musrep_jax.data.audio.formats import Container
from musrep_jax.data.doctor.measurements import Facts, measure_file

_READY = "ready"


class MeasurementWorkerError(RuntimeError):
    """An examining process cannot be started; the message says what it said."""


def measure_files(
    paths: Sequence[str | os.PathLike], num_workers: int
) -> Iterator[tuple[str, Facts | OSError]]:
    """Yields (path, facts) of each file, in the order in which they are done.

    Args:
        paths: of regular files.
        num_workers: processes, each of which decodes one file at a time.

    Returns:
        An iterator; an `OSError` stands for the facts of a file that could not be read.

    Raises:
        MeasurementWorkerError: if a process cannot be started.
    """
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for path in paths:
        todo.put(os.fspath(path))
    done: queue.SimpleQueue[tuple[str, Facts | Exception]] = queue.SimpleQueue()
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
            path, found = done.get()
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


class _MeasurementWorker:
    """A process that examines files, seen from its parent; started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def examine(self, path: str) -> Facts | OSError:
        """Returns the facts of a file, also when the process dies of it."""
        try:
            status = os.stat(path)
        except OSError as error:
            return error
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(path) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return self._make_crash_measurements(status)
        found = json.loads(answer)
        if "errno" in found:
            return OSError(found["errno"], found["strerror"], path)
        return Facts.from_dict(found)

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Ends the process and the lines to it."""
        self.kill()
        if self._process is not None:
            self._process.communicate()

    def _start(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders grumble there, about what the report says better
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )
        if self._process.stdout.readline().strip() != _READY:
            raise MeasurementWorkerError(
                "a process that examines files did not start; "
                f"`{sys.executable} -m {__name__}` shows why."
            )
        return self._process

    def _make_crash_measurements(self, status: os.stat_result) -> Facts:
        """Returns the facts of a file that ended the process."""
        code = self._process.wait()
        self.close()
        self._process = None
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _make_failed_measurements(
            status, f"cannot be read: the decoder crashes on it ({how})."
        )


def _make_failed_measurements(status: os.stat_result, error: str) -> Facts:
    return Facts(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        container=Container(""),
        content="",
        error=error,
    )


def main() -> None:
    """Examines the files that standard input names, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    print(_READY, flush=True)
    for line in sys.stdin:
        path = json.loads(line)
        try:
            found = measure_file(path).to_dict()
        except OSError as error:
            found = {"errno": error.errno, "strerror": error.strerror or str(error)}
        except Exception as error:
            # One file must not stop the others; what happened stands in the report.
            told = f"cannot be read: {type(error).__name__} ({' '.join(str(error).split())})."
            found = _make_failed_measurements(os.stat(path), told).to_dict()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
