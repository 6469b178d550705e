"""Batches one step ahead: read and put on the device by a thread while the device computes."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import jax

from musrep_jax.types import Batch, Metrics

_POLL_SECONDS = 0.2


class Prefetch:
    """An ordered stream of batches on the device, with the time spent waiting for them.

    Use as a context manager: leaving it stops the thread.

    Args:
        batches: iterator of host batches.
        place: host batch -> batch on the device.

    Attributes:
        wait_seconds: time for which the device was idle because no batch was ready, so far.
    """

    def __init__(self, batches: Iterator[Any], place: Callable[[Any], Batch]) -> None:
        self.wait_seconds = 0.0
        self._queue: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(batches, place), name="prefetch", daemon=True
        )

    def _read(self, batches: Iterator[Any], place: Callable[[Any], Batch]) -> None:
        """Fills the queue until told to stop; the stream's error is its last entry."""
        try:
            while not self._stop.is_set():
                self._put((place(next(batches)), None))
        except BaseException as error:  # handed to the training thread, which raises it
            self._put((None, error))
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _put(self, entry: tuple[Batch | None, BaseException | None]) -> None:
        """Puts an entry unless the reader has exited."""
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def next(self, running: Metrics | None) -> Batch:
        """Returns the next batch.

        Args:
            running: metrics of the step that the device works on; time counts as waiting only
                once they are there and the batch is not.

        Raises:
            ValueError: when the stream of batches ended.
            BaseException: what the stream of batches raised.
        """
        try:
            batch, error = self._queue.get_nowait()
        except queue.Empty:
            jax.block_until_ready(running)
            start = time.perf_counter()
            batch, error = self._queue.get()
            self.wait_seconds += time.perf_counter() - start
        if isinstance(error, StopIteration):
            raise ValueError(
                "The stream of batches ended before the last step; give fit an endless stream "
                "or a smaller num_steps."
            ) from error
        if error is not None:
            raise error
        assert batch is not None, "an entry of the queue is a batch or an error"
        return batch

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)
