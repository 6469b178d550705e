"""Arrays on disk, those of exported models and those of training states: the file that uses orbax.

Orbax notices a truncated file but not a flipped bit: hence the sums of those who call this. It
measures how long a save takes by the clock on the wall, which may jump ahead: hence no limit worth
the name.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from musrep_jax.types import PyTree

_CHUNK_BYTES = 64 * 2**20
"""Parts of an array that are compressed and written in parallel."""
_NO_LIMIT_SECONDS = 10 * 365 * 24 * 3600


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a log record is somebody else's: orbax's errors reach us as exceptions."""
    return "orbax" not in record.pathname


logging.getLogger("absl").addFilter(_is_not_from_orbax)


def _without_limit(**options: Any) -> ocp.options.AsyncOptions:
    """Returns save options without a wall-clock timeout."""
    return ocp.options.AsyncOptions(
        timeout_secs=_NO_LIMIT_SECONDS,
        # Otherwise a save waits for its folders, five minutes by that clock.
        create_directories_asynchronously=False,
        **options,
    )


class StepFiles:
    """The saved steps of a training, the last few of which are kept; written in the background."""

    def __init__(self, folder: Path, num_kept: int, on_saved: Callable[[], None]) -> None:
        """Opens a folder of steps.

        Args:
            folder: that is there; see `musrep_jax.runtime.folders.plain_path`.
            num_kept: older steps are removed.
            on_saved: called when the files of a step are complete, before it gets its name.
        """
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(num_kept),
                async_options=_without_limit(post_finalization_callback=on_saved),
            ),
        )

    @property
    def steps(self) -> list[int]:
        """The saved steps, in order."""
        return sorted(self._manager.all_steps())

    def save(
        self, step: int, items: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]
    ) -> None:
        """Starts to save a step.

        Args:
            step: its number.
            items: name -> arrays by their names.
            meta: JSON values, saved as the item `meta`.
        """
        saved: dict[str, Any] = {
            name: ocp.args.StandardSave(
                arrays, dict.fromkeys(arrays, ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES))
            )
            for name, arrays in items.items()
        }
        saved["meta"] = ocp.args.JsonSave(dict(meta))
        self._manager.save(step, args=ocp.args.Composite(**saved))

    def wait(self) -> None:
        """Waits until the last save is complete on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, item: str, buffers: PyTree) -> PyTree:
        """Returns the arrays of an item.

        Args:
            step: that was saved.
            item: a name of `save`.
            buffers: abstract arrays, with the placement that the result takes.
        """
        wanted = ocp.args.Composite(**{item: ocp.args.StandardRestore(buffers)})
        return self._manager.restore(step, args=wanted)[item]

    def close(self) -> None:
        """Releases the folder."""
        self._manager.close()


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
        Exception: of any kind, as orbax raises it, when they cannot be read.
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
    return ocp.StandardCheckpointer(async_options=_without_limit(), multiprocessing_options=options)


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
