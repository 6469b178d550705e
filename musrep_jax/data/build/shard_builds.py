"""How all shards of a data set get made: one build at a time, on all cores, within the disk."""

import collections
import contextlib
import os
import pathlib
import pickle
import shutil
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait

from musrep_jax.data.build.lock import BUILD_LOCK_FILE, BuildInterruptedError, say
from musrep_jax.data.build.shard_worker import ShardWorker, ShardWorkerDiedError
from musrep_jax.data.build.shards import (
    Piece,
    Shard,
    ShardRecipe,
    ShardStats,
    count_pieces,
    make_shard,
    read_shard_stats,
)
from musrep_jax.runtime.files import DISK_FULL_ERRNOS
from musrep_jax.runtime.locks import lock_files
from musrep_jax.runtime.progress import Progress

SERIAL_SECONDS = 2.0
"""Seconds that a build runs in this process before it may start workers."""
MIN_PARALLEL_SECONDS = 6.0
"""What must be left to do for that: a worker takes over a second to start."""
_GIGABYTE = 1e9


def prepare_build_folder(folder: pathlib.Path, keep: str) -> None:
    """Prepares a held building folder: what belongs to other tracks goes, and half-written files.

    Args:
        folder: of the build.
        keep: tells the tracks; what was made for others is of no use.
    """
    mark = folder / f"plan-{keep}"
    if not mark.exists():
        held = lock_files(BUILD_LOCK_FILE)
        others = [path for path in folder.iterdir() if path.name not in held]
        if others:
            say("what an interrupted build had made is of other tracks or files: starting anew")
        # The marks first: what is half removed must belong to no tracks at all.
        for path in sorted(others, key=lambda path: path.is_dir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        mark.touch()
    for path in folder.rglob("*.tmp"):
        path.unlink()


# Within the disk.


def check_space(
    folder: pathlib.Path, shards: Sequence[Shard], estimate: int | None, num_workers: int
) -> None:
    """Reports the disk space that a build needs and that is free, and refuses one that cannot fit.

    Args:
        folder: of the build.
        shards: of the data set.
        estimate: of the finished data set in bytes; None if it is not known.
        num_workers: each of which keeps the tracks of one shard twice, while it joins them.

    Raises:
        BuildInterruptedError: if it cannot fit.
    """
    num_tracks = sum(len(shard.tracks) for shard in shards)
    if estimate is None or not num_tracks:
        return
    left = num_tracks - sum(count_finished_tracks(folder, shard) for shard in shards)
    largest = max(len(shard.tracks) for shard in shards)
    temporary = min(left, largest * num_workers)
    need, free = estimate * (left + temporary) / num_tracks, shutil.disk_usage(folder).free
    numbers = f"about {_size(need)}, and {_size(free)} are free in {folder.parent}"
    if need > free:
        raise BuildInterruptedError(
            f"the disk is too small: the build needs {numbers}; make room, or build elsewhere "
            "(--data-dir, or MUSREP_DATA)."
        )
    if need > 0.1 * _GIGABYTE:
        say(f"the build needs {numbers}")


def count_finished_tracks(folder: pathlib.Path, shard: Shard) -> int:
    """Returns how many tracks of a shard need not be made any more."""
    done = read_shard_stats(folder, shard) is not None
    return len(shard.tracks) if done else count_pieces(folder, shard)


@contextlib.contextmanager
def reraise_disk_full_as_build_error(folder: pathlib.Path) -> Iterator[None]:
    """Turns the error of a full disk into a sentence.

    Raises:
        BuildInterruptedError: in place of that error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise BuildInterruptedError(
            f"the disk is full ({_size(shutil.disk_usage(folder).free)} are free in {folder}); "
            "finished work is kept: free some space, and the same command resumes."
        ) from error


def _size(num_bytes: float) -> str:
    unit, name = (1e9, "GB") if num_bytes >= 1e9 else (1e6, "MB")
    return f"{num_bytes / unit:.1f} {name}"


# On all cores.


def make_shards(
    shards: Sequence[Shard],
    recipe: ShardRecipe,
    *,
    num_workers: int | None = None,
    inherited_fds: tuple[int, ...] = (),
) -> list[ShardStats]:
    """Builds the missing shards and returns the contents of all.

    Args:
        shards: of the data set.
        recipe: how they are made.
        num_workers: processes; 1 makes all in this one, as does what the main script defines, which
            no other process knows. None takes one for each core, but only when the build has gone
            on for some seconds and there is more to come.
        inherited_fds: file descriptors that workers hold as long as they live.

    Raises:
        BuildInterruptedError: if a worker is killed.
    """
    folder = pathlib.Path(recipe.folder)
    tally = Tally(
        sum(len(shard.tracks) for shard in shards),
        sum(count_finished_tracks(folder, shard) for shard in shards),
    )
    wanted = num_workers or count_cores()
    todo = [shard for shard in shards if read_shard_stats(folder, shard) is None]
    with contextlib.closing(tally):
        if wanted == 1 or num_workers is None or not _can_send_to_workers(recipe, shards):
            todo = _make_serially(todo, recipe, tally, may_switch=wanted > 1)
        if todo:
            _make_in_parallel(todo, recipe, tally, min(wanted, len(todo)), inherited_fds)
    return [read_shard_stats(folder, shard) for shard in shards]


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _SwitchToWorkers(Exception):
    """It is worth while to go on with workers."""


def _can_send_to_workers(recipe: ShardRecipe, shards: Sequence[Shard]) -> bool:
    """Returns whether another process can know what is sent to it: not what the main script or a
    notebook defines."""
    return b"__main__" not in pickle.dumps((recipe, shards[:1]))


def _make_serially(
    shards: Sequence[Shard], recipe: ShardRecipe, tally: "Tally", may_switch: bool
) -> Sequence[Shard]:
    """Makes shards in this process; returns those that are left, if it paused."""

    def on_track(piece: Piece) -> None:
        tally.add(piece.is_refused)
        is_slow = tally.seconds > SERIAL_SECONDS and tally.seconds_left > MIN_PARALLEL_SECONDS
        if (
            is_slow
            and may_switch
            and number + 1 < len(shards)
            and _can_send_to_workers(recipe, shards)
        ):
            raise _SwitchToWorkers

    for number, shard in enumerate(shards):
        try:
            make_shard(shard, recipe, on_track)
        except _SwitchToWorkers:
            return shards[number:]
    return []


def _make_in_parallel(
    shards: Sequence[Shard],
    recipe: ShardRecipe,
    tally: "Tally",
    num_workers: int,
    inherited_fds: tuple[int, ...],
) -> None:
    waiting = collections.deque(shards)
    content = pickle.dumps(recipe)
    workers: dict = {}
    try:
        for _ in range(num_workers):
            worker = ShardWorker(content, inherited_fds)
            workers[worker.line] = worker
            worker.make(waiting.popleft())
        while workers:
            for line in wait(list(workers)):
                worker = workers[line]
                kind, value = worker.receive()
                if kind == "error":
                    raise value
                if kind == "track":
                    tally.add(value)
                elif waiting:
                    worker.make(waiting.popleft())
                else:
                    workers.pop(line).stop()
    except ShardWorkerDiedError as death:
        raise BuildInterruptedError(
            f"a worker process ended {death}; finished work is kept: run the same command again, "
            "with fewer workers (--workers 1) if memory is short."
        ) from death
    finally:
        for worker in workers.values():
            worker.stop()


class Tally:
    """Counts the tracks as they are made, and tells on standard error how far a build is.

    Attributes:
        num_tracks: in all.
        num_done: of them, with those made earlier.
    """

    def __init__(self, num_tracks: int, num_done: int) -> None:
        """Starts the clock.

        Args:
            num_tracks: in all.
            num_done: made earlier.
        """
        self.num_tracks, self.num_done = num_tracks, num_done
        self._num_refused = self._num_made = 0
        self._start = time.monotonic()
        if num_done:
            say(f"going on: {num_done} of {num_tracks} tracks were made already")
        self._progress = Progress("made", "tracks")
        self._progress(num_done, num_tracks)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    @property
    def seconds_left(self) -> float:
        """At the rate until now."""
        return (self.num_tracks - self.num_done) * self.seconds / max(1, self._num_made)

    def add(self, is_refused: bool) -> None:
        """Counts a track."""
        self.num_done += 1
        self._num_made += 1
        self._num_refused += is_refused
        self._progress(self.num_done, self.num_tracks, f"{self._num_refused} refused")

    def close(self) -> None:
        """Ends the progress display."""
        self._progress.close()
