"""The proof of the seam: tasks with several networks and streams, without a change below `tasks/`.

A student with an averaged teacher on two streams, and an encoder on triplets, train on any number
of devices and processes, in parts, and after a crash and a signal, to the same parameters.
"""

import collections
import functools
import json
import math
import os
import re
import signal

import jax
import numpy as np
import pytest
import toy_experiment
from program_runs import run_processes
from toy_teacher_task import DECAY
from toy_tracks import ToyTracks
from toy_training import assert_trees_equal

from musrep_jax.training.checkpoints import load_export
from musrep_jax.training.logs import read_rows

KEYS = ("levels-seed0", "levels-encoder-seed0")


def run(folder, *, num_devices=1, optimizer=None, **settings):
    config = toy_experiment.get_config()
    config.optimizer.update(optimizer or {})
    config.train.update(num_devices=num_devices, **settings)
    return toy_experiment.run(config, str(folder))


def read(folder):
    """Returns key -> (parameters, result, training losses) of a run of both tasks."""
    results = {r["key"]: r for r in json.loads((folder / "results.json").read_text())["cells"]}
    assert set(results) == set(KEYS) and not any(r["error"] for r in results.values())
    found = {}
    for key, result in results.items():
        rows = read_rows(folder / "cells" / key / "metrics.jsonl")
        losses = {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
        params = load_export(folder / "exports" / key)[0]["params"]
        found[key] = (params, {k: result[k] for k in ("best_step", "metrics")}, losses)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both tasks on one device."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder) == 0
    return read(folder)


def assert_alike(ours, theirs, atol):
    """The same selection and results; losses to 1e-5, parameters (of size 1) to `atol`."""
    for key in KEYS:
        params, result, losses = ours[key]
        expected, expected_result, expected_losses = theirs[key]
        assert result == expected_result
        assert losses == pytest.approx(expected_losses, rel=1e-5)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=0, atol=atol), params, expected
        )


def test_both_tasks_learn(whole):
    params, result, losses = whole[KEYS[0]]
    (accuracy,) = result["metrics"]
    assert accuracy["value"] > 0.9 and accuracy["chance"] == 0.25
    assert losses[40] < 0.7 * losses[10]
    student, teacher = (jax.tree.leaves(params[name]) for name in ("student", "teacher"))
    assert all(np.abs(s - t).max() > 1e-3 for s, t in zip(student, teacher, strict=True))
    _, result, losses = whole[KEYS[1]]
    (rank,) = result["metrics"]
    assert rank["value"] == 1.0 and rank["is_larger_better"] is False
    assert losses[40] < 0.7 * losses[10]


def test_the_teacher_is_the_average_of_the_student(tmp_path):
    """After one step: the first student of both is known, as is the last one."""
    assert run(tmp_path, num_steps=1, evaluate_every_steps=1) == 0
    params, _, _ = read(tmp_path)[KEYS[0]]
    student, teacher = params["student"], params["teacher"]
    # teacher = d * start + (1 - d) * student, so start can be computed, and is that of the seed.
    start = jax.tree.map(lambda t, s: (t - (1 - DECAY) * s) / DECAY, teacher, student)
    kernel = start["Dense_0"]["kernel"]
    moved = np.abs(student["Dense_0"]["kernel"] - kernel)
    np.testing.assert_allclose(moved, 0.05, rtol=1e-2)  # Adam's first step is the rate
    assert not np.any(start["Dense_1"]["bias"] > 1e-7)  # biases start at zero


@pytest.mark.parametrize("num_devices", [2, 8])
def test_any_number_of_devices(whole, tmp_path, num_devices):
    """Streams of 6, 20 and 10 rows are padded to eight devices, each by itself."""
    assert run(tmp_path, num_devices=num_devices) == 0
    assert_alike(read(tmp_path), whole, atol=2e-5)


def test_a_state_that_is_split_over_the_devices(whole, tmp_path):
    """The average of the student is taken of the parts that each device holds."""
    assert run(tmp_path, num_devices=8, shard_params_over=100) == 0
    assert_alike(read(tmp_path), whole, atol=2e-5)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_two_microbatches(whole, tmp_path, num_devices):
    assert run(tmp_path, num_devices=num_devices, num_microbatches=2) == 0
    assert_alike(read(tmp_path), whole, atol=2e-5)


def test_after_a_crash_and_a_signal_they_go_on_bit_for_bit(tmp_path, monkeypatch, capfd, whole):
    """The first task fails after its first save, the second is asked to stop; then both go on."""
    crop, calls = ToyTracks.crop, collections.Counter()
    due = {18: 6 * 15, 16: 30 * 28}

    def interrupted(self, *args, **kwargs):
        calls[len(self)] += 1  # of several threads at once, so that a number may be passed over
        if calls[18] >= due.get(18, math.inf):  # labeled tracks of the teacher, in step 15
            del due[18]
            raise OSError("the disk has gone")
        # Triplets of step 28, prepared up to six steps before it.
        if calls[16] >= due.get(16, math.inf):
            del due[16]
            os.kill(os.getpid(), signal.SIGTERM)
        return crop(self, *args, **kwargs)

    monkeypatch.setattr(ToyTracks, "crop", interrupted)
    assert run(tmp_path, checkpoint_every_minutes=0) == 143
    assert run(tmp_path, checkpoint_every_minutes=0) == 0
    said = capfd.readouterr().err
    assert "failed: the disk has gone" in said and "levels, seed 0: resumed after step 10" in said
    assert re.search(r"encoder, seed 0: stopped by SIGTERM after step 2\d, which is saved", said)
    ours = read(tmp_path)
    for key in KEYS:
        assert_trees_equal(ours[key][0], whole[key][0])
        assert ours[key][1] == whole[key][1]


@pytest.mark.programs
def test_two_processes_are_one(tmp_path, repository):
    """Also where the rate drops: at each evaluation of the triplets after the first rank of 1."""
    plateau = {"name": "adam_plateau", "drop_after": 1, "num_drops": 9, "drop_factor": 0.5}
    command = (
        "--config=tests/toy_experiment.py",
        f"--workdir={tmp_path / 'two'}",
        *(f"--config.optimizer.{name}={value}" for name, value in plateau.items()),
    )
    two = run_processes(repository, tmp_path, command, command)
    assert [code for code, _ in two] == [0, 0], two
    assert "the learning rate is 0.025 now" in two[0][1]
    assert run(tmp_path / "one", num_devices=2, optimizer=plateau) == 0
    assert_alike(read(tmp_path / "two"), read(tmp_path / "one"), atol=2e-6)


@pytest.mark.parametrize("name", ["toy_teacher_task.py", "toy_triplet_task.py"])
def test_a_task_is_one_short_file(repository, name):
    assert len((repository / "tests" / name).read_text("utf-8").splitlines()) < 120
