"""A process that makes shards for another one; both ends of the line.

Nothing that it stored is lost when it ends.
"""

import contextlib
import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

from musrep_jax.data.build.shards import Shard, ShardRecipe, make_shard
from musrep_jax.runtime.workers import Worker, WorkerDiedError, serve


class ShardWorkerDiedError(Exception):
    """A worker has ended without an answer; the message says how."""


class ShardWorker:
    """A worker process, seen from its parent.

    Attributes:
        line: readable when there is an answer.
        shard: that it makes.
    """

    def __init__(self, recipe: bytes, inherited_fds: tuple[int, ...] = ()) -> None:
        """Starts the process.

        Args:
            recipe: a pickled `ShardRecipe`.
            inherited_fds: file descriptors that the process holds as long as it lives.
        """
        self.shard: Shard | None = None
        self.line = Worker(__name__, inherited_fds=inherited_fds)
        with self._told():
            self.line.send(recipe)

    def make(self, shard: Shard) -> None:
        """Gives the worker a shard to make; answers follow."""
        self.shard = shard
        with self._told():
            self.line.send(shard)

    def receive(self) -> tuple[str, Any]:
        """Returns the next answer: ("track", whether it was refused) for each track,
        ("shard", `ShardStats`) when the shard is done, ("error", exception).

        Raises:
            ShardWorkerDiedError: if there is none and never will be.
        """
        with self._told():
            return self.line.receive()

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        self.line.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except WorkerDiedError as death:
            how = f"by {death}" if death.code < 0 else f"with code {death.code}"
            if death.code == -getattr(signal, "SIGKILL", 9):
                how += ", as the system does it when memory runs out,"
            made = self.shard.name if self.shard else "ready"
            raise ShardWorkerDiedError(f"{how} while it made {made}") from death


def make_handler() -> Callable[[Any, Callable[[Any], None]], None]:
    """Returns what answers a parent: first comes a pickled recipe, then shards."""
    recipe: ShardRecipe | None = None

    def handle(request: bytes | Shard, send: Callable[[Any], None]) -> None:
        nonlocal recipe
        if recipe is None:
            recipe = pickle.loads(request)
            return
        try:
            facts = make_shard(request, recipe, lambda piece: send(("track", piece.is_refused)))
        except Exception as error:
            send(("error", _to_picklable_error(error)))
        else:
            send(("shard", facts))

    return handle


def _to_picklable_error(error: Exception) -> Exception:
    """Returns an error that can be sent, the same where that is possible."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    serve(make_handler())
