"""Two runs on one workdir, and workdirs that cannot be used."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from experiments import wait_for

ABSENT = "--config.data.name=magnatagatune"
"""A corpus that is not here: its job fails as soon as it is opened."""

HOLDER = """
    import sys, time
    from pathlib import Path
    from musrep_jax.runtime.locks import Lock
    with Lock(Path(sys.argv[1]), "The workdir"):
        print("locked", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, repository):
    """Another process, which holds the lock of `tmp_path / "w"`."""
    (tmp_path / "w").mkdir()
    code = "\n".join(line[4:] for line in HOLDER.splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "w" / ".lock"],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_run_is_refused_with_host_and_process(experiment, tmp_path, holder, capsys):
    assert experiment.run(tmp_path / "w") == 2
    error = capsys.readouterr().err
    assert f"is in use by process {holder.pid} on host {socket.gethostname()}" in error
    assert not (tmp_path / "w" / "config.json").exists()


def test_of_two_started_at_once_one_runs(experiment, tmp_path):
    """Neither finds a workdir when it starts; the other one is refused, and disturbs nothing."""
    endless = "--config.train.num_steps=1000000"  # the one that runs is not over before the signal
    with (
        experiment.started(tmp_path / "w", endless) as first,
        experiment.started(tmp_path / "w", endless) as second,
    ):
        wait_for(lambda: first.poll() is not None or second.poll() is not None)
        loser, winner = (second, first) if first.poll() is None else (first, second)
        assert loser.returncode == 2
        assert f"in use by process {winner.pid} on host" in loser.communicate()[0]
        wait_for(lambda: (tmp_path / "w" / "config.json").exists())
        winner.send_signal(signal.SIGTERM)
        assert winner.wait(300) == 143
    assert not (tmp_path / "w" / ".lock").exists()


def test_a_share_is_refused_beside_the_whole_run(experiment, tmp_path, holder, capsys):
    assert experiment.run(tmp_path / "w", "--cells=1/2") == 2
    assert f"is in use by process {holder.pid}" in capsys.readouterr().err


def test_the_lock_of_a_killed_process_is_taken_over_with_a_line(
    experiment, tmp_path, holder, capsys
):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "w" / ".lock").exists()
    experiment.run(tmp_path / "w", ABSENT)
    error = capsys.readouterr().err
    assert f"left locked by process {holder.pid}" in error
    assert "taken over" in error
    assert not (tmp_path / "w" / ".lock").exists()


@pytest.mark.parametrize("share", [None, "--cells=1/2"])
def test_the_lock_of_another_host_is_refused_with_what_to_do(experiment, tmp_path, capsys, share):
    (tmp_path / "w").mkdir()
    lock = tmp_path / "w" / ".lock"
    lock.write_text(json.dumps({"host": "node17", "pid": os.getpid()}))
    flags = (ABSENT, *([share] if share else []))
    assert experiment.run(tmp_path / "w", *flags) == 2
    error = capsys.readouterr().err
    assert "locked by process" in error
    assert "on host node17" in error
    assert f"remove {lock}" in error
    lock.unlink()
    assert experiment.run(tmp_path / "w", *flags) == (0 if share else 1)  # no cell, or a bad one


def test_shares_of_one_split_run_beside_each_other(experiment, tmp_path, repository, capsys):
    (tmp_path / "w").mkdir()
    name = tmp_path / "w" / ".lock.1-of-2"
    code = "\n".join(line[4:] for line in HOLDER.splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", code, name], cwd=repository, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            assert experiment.run(tmp_path / "w", "--cells=2/2", ABSENT) == 1  # it runs
            assert experiment.run(tmp_path / "w", "--cells=1/2", ABSENT) == 2
            assert experiment.run(tmp_path / "w", "--cells=2/3", ABSENT) == 2
            assert experiment.run(tmp_path / "w", ABSENT) == 2
        finally:
            process.kill()
    assert capsys.readouterr().err.count(f"in use by process {process.pid}") == 3


def test_a_workdir_that_is_a_file(experiment, tmp_path, capsys):
    (tmp_path / "w").write_text("precious")
    assert experiment.run(tmp_path / "w") == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "w").read_text() == "precious"


def test_a_config_cut_off_by_an_older_crash(experiment, tmp_path, capsys):
    (tmp_path / "w" / "cells").mkdir(parents=True)
    (tmp_path / "w" / "config.json").write_text('{"config": {"rec')
    assert experiment.run(tmp_path / "w") == 2
    assert "cannot be used" in capsys.readouterr().err
