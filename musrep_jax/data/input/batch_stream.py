"""A stream of batches from a Grain data set, by a thread or by processes that may be killed."""

import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_PREFETCH_BATCHES = 3
"""Prepared by a thread while the accelerator works; Grain's own default of 500 fills the memory."""
_MAX_RESTARTS = 3

Batch = Mapping[str, "np.ndarray | Batch"]
"""One stream, arrays (examples, ...) of one length; or named streams of any sizes."""


class WorkerError(RuntimeError):
    """Processes that prepare batches do not live long enough to prepare one."""


class BatchStream(Iterator[Batch]):
    """A Grain iterator that ends its threads and processes when it is no longer used.

    Left to themselves at the end of a program, workers complain and leave shared memory behind.
    When a worker is killed, all are started again at the batch that is due.
    """

    def __init__(self, dataset: Any, num_workers: int = 0) -> None:
        """Begins to prepare batches.

        Args:
            dataset: Grain `MapDataset` of batches.
            num_workers: processes that prepare them; 0 is a thread of this one.
        """
        self._dataset, self._num_workers = dataset, num_workers
        self._num_done = self._num_failures = 0
        self._held = [self._start()]
        self.close = weakref.finalize(self, _close, self._held)

    def _start(self) -> Any:
        """Returns a Grain iterator over the batches that are left."""
        import grain

        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCH_BATCHES)
        batches = self._dataset[self._num_done :].to_iter_dataset(options)
        if self._num_workers:
            from absl import flags

            # Grain 0.2.18 reads a flag on the way to its workers, and raises in a program (a
            # notebook, a script without absl) that has parsed none.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            workers = grain.MultiprocessingOptions(num_workers=self._num_workers)
            batches = batches.mp_prefetch(workers, worker_init_fn=_exit_with_parent)
        return iter(batches)

    def __next__(self) -> Batch:
        while self._held:
            try:
                batch = next(self._held[0])
            except RuntimeError as error:
                if "terminated unexpectedly" not in str(error):  # Grain has no type of its own
                    raise
                self._restart(error)
            else:
                self._num_done += 1
                self._num_failures = 0
                return batch
        raise StopIteration

    def _restart(self, error: RuntimeError) -> None:
        """Starts new workers at the batch that is due, a few times in a row at most."""
        self._num_failures += 1
        if self._num_failures > _MAX_RESTARTS:
            raise WorkerError(
                f"The processes that prepare batches were killed {self._num_failures} times in a "
                "row, often for want of memory: lower data.num_workers or data.cache_megabytes."
            ) from error
        print(
            "a process that prepares batches was killed: starting it again at the same batch",
            file=sys.stderr,
            flush=True,
        )
        _close(self._held)
        self._held.append(self._start())


def _exit_with_parent(index: int, num_workers: int) -> None:
    """Prepares a worker process: its parent alone decides when it ends, and takes it with it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a terminal sends them to workers too
        if hasattr(signal, name):  # there is no SIGHUP on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def leave() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _close(held: list[Any]) -> None:
    """Closes an iterator and lets go of it, before the interpreter takes modules apart."""
    held.pop().close()
