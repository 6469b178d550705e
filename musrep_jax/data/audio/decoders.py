"""Many files decoded ahead of their use, by processes of their own, in bounded memory.

A decoder that crashes on a damaged file takes its process with it and nothing else. As a program
this module is such a process.
"""

import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from musrep_jax.data.audio.reading import AudioError, stream_audio
from musrep_jax.runtime.workers import Worker, WorkerDiedError, serve

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
        self._worker: Worker | None = None

    def decode(self, path: str) -> Iterator[np.ndarray]:
        """Yields the blocks of a file; raises `AudioError`, also when the process dies of it."""
        if self._worker is None:
            # The reason is more useful than the decoders' messages on standard error.
            self._worker = Worker(__name__, is_quiet=True)
        try:
            self._worker.send((path, self._sample_rate))
            while isinstance(answer := self._worker.receive(), np.ndarray):
                yield answer
        except WorkerDiedError as death:
            self.close()
            reason = f"cannot be read: the decoder crashes on it ({death})."
            raise AudioError(path, reason) from death
        if isinstance(answer, str):
            raise AudioError(path, answer)
        if answer is not _END:
            raise answer

    def kill(self) -> None:
        """Kills the process; a pending read of its audio gets an error."""
        if (worker := self._worker) is not None:
            worker.kill()

    def close(self) -> None:
        """Lets go of the process, which has ended or is ended."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


Answer = np.ndarray | str | OSError | None
"""A block of audio; at the end the reason why there is no more, an error of the system, or None."""


def answer(request: tuple[str, int], send: Callable[[Answer], None]) -> None:
    """Decodes a file for the parent.

    Args:
        request: path and sample rate in Hz.
        send: sends an answer.
    """
    path, sample_rate = request
    try:
        for block in stream_audio(path, sample_rate):
            send(np.ascontiguousarray(block))
    except AudioError as error:
        send(error.reason)
    except OSError as error:
        send(OSError(error.errno, error.strerror or str(error), path))
    else:
        send(_END)


if __name__ == "__main__":
    serve(answer)
