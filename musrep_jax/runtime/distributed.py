"""Coordinates several training processes: how they connect, agree, and leave.

Each process runs the same program. The first one (number 0) also writes the results; the others
compute their part of every batch, own their devices, and write parts of checkpoints. Here they
exchange only short texts, through JAX's coordination service: no accelerator is involved, every
wait has a timeout, and a failed process is reported to the others. With one process, no function of
this file does anything.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from musrep_jax.config import ConfigError, differences

VARIABLES = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
"""Setting -> environment variable used where no flag is given."""

PEER_TIMEOUT_SECONDS = 24 * 3600.0
"""Longest wait for processes that are busy: they may still train, or draw figures."""

FAILURE_TIMEOUT_SECONDS = 60.0
"""Longest wait, after a local failure, for others to fail in the same way."""

_POLL_SECONDS = 0.5
_FOLDER = "musrep_jax"
_FAILED = f"{_FOLDER}/failed"

_numbers = itertools.count()


class DistributedError(RuntimeError):
    """The processes are no longer in step; this one cannot go on."""


def start(settings: Mapping[str, Any]) -> int:
    """Joins the other processes, if there are any; must be called before any array is created.

    Settings without flags are taken from the environment: from `VARIABLES`, or as JAX detects it
    (Slurm, Open MPI, Cloud TPU, Kubernetes). A single process does not join anything, even in a
    cluster.

    Args:
        settings: `coordinator` ("host:port" of process 0), `num_processes`, `process_id` and
            `timeout_seconds` (for connecting); None where not given.

    Returns:
        The number of processes.

    Raises:
        ConfigError: if the settings are incomplete or wrong, or the others do not come.
    """
    said = _read_process_settings(settings)
    environment = None if len(said) == len(VARIABLES) else _detect_cluster()
    if environment is None and 0 < len(said) < len(VARIABLES):
        missing = [name for name in VARIABLES if name not in said]
        raise ConfigError(
            f"distributed.{' and distributed.'.join(missing)} is missing: several processes need "
            f"{', '.join(VARIABLES)} (or the variables {', '.join(VARIABLES.values())}) each."
        )
    count = said.get("num_processes")
    if count is None and environment is not None:
        count = environment.get_process_count()
    if count is None or count == 1:
        return 1
    index = said.get("process_id")
    if count < 1 or (index is not None and not 0 <= index < count):
        raise ConfigError(
            f"distributed.process_id is {index} of {count} processes; it must be 0 to {count - 1}."
        )
    address = said.get("coordinator")
    if address is not None and not address.rpartition(":")[2].isdigit():
        raise ConfigError(f"distributed.coordinator is {address!r}; it must be HOST:PORT.")
    seconds = int(settings.get("timeout_seconds") or 300)
    where = address or "an address from the environment"
    who = "a process" if index is None else f"process {index}"
    say = f"{who} of {count} waits up to {seconds} s for the others at {where}"
    print(say, file=sys.stderr, flush=True)  # JAX itself ends a process that waits in vain
    try:
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=count,
            process_id=index,
            cluster_detection_method="deactivate" if environment is None else None,
            initialization_timeout=seconds,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"The {count} processes could not find each other: {str(error).splitlines()[0]}"
        ) from error
    return count


def _read_process_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the processes, from flags or else from the environment."""
    said = {}
    for name, variable in VARIABLES.items():
        value = settings.get(name)
        if value is None and os.environ.get(variable):
            value = os.environ[variable]
            if name != "coordinator":
                if not value.isdigit():
                    raise ConfigError(f"{variable} is {value!r}; it must be a whole number.")
                value = int(value)
        if value is not None:
            said[name] = value
    return said


def _detect_cluster() -> Any:
    """Returns the cluster that JAX would detect, or None."""
    # JAX queries its environments only on initialization, which a single process must avoid.
    from jax._src.clusters import ClusterEnv

    with warnings.catch_warnings():
        if "JOB_COMPLETION_INDEX" not in os.environ:  # a single pod needs no Kubernetes package
            warnings.simplefilter("ignore")
        found = (e for e in ClusterEnv._cluster_types if not e.opt_in_only_method)
        return next((e for e in found if e.is_env_present()), None)


def connect_devices() -> None:
    """Connects the devices of all processes, once, while all are at the same point.

    On CPUs they wait half a minute for each other at their first joint computation, and
    indefinitely later: a process that takes longer to compile must not be considered lost.
    """
    if not is_active():
        return
    exchange("the devices", jax.local_device_count())
    agree_on_signal(None, is_sync_step=True)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), "all"), PartitionSpec("all"))
    ones = jax.make_array_from_callback(
        (jax.device_count(),), sharding, lambda index: np.ones(1, np.float32)
    )
    jax.block_until_ready(jax.jit(jnp.sum)(ones))


def is_active() -> bool:
    """Returns whether there are several processes."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Returns whether this process writes the results: the first, or the only one."""
    return _state().process_id == 0


def exchange(what: str, value: Any, seconds: float = PEER_TIMEOUT_SECONDS) -> list[Any]:
    """Returns the values of all processes, in their order; all must call it, in the same order.

    Args:
        what: names the exchange, for messages; the same text in every process.
        value: of this process, as JSON values.
        seconds: longest wait for the others.

    Raises:
        DistributedError: if a process has failed, or did not come this far in time.
    """
    if not is_active():
        return [value]
    return _exchange(f"{next(_numbers)}/{what}", value, seconds, stop_at_failure=True)


def exchange_errors(what: str, error: Exception | None) -> list[str | None]:
    """Returns the error of every process, or None where there was none, once all have arrived.

    Processes that failed in the same way are in step and may continue. A process that failed alone
    waits in vain, because the others are waiting for it elsewhere.

    Args:
        what: names what has ended, for messages.
        error: of this process, or None.

    Raises:
        DistributedError: if the others do not come, within a minute after an error.
    """
    if error is None:
        return exchange(what, None)
    try:
        return exchange(what, f"{type(error).__name__}: {error}", FAILURE_TIMEOUT_SECONDS)
    except DistributedError as lost:
        raise DistributedError(f"{error} ({lost})") from error


def broadcast_from_first(what: str, value: Any = None) -> Any:
    """Returns the value of the first process.

    Args:
        what: names the exchange, for messages.
        value: of the first process, as JSON values; ignored in the others.
    """
    return exchange(what, value if is_first() else None)[0]


def check_processes_agree(what: str, facts: Callable[[], Mapping[str, Any]], advice: str) -> None:
    """Raises, in all processes, unless they have the same facts.

    Args:
        what: names the facts, for the message.
        facts: returns them, as JSON values; not called for a single process.
        advice: what to do, a sentence without full stop.

    Raises:
        ConfigError: naming a process that differs, its host, and the differences.
    """
    if not is_active():
        return
    rows = exchange(what, {"host": socket.gethostname(), "facts": dict(facts())})
    for process, row in enumerate(rows):
        changed = differences(rows[0]["facts"], row["facts"])
        if changed:
            shown = ", ".join(changed[:6]) + (", ..." if len(changed) > 6 else "")
            raise ConfigError(
                f"Process {process} on {row['host']} has another {what} than process 0 on "
                f"{rows[0]['host']} (different: {shown}): {advice}."
            )


@contextlib.contextmanager
def run_first_process_first(what: str) -> Iterator[None]:
    """Runs this context in the first process before the others, which run it together.

    Args:
        what: names the work, for messages.
    """
    if is_active() and not is_first():
        exchange(what, None)
    try:
        yield
    finally:
        if is_active() and is_first():
            exchange(what, None)


def agree_on_signal(number: int | None, is_sync_step: bool) -> int | None:
    """Returns the signal on which all processes stop at this step, or None.

    Args:
        number: of the signal that this process received, or None.
        is_sync_step: whether the processes consult each other at this step; ignored for one
            process.
    """
    if not is_active():
        return number
    if not is_sync_step:
        return None
    return int(multihost_utils.process_allgather(np.int32(number or 0)).max()) or None


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """Leaves the other processes at the end of this context; see `leave`."""
    try:
        yield
    except BaseException as error:
        leave(error)
        raise
    leave()


def leave(error: BaseException | None = None) -> None:
    """Leaves the other processes; if they do not follow, exits this one with code 1.

    They may be waiting for this one in a computation, and it would wait for them in a normal exit.

    Args:
        error: the reason for leaving, or None if the work is complete; the others are notified.
    """
    if not is_active():
        return
    if error is not None:
        name = f"process {_state().process_id} on {socket.gethostname()}"
        with contextlib.suppress(RuntimeError):  # another one has failed before
            _state().client.key_value_set(_FAILED, f"{name} stopped: {error}")
    seconds = PEER_TIMEOUT_SECONDS if error is None else FAILURE_TIMEOUT_SECONDS
    try:
        _exchange("the end", None, seconds, stop_at_failure=error is None)
        jax.distributed.shutdown()
    except (DistributedError, RuntimeError) as lost:
        if error is not None:
            traceback.print_exception(error)
        print(f"error: {lost}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def _state() -> Any:
    # JAX 0.10 has no public API for the coordination service's texts, and the public process index
    # initializes the devices.
    from jax._src.distributed import global_state

    return global_state


def _exchange(name: str, value: Any, seconds: float, stop_at_failure: bool) -> list[Any]:
    """Returns what every process has written under a name, once all have."""
    state = _state()
    state.client.key_value_set(f"{_FOLDER}/{name}/{state.process_id}", json.dumps(value))
    end = time.monotonic() + seconds
    return [
        json.loads(_wait_for(name, process, end, stop_at_failure))
        for process in range(state.num_processes)
    ]


def _wait_for(name: str, process: int, end: float, stop_at_failure: bool) -> str:
    """Returns what one process has written under a name, once it has."""
    client = _state().client
    while True:
        try:
            key = f"{_FOLDER}/{name}/{process}"
            return client.blocking_key_value_get(key, int(1000 * _POLL_SECONDS))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise DistributedError(f"Process {process} cannot be reached: {error}") from error
        failed = _failure() if stop_at_failure else None
        if failed is not None:
            raise DistributedError(f"Stopped, because {failed}")
        if time.monotonic() > end:
            raise DistributedError(
                f"Process {process} did not come to {name!r} in time; look at what it printed last."
            )


def _failure() -> str | None:
    """Returns why a process has left, or None."""
    try:
        return _state().client.key_value_try_get(_FAILED)
    except RuntimeError:  # NOT_FOUND
        return None
