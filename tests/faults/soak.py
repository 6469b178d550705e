"""A long run that is stopped and killed again and again, beside one that nothing happens to.

    python tests/faults/soak.py                              # half an hour, twenty stops
    python tests/faults/soak.py --minutes 1 --stops 3        # does it run at all

The experiment is a transfer of narrow models: per seed a source, a scratch cell and two transfers,
each trained, evaluated, saved, tested and exported. Its second seed is timed, when all programs are
compiled, which says how many seeds fill the time. Then two processes make all of them in two
workdirs: one in a single life, the other in many, that end by SIGKILL, SIGTERM, or SIGTERM with
SIGKILL soon after, at random moments, and that have other numbers of data workers; the moments are
spread over what is left to do. Once a second the resident memory, the open files and the children
of both are read.

It fails if a life ends otherwise than by its stop, if the outcomes differ (results, every logged
loss and metric, scores, exported arrays and cards: bit for bit, apart from times), or if memory
(beyond what is known to be lost in each save) or open files of the single life grow.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from experiments import Experiment, assert_same_outcome, wait_for

FLAGS = (
    "--config=configs/transfer.py:smoke",
    "--config.model.name=vgg_ish",
    "--config.model.n_channels=4",
    "--config.model.num_samples=33000",
    "--config.optimizer.name=adam_sgd",
    "--config.optimizer.switch_at=(60,)",
    "--config.optimizer.switch_unit=steps",
    "--config.optimizer.sgd_learning_rates=(1e-3,)",
    "--config.train.num_steps=120",
    "--config.train.evaluate_every_steps=10",
    "--config.train.log_every_steps=1",
    "--config.train.checkpoint_every_minutes=0",
)
STOP_METHODS = ("SIGKILL", "SIGTERM", "SIGTERM, SIGKILL")
SIGTERM_EXIT_CODE = 143
CELLS_PER_SEED, SAVES_PER_CELL = 4, 12
MORE_MEMORY = 1.05
"""The last quarter of a life may take so much of its second quarter's memory."""
MORE_FILES = 8
"""A short run's quarter sees parts of a cell only, which has from 7 to 33 files open."""
MAX_LEAKED_BYTES_PER_SAVE = 40_000
"""Bytes that it may take more for every save in between, a share of its cell's export included:
tensorstore (0.1.72 to 0.1.86) keeps what it turns from JSON into Python objects, such as the place
of every array, with a reference too many.
"""


@dataclasses.dataclass
class ProcessRecord:
    """What was seen of one process, from its lock on.

    Attributes:
        end: how it was stopped; "its own" for one that came to its end.
        seconds: until then.
        code: exit code, negative for a signal.
        workers: data workers asked for.
        resumed: the steps after which a cell went on.
        cells: that are done in the workdir, once a second.
        memory: resident bytes, once a second.
        files: open files, once a second.
        children: child processes, once a second.
    """

    end: str
    workers: int = 0
    seconds: float = 0.0
    code: int = 0
    resumed: Sequence[int] = ()
    cells: list[int] = dataclasses.field(default_factory=list)
    memory: list[int] = dataclasses.field(default_factory=list)
    files: list[int] = dataclasses.field(default_factory=list)
    children: list[int] = dataclasses.field(default_factory=list)

    def watch(self, pid: int, workdir: pathlib.Path, is_over: threading.Event) -> None:
        """Reads memory, files and children of a process once a second until it is over."""
        folder, page = pathlib.Path("/proc", str(pid)), os.sysconf("SC_PAGE_SIZE")
        while not is_over.wait(1.0):
            try:
                memory = page * int((folder / "statm").read_text().split()[1])
                files = len(list((folder / "fd").iterdir()))
                children = (folder / "task" / str(pid) / "children").read_text().split()
            except (OSError, IndexError):  # it has ended between two reads
                return
            self.cells.append(count_cells(workdir))
            self.memory.append(memory)
            self.files.append(files)
            self.children.append(len(children))

    def row(self) -> str:
        """Returns a row of the table: memory and files at first, at most and at last."""
        mb = [round(value / 1e6) for value in self.memory] or [0]
        files = self.files or [0]
        resumed = ", ".join(str(step) for step in self.resumed) or "-"
        return (
            f"| {self.end} | {self.workers} | {self.seconds:.0f} | {self.code} | {resumed} "
            f"| {mb[0]} / {max(mb)} / {mb[-1]} | {files[0]} / {max(files)} / {files[-1]} "
            f"| {max(self.children, default=0)} |"
        )


HEAD = (
    "| end | workers | seconds | code | resumed after steps | MB first / most / last "
    "| open files first / most / last | children at most |\n" + "| --- " * 8 + "|"
)


def live(
    experiment: Experiment, workdir: pathlib.Path, seeds: int, life: ProcessRecord
) -> ProcessRecord:
    """Runs the experiment, stops it if the life says so, and returns the life.

    Args:
        experiment: with its flags.
        workdir: of the run.
        seeds: number of seeds that it makes.
        life: with its end, its workers and the seconds after which it is stopped.

    Raises:
        AssertionError: if the process ended otherwise than by its stop.
    """
    flags = (f"--config.seeds={','.join(map(str, range(seeds)))}",)
    flags += (f"--config.data.num_workers={life.workers}",)
    text = workdir.with_name(f"{workdir.name}.txt")
    with experiment.started(workdir, *flags, output=text) as process:
        wait_for(
            lambda: (
                f'"pid": {process.pid}' in read(workdir / ".lock") or process.poll() is not None
            ),
            seconds=600,
        )
        started, is_over = time.monotonic(), threading.Event()
        thread = threading.Thread(target=life.watch, args=(process.pid, workdir, is_over))
        thread.start()
        try:
            process.wait(None if life.end == "its own" else life.seconds)
        except subprocess.TimeoutExpired:
            stop(process, life.end)
        finally:
            is_over.set()
            thread.join()
        life.code, life.seconds = process.returncode, time.monotonic() - started
    said = text.read_text(encoding="utf-8", errors="replace")
    life.resumed = [int(step) for step in re.findall(r"resumed after step (\d+)", said)]
    wanted = {
        "SIGKILL": {-signal.SIGKILL},
        "SIGTERM": {SIGTERM_EXIT_CODE},
        "SIGTERM, SIGKILL": {-signal.SIGKILL, SIGTERM_EXIT_CODE},
        "its own": {0},
    }
    if life.code == 0 and life.end != "its own":
        raise AssertionError(
            f"All was done before the stop after {life.seconds:.0f} s: more --seeds."
        )
    assert life.code in wanted[life.end], f"{life.end}: exit code {life.code}\n{said}"
    assert "Traceback" not in said, said
    return life


def read(path: pathlib.Path) -> str:
    """Returns the text of a file, "" when there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def stop(process: subprocess.Popen, end: str) -> None:
    """Stops a process and its workers, and waits for its end."""
    first, _, second = end.partition(", ")
    os.killpg(process.pid, signal.Signals[first])
    if second:
        try:
            process.wait(random.uniform(0, 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.Signals[second])
    process.wait(120)


def count_cells(workdir: pathlib.Path) -> int:
    """Returns how many cells of a workdir are done."""
    return len(list(workdir.glob("cells/*/result.json")))


def growth(life: ProcessRecord, values: Sequence[int], num_cells: int) -> tuple[float, float]:
    """Returns the medians of a life's second and last quarter.

    Counted from the end of the first seed, when all programs are compiled, to the end of the last
    cell, when tables and figures are made.
    """
    made = [v for v, n in zip(values, life.cells, strict=True) if CELLS_PER_SEED <= n < num_cells]
    quarter = len(made) // 4
    assert quarter, f"{len(made)} seconds are too few to see growth: more --seeds"
    return statistics.median(made[quarter : 2 * quarter]), statistics.median(made[-quarter:])


def choose_seeds(minutes: float, experiment: Experiment, workdir: pathlib.Path) -> int:
    """Returns how many seeds fill the time, by a run of two.

    Args:
        minutes: to fill.
        experiment: with its flags.
        workdir: of the run.
    """
    for number in (1, 2):
        timed = live(experiment, workdir, number, ProcessRecord("its own"))
    # Two processes run at a time, and one of them is often about to start or to repeat.
    share = 0.6 * min(1.0, len(os.sched_getaffinity(0)) / 2)
    return max(1, round(60 * minutes * share / timed.seconds))


def soak(
    experiment: Experiment, folder: pathlib.Path, minutes: float, stops: int, seeds: int = 0
) -> list[ProcessRecord]:
    """Runs it; returns the lives, the single one first.

    Args:
        experiment: with its flags.
        folder: for the workdirs.
        minutes: about so long the killed run takes.
        stops: how often it is stopped.
        seeds: that are made; 0 is as many as fill the time.

    Raises:
        AssertionError: if something is not as it should be.
    """
    seeds = max(2, seeds or choose_seeds(minutes, experiment, folder / "timed"))
    print(f"{seeds} seeds are made", file=sys.stderr, flush=True)
    single = ProcessRecord("its own")
    beside = threading.Thread(target=live, args=(experiment, folder / "whole", seeds, single))
    beside.start()
    lives, killed, left = [], folder / "killed", 60 * minutes
    num_cells = CELLS_PER_SEED * seeds
    for number in range(stops):
        pause = random.uniform(0.2, 1.8) * left / (stops - number + 1)
        life = ProcessRecord(STOP_METHODS[number % len(STOP_METHODS)], number % 3, pause)
        lives.append(live(experiment, killed, seeds, life))
        print(lives[-1].row(), file=sys.stderr, flush=True)
        done = count_cells(killed)
        lived = sum(life.seconds for life in lives)
        left = min(left, lived / max(1, done) * (num_cells - done))
    lives.append(live(experiment, killed, seeds, ProcessRecord("its own")))
    beside.join()
    assert_same_outcome(folder / "whole", killed)
    before, after = growth(single, single.memory, num_cells)
    lost = (
        MAX_LEAKED_BYTES_PER_SAVE * SAVES_PER_CELL * (num_cells - CELLS_PER_SEED) / 2
    )  # between quarters
    assert after <= MORE_MEMORY * before + lost, f"memory grew from {before} to {after}"
    before, after = growth(single, single.files, num_cells)
    assert after <= before + MORE_FILES, f"open files grew from {before} to {after}"
    return [single, *lives]


def main() -> None:
    """Runs what the command line says and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=0, help="as many as fill the minutes if 0")
    parser.add_argument("--random", type=int, default=0, help="seed of the moments")
    parser.add_argument("--data", type=pathlib.Path, help="folder of data and compiled programs")
    settings = parser.parse_args()
    random.seed(settings.random)
    folder, repository = pathlib.Path(tempfile.mkdtemp()), pathlib.Path(__file__).resolve()
    print(f"working in {folder}, which stays if this fails", file=sys.stderr, flush=True)
    experiment = Experiment(settings.data or folder / "data", repository.parents[2], FLAGS)
    lives = soak(experiment, folder, settings.minutes, settings.stops, settings.seeds)
    shutil.rmtree(folder)
    print("\n".join([HEAD, *(life.row() for life in lives)]))
    for what in ("memory", "files"):
        before, after = growth(lives[0], getattr(lives[0], what), max(lives[0].cells))
        print(f"{what} of the single life, second and last quarter: {before:.0f}, {after:.0f}")
    print("The outcomes are the same, bit for bit.")


if __name__ == "__main__":
    main()
