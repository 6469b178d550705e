"""Locks: who holds one, who gives it up, folders that are removed and made anew."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from musrep_jax.runtime.locks import Lock, LockedError

HOLD = """
import sys, time, pathlib, subprocess
from musrep_jax.runtime.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]), "It")
assert lock.take()
child = None
if sys.argv[2] == "passed on":
    child = subprocess.Popen(["sleep", "60"], pass_fds=(lock.fileno(),))
print(child.pid if child else 0, flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold(repository, tmp_path):
    """Starts a process that holds the lock `tmp_path / "lock"`, which may have a child."""
    processes = []

    def start(how="alone"):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "lock"), how]
        process = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_lock_names_its_holder_and_leaves_nothing(tmp_path, hold, capsys):
    process, _ = hold()
    text = f"It is in use by process {process.pid} on host {socket.gethostname()}"
    with pytest.raises(LockedError, match=text), Lock(tmp_path / "lock", "It"):
        pass
    process.kill()
    process.wait()
    with Lock(tmp_path / "lock", "It") as lock:
        assert lock.holder() == f"process {os.getpid()} on host {socket.gethostname()}"
    assert f"left locked by process {process.pid}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_who_inherits_the_lock_holds_it_too(tmp_path, hold):
    process, child = hold("passed on")
    process.kill()
    process.wait()
    lock = Lock(tmp_path / "lock", "It")
    assert not lock.take()
    os.kill(child, 9)
    while not lock.take():
        pass
    lock.release()


def test_another_host_is_refused_or_taken_over(tmp_path):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "node17", "pid": 1}))
    with pytest.raises(LockedError, match=rf"process 1 on host node17.*remove {path}"):
        Lock(path, "It").take()
    with Lock(path, "It", is_local=True):
        pass
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_folder_made_anew_is_left_alone(tmp_path):
    first = Lock(tmp_path / "made" / "lock", "It")
    assert first.take()
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "lock").write_text(json.dumps({"host": "node17", "pid": 1}))
    (tmp_path / "made" / ".guard.lock").touch()
    first.release()
    assert sorted(os.listdir(tmp_path / "made")) == [".guard.lock", "lock"]


@pytest.mark.parametrize("text", ["", "[1, 2]", '["node", 3]', '{"host": 3}', "half {"])
def test_what_names_nobody_is_taken_over(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    with Lock(tmp_path / "lock", "It"):
        pass


def test_without_locks_the_process_number_tells(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    path = tmp_path / "lock"
    with subprocess.Popen(["sleep", "30"]) as other:
        path.write_text(json.dumps({"host": socket.gethostname(), "pid": other.pid}))
        assert not Lock(path, "It").take()
        other.kill()
    assert Lock(path, "It").take()
