"""Models of `benchmarks/models.py` in processes of their own: compiled together, measured in turn.

A job is the same command for one model. On a device that all of them share, a job that has compiled
waits until all others have, or `--compile-limit` is over, and then for its turn; who is late is
left out. On a CPU with `--threads` every job has cores of its own, and nobody waits for anybody.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import filelock

POLL_SECONDS = 0.1


@contextlib.contextmanager
def lock_measurement(folder: str) -> Iterator[None]:
    """Within this context, no other job of the folder is measured.

    Args:
        folder: of this job, in the folder of all jobs.
    """
    job = pathlib.Path(folder)
    (job / "ready").touch()
    while not (job.parent / "start").exists():
        time.sleep(POLL_SECONDS)
    with filelock.FileLock(job.parent / "lock"):
        yield


def child_environment(settings: argparse.Namespace) -> dict[str, str]:
    """Returns the variables with which jobs share a device's memory and the cores."""
    workers = max(1, (os.cpu_count() or 1) // max(1, settings.jobs))
    known = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TORCHINDUCTOR_COMPILE_THREADS": str(workers),
    }
    return {name: os.environ.get(name, value) for name, value in known.items()}


def make_command(name: str, folder: pathlib.Path, settings: argparse.Namespace) -> list[str]:
    """Returns the command of a job: this one, for one model and a folder of its own."""
    told = {**vars(settings), "models": name, "out": str(folder), "jobs": 0, "limit": None}
    told |= {"steps": ",".join(settings.steps), "turn": "" if settings.threads else str(folder)}
    command = [sys.executable, str(pathlib.Path(__file__).with_name("models.py"))]
    for option, value in told.items():
        flag = "--" + option.replace("_", "-")
        command += [flag] if value is True else [f"{flag}={value}"] * bool(value)
    return command


class Job:
    """A running job.

    Attributes:
        name: of the model, perhaps with its batch.
        slot: number of its place among the jobs that run at a time.
        folder: where its results and its standard error go.
        process: that runs it.
        threads: number of cores of its own, or 0.
    """

    def __init__(self, name: str, slot: int, folder: pathlib.Path, settings: argparse.Namespace):
        """Starts it."""
        self.name, self.slot, self.folder = name, slot, folder / name
        self.threads = settings.threads
        self.folder.mkdir()
        self.started = time.monotonic()
        with (self.folder / "errors").open("w") as errors:
            self.process = subprocess.Popen(
                make_command(name, self.folder, settings),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **child_environment(settings)},
                preexec_fn=self.pin_cores if settings.threads else None,
            )

    def pin_cores(self) -> None:
        """Binds the process that calls it to the cores of this job's place."""
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[self.slot * self.threads :][: self.threads])

    def is_running(self) -> bool:
        """Returns whether the process has not ended."""
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Returns whether it waits for its turn, or has had it."""
        return (self.folder / "ready").exists() or not self.is_running()

    def stop(self, reason: str) -> None:
        """Ends it and says so on standard error."""
        self.process.kill()
        self.process.wait()
        print(f"{self.name} is left out: {reason}.", file=sys.stderr, flush=True)

    def record(self) -> dict | None:
        """Returns what it has measured, or None; says so if it has failed."""
        if self.process.returncode > 0:  # not one that was stopped
            errors = (self.folder / "errors").read_text(encoding="utf-8").splitlines()
            said = " | ".join(errors[-3:])
            print(f"{self.name} failed ({self.process.returncode}): {said}", file=sys.stderr)
        path = self.folder / "models.json"
        if not path.exists():
            return None
        return json.loads(path.read_text(encoding="utf-8"))["models"][0]


def run_jobs(names: list[str], settings: argparse.Namespace, add: Callable[[dict], None]) -> None:
    """Runs a job per model, at most `settings.jobs` at a time.

    Args:
        names: of models.
        settings: of the command line.
        add: is called with the record of every job, as soon as it has ended.
    """
    ends = time.monotonic() + settings.limit
    waiting = list(names)
    with tempfile.TemporaryDirectory() as root:
        while waiting and time.monotonic() < ends:
            if settings.threads:
                run_concurrently(waiting, settings, pathlib.Path(root), ends, add)
                continue
            # Jobs that measure in turn start together: one that compiles would disturb the others.
            folder = pathlib.Path(tempfile.mkdtemp(dir=root))
            wave, waiting = waiting[: settings.jobs], waiting[settings.jobs :]
            jobs = [Job(name, slot, folder, settings) for slot, name in enumerate(wave)]
            compiled = min(ends, time.monotonic() + settings.compile_limit)
            while time.monotonic() < compiled and not all(job.is_ready() for job in jobs):
                time.sleep(POLL_SECONDS)
            for job in jobs:
                if not job.is_ready():
                    job.stop(f"it was not compiled after {time.monotonic() - job.started:.0f} s")
            (folder / "start").touch()
            collect(jobs, ends, add)
        for name in waiting:
            print(f"{name} is left out: there was no time.", file=sys.stderr, flush=True)


def run_concurrently(
    waiting: list[str],
    settings: argparse.Namespace,
    folder: pathlib.Path,
    ends: float,
    add: Callable[[dict], None],
) -> None:
    """Runs jobs on cores of their own, the next one wherever one has ended."""
    running: list[Job] = []
    while (waiting or running) and time.monotonic() < ends:
        free = set(range(settings.jobs)) - {job.slot for job in running}
        for slot in sorted(free)[: len(waiting)]:
            running.append(Job(waiting.pop(0), slot, folder, settings))
        running = [job for job in running if not add_if_finished(job, add)]
        time.sleep(POLL_SECONDS)
    collect(running, ends, add)


def add_if_finished(job: Job, add: Callable[[dict], None]) -> bool:
    """Returns whether a job has ended; its record, if it has one, has been added then."""
    if job.is_running():
        return False
    record = job.record()
    if record is not None:
        add(record)
    return True


def collect(jobs: list[Job], ends: float, add: Callable[[dict], None]) -> None:
    """Waits for jobs, and stops those that are still running at the end of all time."""
    running = list(jobs)
    while running and time.monotonic() < ends:
        running = [job for job in running if not add_if_finished(job, add)]
        time.sleep(POLL_SECONDS)
    for job in running:
        job.stop("there was no time")
        add_if_finished(job, add)
