"""Runs of `main.py` in one or several processes, on CPU devices."""

import contextlib
import os
import socket
import subprocess
import sys
import time

SECONDS = 900
"""Longest wait for a run."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def processes(repository, folder, *flags):
    """Starts main.py in as many processes as there are tuples of flags; kills what is left."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    if len(flags) > 1:
        environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{free_port()}"
        environment["JAX_NUM_PROCESSES"] = str(len(flags))
    started = []
    try:
        for index, words in enumerate(flags):
            own = {"JAX_PROCESS_ID": str(index)} if len(flags) > 1 else {}
            with (folder / f"output{index}").open("w") as file:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "main.py", *words],
                        cwd=repository,
                        env=environment | own,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield started
    finally:
        for process in started:
            process.kill()


def output(folder, index=0):
    return (folder / f"output{index}").read_text("utf-8")


def run_processes(repository, folder, *flags):
    """Returns the exit code and output of every process."""
    with processes(repository, folder, *flags) as started:
        codes = [process.wait(SECONDS) for process in started]
    return [(code, output(folder, index)) for index, code in enumerate(codes)]


def wait_for(text, folder, process):
    end = time.monotonic() + SECONDS
    while text not in output(folder):
        assert process.poll() is None and time.monotonic() < end, output(folder)
        time.sleep(0.2)
