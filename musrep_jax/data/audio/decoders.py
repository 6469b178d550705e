"""Many files decoded ahead of their use, by processes of their own, in bounded memory.

A decoder that crashes on a damaged file takes its process with it and nothing else. As a program
this module is such a process: it reads requests from its standard input, a line of JSON each, and
writes the audio as lines of JSON, each followed by the samples it announces.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from musrep_jax.data.audio.reading import AudioError, stream_audio

_PREFETCH_BLOCKS = 16
"""Of one file, a quarter of a million frames each: some minutes."""
_END = None


@dataclasses.dataclass(frozen=True)
class DecodedFile:
    """A file whose audio is coming.

    Attributes:
        path: of the file.
        known: what `look` returned of it; None without one.
    """

    path: str
    known: Any
    _blocks: "queue.Queue[np.ndarray | Exception | None]"

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the audio, mono, once.

        Returns:
            An iterator of float32 (samples,); of nothing if the file is not wanted.

        Raises:
            AudioError: where it cannot be decoded; its text names the path.
            OSError: if the file system does not let it be read.
        """
        while (block := self._blocks.get()) is not _END:
            if isinstance(block, Exception):
                raise block
            yield block


def decode_files(
    paths: Iterable[str | os.PathLike],
    sample_rate: int,
    num_workers: int,
    look: Callable[[str], tuple[Any, bool]] = lambda path: (None, True),
) -> Iterator[DecodedFile]:
    """Yields the files in the given order, while those that follow are being decoded.

    The blocks of a file must be taken, or their end reached, before the next file is asked for.

    Args:
        paths: of the files; taken one by one, so they may be very many.
        sample_rate: that all are resampled to, in Hz.
        num_workers: processes, each of which decodes one file at a time.
        look: called with a path before it is decoded, from several threads; returns what is to be
            known of the file, and whether its audio is wanted. An OSError of it is the file's.

    Returns:
        An iterator of files.
    """
    todo, turn = iter(paths), threading.Lock()
    ready: queue.Queue[DecodedFile | None] = queue.Queue(2 * num_workers)
    is_over = threading.Event()
    decoders = [_Decoder(sample_rate) for _ in range(num_workers)]

    def put(line: queue.Queue, item: Any) -> None:
        while not is_over.is_set():
            try:
                return line.put(item, timeout=0.2)
            except queue.Full:
                continue

    def take() -> tuple[str, queue.Queue, queue.Queue] | None:
        """Takes the next file and its place in the order."""
        with turn:
            path = None if is_over.is_set() else next(todo, None)
            if path is None:
                return None
            about: queue.Queue = queue.Queue(1)
            blocks: queue.Queue = queue.Queue(_PREFETCH_BLOCKS)
            put(ready, (os.fspath(path), about, blocks))
            return os.fspath(path), about, blocks

    def work(decoder: "_Decoder") -> None:
        while taken := take():
            path, about, blocks = taken
            end = _END
            try:
                known, is_wanted = look(path)
                about.put(known)
                if is_wanted:
                    for block in decoder.decode(path):
                        put(blocks, block)
                        if is_over.is_set():
                            return
            except Exception as error:
                if about.empty():
                    about.put(None)
                end = error
            put(blocks, end)
            if end is not _END:
                put(blocks, _END)
        put(ready, _END)

    threads = [threading.Thread(target=work, args=[one], daemon=True) for one in decoders]
    for thread in threads:
        thread.start()
    try:
        num_running = num_workers
        while num_running:
            entry = ready.get()
            if entry is _END:
                num_running -= 1
                continue
            path, about, blocks = entry
            yield DecodedFile(path, about.get(), blocks)
    finally:
        is_over.set()
        for decoder, thread in zip(decoders, threads, strict=True):
            decoder.kill()
            thread.join()
            decoder.close()


class _Decoder:
    """A process that decodes files, seen from its parent; started when it is needed."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, path: str) -> Iterator[np.ndarray]:
        """Yields the blocks of a file; raises `AudioError`, also when the process dies of it."""
        process = self._process or self._start()
        request = json.dumps({"path": path, "sample_rate": self._sample_rate})
        try:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
            while line := process.stdout.readline():
                answer = json.loads(line)
                if "samples" not in answer:
                    break
                block = np.empty(answer["samples"], np.float32)
                if process.stdout.readinto(memoryview(block).cast("B")) < block.nbytes:
                    line = b""
                    break
                yield block
        except (BrokenPipeError, ValueError):  # half a line
            line = b""
        if not line:
            raise AudioError(path, self._describe_crash())
        if "reason" in answer:
            raise AudioError(path, answer["reason"])
        if "errno" in answer:
            raise OSError(answer["errno"], answer["strerror"], path)

    def kill(self) -> None:
        """Ends the process, whatever it does; what waits for its audio is told that it is over."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Lets go of the process, which has ended or is ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:
                pass  # closes its pipes and waits; a request that it did not read is void

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders grumble there, about what the reason says better
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )
        return self._process

    def _describe_crash(self) -> str:
        """Returns what is said of a file that ended the process."""
        code = self._process.wait()
        self.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"cannot be read: the decoder crashes on it ({how})."


def main() -> None:
    """Decodes the files that standard input names, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    out = sys.stdout.buffer

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer).encode() + b"\n")

    for line in sys.stdin:
        request = json.loads(line)
        try:
            for block in stream_audio(request["path"], request["sample_rate"]):
                say({"samples": len(block)})
                out.write(memoryview(np.ascontiguousarray(block)).cast("B"))
                out.flush()
            say({})
        except AudioError as error:
            say({"reason": error.reason})
        except OSError as error:
            say({"errno": error.errno, "strerror": error.strerror or str(error)})
        out.flush()


if __name__ == "__main__":
    main()
