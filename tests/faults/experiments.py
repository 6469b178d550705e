"""A small experiment that faults are caused in: one cell, a narrow model, four evaluations."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np

from musrep_jax.command_line import main
from musrep_jax.training.checkpoints import load_export

NUM_STEPS = 20
FLAGS = (
    "--config=configs/tagging.py:smoke",
    "--config.data.name=synthetic_cultures/western",
    "--config.model.name=vgg_ish",
    "--config.model.n_channels=4",
    "--config.model.num_samples=33000",
    "--config.optimizer.name=adam_sgd",
    "--config.optimizer.switch_at=(12,)",
    "--config.optimizer.switch_unit=steps",
    "--config.optimizer.sgd_learning_rates=(1e-3,)",
    f"--config.train.num_steps={NUM_STEPS}",
    "--config.train.evaluate_every_steps=5",
    "--config.train.log_every_steps=1",
    "--config.train.checkpoint_every_minutes=0",
    "--config.train.num_devices=1",
    "--config.minutes=600.0",  # of the clock, which runs otherwise after a fault
)
TIMES = ("seconds", "steps_per_second", "data_wait")


class Experiment:
    """Runs the experiment in workdirs; all of them share one data folder.

    Attributes:
        data_dir: where data sets are built and compiled programs are kept.
        flags: what the experiment is.
    """

    def __init__(self, data_dir, repository, flags=FLAGS):
        self.data_dir, self.repository, self.flags = data_dir, repository, flags

    def words(self, workdir, *flags):
        return [
            "main.py", *self.flags, f"--config.data.data_dir={self.data_dir}",
            f"--workdir={workdir}", *flags,
        ]  # fmt: skip

    def run(self, workdir, *flags):
        """Runs it in this process; returns the exit code."""
        return main(self.words(workdir, *flags))

    def run_until(self, step, workdir, *flags, number=signal.SIGTERM):
        """Runs it here until the checkpoint of a step is there, then sends this process a signal.

        Returns the exit code.
        """
        with run_action_when(
            lambda: list(workdir.glob(f"cells/*/checkpoints/{step}")),
            lambda: os.kill(os.getpid(), number),
        ):
            return self.run(workdir, *flags)

    @contextlib.contextmanager
    def started(self, workdir, *flags, output=None, **environment):
        """Starts it in a process group of its own, which is killed at the end.

        What it prints goes to a pipe, or to the file `output`, which never is full.
        """
        with (
            contextlib.nullcontext(subprocess.PIPE) if output is None else output.open("w") as out,
            subprocess.Popen(
                [sys.executable, *self.words(workdir, *flags)],
                cwd=self.repository,
                env={**os.environ, "XLA_FLAGS": "", **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def run_action_when(when, action):
    """Inside, a thread waits until `when` returns something true, and acts once."""
    is_over = threading.Event()

    def act():
        while not is_over.wait(0.002):
            if when():
                action()
                return

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def strip_times(value):
    if isinstance(value, dict):
        return {k: strip_times(v) for k, v in value.items() if k not in TIMES}
    return [strip_times(item) for item in value] if isinstance(value, list) else value


def first_difference(one, other, where=""):
    """Returns where two JSON values differ first, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = ((key, one.get(key), other.get(key)) for key in one.keys() | other.keys())
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(range(len(one)), one, other, strict=True)
    else:
        return f"{where}: {one!r:.500} and {other!r:.500}"
    return next(first_difference(a, b, f"{where}/{key}") for key, a, b in pairs if a != b)


def assert_same_outcome(one: pathlib.Path, other: pathlib.Path):
    """Results, logged losses and metrics, scores and exports are the same, bit for bit."""
    for name in ("results.json", "metrics.jsonl"):
        texts = [(workdir / name).read_text(encoding="utf-8") for workdir in (one, other)]
        if name.endswith("jsonl"):
            texts = [f"[{','.join(text.splitlines())}]" for text in texts]
        first, second = (strip_times(json.loads(text)) for text in texts)
        assert first == second, f"{name}: {first_difference(first, second)}"
    for file in one.glob("cells/*/scores.npz"):
        with np.load(file) as first, np.load(other / file.relative_to(one)) as second:
            assert np.array_equal(first["scores"], second["scores"])
    for export in one.glob("exports/*"):
        first, second = (load_export(path / "exports" / export.name) for path in (one, other))
        jax.tree.map(np.testing.assert_array_equal, first[0], second[0])
        assert {**first[1], "versions": None} == {**second[1], "versions": None}


def wait_for(condition, seconds=120.0):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def mount(*words):
    """Returns whether a mount command worked: it does where we are root and may."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    return done.returncode == 0
