"""Workers at the end of two pipes: large messages, prints, deaths on either side."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from musrep_jax.runtime.workers import Worker, WorkerDiedError

MODULE = """
import os, sys, time
from musrep_jax.runtime.workers import serve

def handle(request, send):
    kind, value = request
    print("not an answer", flush=True)
    os.write(1, b"nor this")
    if kind == "repeat":
        for _ in range(2):
            send(value)
    elif kind == "exit":
        os._exit(value)
    elif kind == "sleep":
        send(os.getpid())
        time.sleep(value)

serve(handle)
"""

PARENT = """
import time
from musrep_jax.runtime.workers import Worker
worker = Worker("worker_module", is_quiet=True)
worker.send(("sleep", 60))
print(worker.receive(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "worker_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "worker_module"


@pytest.fixture
def worker(module):
    worker = Worker(module, is_quiet=True)
    yield worker
    worker.close()


def test_messages_come_whole_whatever_is_printed(worker):
    large = np.random.default_rng(0).standard_normal(300_000)  # many times what a pipe holds
    for value in (None, {"a": OSError(5, "x")}, b"", large):
        worker.send(("repeat", value))
        for _ in range(2):
            answer = worker.receive()
            same = np.array_equal(answer, value) if value is large else repr(answer) == repr(value)
            assert same


class UnpicklingThread:
    """Unpickled it is the system's number of the thread that does it."""

    def __reduce__(self):
        return threading.get_native_id, ()


@pytest.mark.skipif(sys.platform != "linux", reason="numbers the main thread as the process")
def test_requests_are_unpickled_where_they_are_handled(worker):
    """The modules that a request needs are imported then, and never by two threads at once."""
    worker.send(("repeat", UnpicklingThread()))
    assert worker.receive() == worker._process.pid


@pytest.mark.parametrize(("code", "said"), [(3, "exit code 3"), (-9, "SIGKILL")])
def test_a_death_is_told(worker, code, said):
    if code > 0:
        worker.send(("exit", code))
    else:
        worker.kill()
    with pytest.raises(WorkerDiedError, match=said) as death:
        worker.receive()
    assert death.value.code == code
    with pytest.raises(WorkerDiedError, match=said):
        worker.send(("repeat", 1))


def test_ctrl_c_is_for_the_parent(worker):
    worker.send(("repeat", 1))
    assert worker.receive() == 1
    worker._process.send_signal(signal.SIGINT)
    worker.send(("repeat", 2))
    assert [worker.receive() for _ in range(3)] == [1, 2, 2]


def test_a_worker_ends_with_its_parent_in_the_middle_of_its_work(module, tmp_path, repository):
    path = os.pathsep.join((str(tmp_path), str(repository)))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid):
    """Returns whether a process runs; one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
