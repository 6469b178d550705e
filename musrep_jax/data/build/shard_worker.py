"""A process that makes shards for another one; both ends of the line.

A fresh Python, neither forked from a process that may hold JAX nor running its main module again.
It ends at once when the line is closed, and so when its parent dies, however that happens; nothing
that it stored is lost. Ctrl-C in a terminal reaches the parent alone.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from musrep_jax.data.build.shards import Shard, ShardRecipe, make_shard


class WorkerDiedError(Exception):
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
        self.line, theirs = Pipe()
        self.shard: Shard | None = None
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # What a library prints is no result of ours.
            pass_fds=(theirs.fileno(), *inherited_fds),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )
        theirs.close()
        self._send(self.line.send_bytes, recipe)

    def make(self, shard: Shard) -> None:
        """Gives the worker a shard to make; answers follow."""
        self.shard = shard
        self._send(self.line.send, shard)

    def receive(self) -> tuple[str, Any]:
        """Returns the next answer: ("track", whether it was refused) for each track,
        ("shard", `ShardStats`) when the shard is done, ("error", exception).

        Raises:
            WorkerDiedError: if there is none and never will be.
        """
        try:
            return self.line.recv()
        except (EOFError, ConnectionError) as error:
            raise self._make_worker_died_error() from error

    def _send(self, send: Callable[[Any], None], what: Any) -> None:
        try:
            send(what)
        except ConnectionError as error:
            raise self._make_worker_died_error() from error

    def _make_worker_died_error(self) -> WorkerDiedError:
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        if code == -signal.SIGKILL:
            how += ", as the system does it when memory runs out,"
        return WorkerDiedError(f"{how} while it made {self.shard.name if self.shard else 'ready'}")

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self.line.close()


def main(line: Connection) -> None:
    """Makes the shards that come along a line, until it is closed.

    Args:
        line: to the parent.
    """
    recipe: ShardRecipe = pickle.loads(line.recv_bytes())
    shards: queue.SimpleQueue[Shard] = queue.SimpleQueue()

    def receive() -> None:
        while True:
            try:
                shards.put(line.recv())
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        shard = shards.get()
        try:
            facts = make_shard(shard, recipe, lambda piece: line.send(("track", piece.is_refused)))
        except Exception as error:
            line.send(("error", _to_picklable_error(error)))
        else:
            line.send(("shard", facts))


def _to_picklable_error(error: Exception) -> Exception:
    """Returns an error that can be sent, the same where that is possible."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
