"""Arrays of exported models on disk, and code shared by all uses of orbax. Imports orbax.

Orbax notices a truncated file but not a flipped bit: hence the sums of those who call this. It
measures how long a save takes by the clock on the wall, which may jump ahead: hence no limit worth
the name.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from musrep_jax.types import PyTree

ORBAX_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors that orbax raises for foreign files."""

_NO_LIMIT_SECONDS = 10 * 365 * 24 * 3600


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a log record is somebody else's: orbax's errors reach us as exceptions."""
    return "orbax" not in record.pathname


logging.getLogger("absl").addFilter(_is_not_from_orbax)


def without_limit(**options: Any) -> ocp.options.AsyncOptions:
    """Returns save options without a wall-clock timeout."""
    return ocp.options.AsyncOptions(
        timeout_secs=_NO_LIMIT_SECONDS,
        # Otherwise a save waits for its folders, five minutes by that clock.
        create_directories_asynchronously=False,
        **options,
    )


def write_arrays(folder: Path, variables: PyTree) -> None:
    """Writes arrays into a new folder, and reads them back.

    Args:
        folder: to come; see `musrep_jax.runtime.folders.plain_path`.
        variables: nested dict of arrays.

    Raises:
        ValueError: when they cannot be written, or come back as others.
    """
    with _checkpointer() as checkpointer:
        checkpointer.save(folder, variables)
        checkpointer.wait_until_finished()
    ours, theirs = _by_name(variables), _by_name(read_arrays(folder))
    for name in sorted(ours.keys() | theirs.keys()):
        same = name in ours and name in theirs and ours[name].dtype == theirs[name].dtype
        if not same or ours[name].tobytes() != theirs[name].tobytes():
            raise ValueError(f"the array {name} is another one when it is read back")


def read_arrays(folder: Path) -> PyTree:
    """Returns the arrays of a folder, on this machine's first device.

    Args:
        folder: that `write_arrays` wrote.

    Raises:
        ValueError: or another one of `ORBAX_ERRORS`, when they cannot be read.
    """
    with _checkpointer() as checkpointer:
        stored = checkpointer.metadata(folder).item_metadata.tree
        return checkpointer.restore(folder, _place_like(stored))


def _checkpointer() -> ocp.StandardCheckpointer:
    """Returns the reader and writer of exports, which does not wait for other processes."""
    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"p{process}"
    )
    return ocp.StandardCheckpointer(async_options=without_limit(), multiprocessing_options=options)


def _place_like(metadata: PyTree) -> PyTree:
    """Returns abstract arrays like those stored, on this machine's first device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), metadata
    )


def _by_name(tree: PyTree) -> dict[str, np.ndarray]:
    """Returns arrays by their names, in the types that JAX makes of them (at most 32 bits)."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    found = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {
        name: array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        for name, array in found.items()
    }
