"""A run that is stopped or killed ends with the numbers of the run that nothing happened to."""

import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from experiments import NUM_STEPS, assert_same_outcome, wait_for

DAMAGES = {
    "flipped byte": lambda data: data[: len(data) // 2] + b"\xff" + data[len(data) // 2 + 1 :],
    "cut off": lambda data: data[: len(data) // 2],
    "deleted": None,
}


@pytest.fixture(scope="module")
def halfway(experiment, tmp_path_factory, repository):
    """The workdir of the experiment, stopped by SIGTERM after its third evaluation."""
    workdir = tmp_path_factory.mktemp("halfway") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert experiment.run_until(15, workdir) == 143
    return workdir


@pytest.fixture
def workdir(halfway, tmp_path):
    """A copy of it."""
    return shutil.copytree(halfway, tmp_path / "w")


def checkpoints(workdir):
    """Returns the kept checkpoints, the latest last."""
    found = workdir.glob("cells/*/checkpoints/*")
    return sorted((path for path in found if path.name.isdigit()), key=lambda p: int(p.name))


@pytest.mark.parametrize("step", [5, 10])
def test_ctrl_c_before_and_after_the_switch_of_optimiser(experiment, whole, tmp_path, capsys, step):
    """The switch from Adam to SGD is at step 12, with the best weights put back."""
    assert experiment.run_until(step, tmp_path, number=signal.SIGINT) == 130
    stopped = checkpoints(tmp_path)[-1]
    assert step <= int(stopped.name) < NUM_STEPS
    assert experiment.run(tmp_path) == 0
    assert f"resumed after step {stopped.name}" in capsys.readouterr().err
    assert_same_outcome(whole, tmp_path)
    assert not checkpoints(tmp_path)  # the exported model has taken their place


@pytest.mark.parametrize("num_workers", [0, 2])
def test_another_number_of_workers_goes_on_with_the_same_batches(
    experiment, whole, workdir, num_workers
):
    assert experiment.run(workdir, f"--config.data.num_workers={num_workers}") == 0
    assert_same_outcome(whole, workdir)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back(experiment, whole, workdir, capsys, damage):
    newest, before = checkpoints(workdir)[-1], checkpoints(workdir)[-2]
    file = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    if DAMAGES[damage] is None:
        file.unlink()
    else:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert experiment.run(workdir) == 0
    error = capsys.readouterr().err
    assert f"checkpoint {newest.name} is damaged" in error
    assert f"resumed after step {before.name}" in error
    assert_same_outcome(whole, workdir)


def test_a_deleted_newest_checkpoint_falls_back(experiment, whole, workdir, capsys):
    shutil.rmtree(checkpoints(workdir)[-1])
    assert experiment.run(workdir) == 0
    assert_same_outcome(whole, workdir)


@pytest.mark.parametrize(
    "name, text",
    [("result.json", '{"source": null, "tar'), ("metrics.jsonl", '{"kind": "tr')],
)
def test_files_cut_off_by_an_older_crash(experiment, whole, workdir, capsys, name, text):
    cell = next(workdir.glob("cells/*"))
    with (cell / name).open("a", encoding="utf-8") as file:
        file.write(text)
    (workdir / "results.json").write_text('{"format": 1, "cel')
    (workdir / "cells" / cell.name / f".{name}.1a2b").write_text("left by a kill")
    assert experiment.run(workdir) == 0
    assert ("result.json is damaged and set aside" in capsys.readouterr().err) == (
        name == "result.json"
    )
    assert_same_outcome(whole, workdir)


def test_a_checkpoint_of_other_data_is_refused_by_name(experiment, workdir, capsys):
    """The workdir says the same experiment, but the data set was built anew in between."""
    assert experiment.run(workdir, "--config.data.seed=1") == 2  # said before anything is opened
    assert "different: data.seed" in capsys.readouterr().err
    written = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    written["config"]["data"]["seed"] = written["config"]["overrides"]["data"]["seed"] = 1
    (workdir / "config.json").write_text(json.dumps(written))
    assert experiment.run(workdir, "--config.data.seed=1") == 1
    error = capsys.readouterr().err
    assert "belongs to another run: its data is " in error
    assert checkpoints(workdir)


def run_with_kills(experiment, workdir, pauses):
    """Runs the experiment, killing it (-9) after each pause; returns the last exit code.

    A pause begins when the process has written its config, and each run has other workers.
    """
    for number, pause in enumerate(pauses):
        with experiment.started(workdir, f"--config.data.num_workers={number % 2}") as process:
            wait_for(lambda: (workdir / ".lock").exists() or process.poll() is not None)
            time.sleep(pause)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    with experiment.started(workdir) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output


def test_kill_9_at_random_moments(experiment, uninterrupted_subprocess_run, tmp_path):
    pauses = [random.uniform(0, 6) for _ in range(2)]
    print(f"killed after {pauses} seconds")
    run_with_kills(experiment, tmp_path, pauses)
    assert_same_outcome(uninterrupted_subprocess_run, tmp_path)


JUMPING_CLOCK = """
    import itertools, time
    real, looks = time.time_ns, itertools.count()
    time.time_ns = lambda: real() + (600 * next(looks) - 86400) * 10**9
    time.time = lambda: time.time_ns() / 1e9
"""


@pytest.mark.slow
def test_a_clock_set_back_by_a_day_that_jumps_ahead(
    experiment, uninterrupted_subprocess_run, tmp_path
):
    """Back between two runs: the first one's files come from the future. Then ten minutes ahead
    whenever somebody looks at it, which is many times in each save."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(textwrap.dedent(JUMPING_CLOCK))
    workdir = tmp_path / "w"
    with experiment.started(workdir) as process:
        wait_for(lambda: checkpoints(workdir) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        output = process.communicate()[0]
    assert process.returncode == 143, output
    for path in workdir.rglob("*"):
        os.utime(path, (4e9, 4e9))
    with experiment.started(workdir, PYTHONPATH=str(tmp_path / "clock")) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "resumed after step" in output
    assert_same_outcome(uninterrupted_subprocess_run, workdir)
    result = json.loads((workdir / "results.json").read_text())["cells"][0]
    assert 0 < result["seconds"] < 600


@pytest.mark.slow
def test_kill_9_twenty_times(experiment, uninterrupted_subprocess_run, tmp_path):
    for round_number in range(4):
        random.seed(round_number)
        workdir = tmp_path / f"killed{round_number}"
        run_with_kills(experiment, workdir, [random.uniform(0, 8) for _ in range(5)])
        assert_same_outcome(uninterrupted_subprocess_run, workdir)
    assert not children_of_nobody(), "workers were left behind"


COMPILE_FOR_A_MINUTE = """
    import jax, jax.numpy as jnp
    from musrep_jax.runtime.signals import exit_program, exit_code, raise_on_signals

    def chain(x):
        for i in range(2000):
            x = jnp.tanh(x @ x) + i
        return x

    lowered = jax.jit(chain).lower(jnp.ones((8, 8)))
    try:
        with raise_on_signals():
            print("compiling", flush=True)
            lowered.compile()
    except KeyboardInterrupt as error:
        exit_program(exit_code(error))
"""


def test_a_program_that_is_stopped_while_it_compiles_leaves_at_once(repository):
    """JAX goes on compiling in a thread: neither is that waited for, nor does it end in a crash."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMPILE_FOR_A_MINUTE)],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "compiling\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        sent = time.perf_counter()
        assert process.wait(300) == 143
    assert time.perf_counter() - sent < 15


def test_a_signal_to_the_whole_group_with_workers(experiment, tmp_path):
    """What a terminal does on Ctrl-C, and systemd on a stop: the workers get the signal too."""
    with experiment.started(tmp_path, "--config.data.num_workers=2") as process:
        wait_for(lambda: checkpoints(tmp_path) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "Traceback" not in output, output
    assert checkpoints(tmp_path)


ON_ITS_TERMINAL = """
    import fcntl, os, sys, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_terminal_that_is_closed_and_output_that_nobody_reads(
    experiment, uninterrupted_subprocess_run, tmp_path
):
    """It sends SIGHUP, and nothing can be written to it any more: not a line about the stop."""
    ours, theirs = pty.openpty()
    is_closed = threading.Event()

    def read():
        while not is_closed.is_set():
            if select.select([ours], [], [], 0.01)[0]:
                os.read(ours, 4096)

    reader = threading.Thread(target=read)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ON_ITS_TERMINAL), *experiment.words(tmp_path)],
        cwd=experiment.repository,
        env={**os.environ, "XLA_FLAGS": ""},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        reader.start()
        try:
            wait_for(lambda: checkpoints(tmp_path) or process.poll() is not None)
        finally:
            is_closed.set()
            reader.join()
            os.close(ours)
        assert process.wait(60) == 129
    assert checkpoints(tmp_path)
    with experiment.started(tmp_path) as process:  # as behind `| head`, which reads no further
        wait_for(lambda: (tmp_path / ".lock").exists() or process.poll() is not None)
        process.stdout.close()
        assert process.wait(120) == 0
    assert_same_outcome(uninterrupted_subprocess_run, tmp_path)


def children_of_nobody():
    """Returns worker processes of ours whose parent was killed."""
    listed = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True)
    lines = (line.split(None, 1) for line in listed.stdout.splitlines()[1:])
    return [args for parent, args in lines if parent == "1" and "multiprocessing" in args]
