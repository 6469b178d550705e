"""Data parallelism: a batch is split over the devices of a one-axis mesh, the state is on each.

With `jax.jit` and shardings the compiled step is that of one large batch: BatchNorm statistics
and dropout masks are those of the global batch, so results do not depend on the number of devices.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musrep_jax.types import Array, Batch, PyTree

DATA_AXIS = "data"


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Returns a mesh of one axis, `data`, over the first devices.

    Its axis is of type Auto: under Explicit axes, the default of newer JAX, concatenating a class
    token and dropout fail.

    Args:
        num_devices: how many devices to use; None for all.

    Raises:
        ValueError: when there are not that many devices.
    """
    devices = jax.devices()
    num_devices = len(devices) if num_devices is None else num_devices
    if not 1 <= num_devices <= len(devices):
        raise ValueError(
            f"num_devices is {num_devices}, but this machine has {len(devices)} "
            f"{devices[0].platform} device(s); ask for 1 to {len(devices)}."
        )
    return Mesh(np.array(devices[:num_devices]), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def pad_batch(batch: Mapping[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    """Returns the batch with its first axis grown to a multiple, padding marked by mask 0.

    Padding repeats examples of the batch, so that no model meets values it could not meet in
    data; losses and scores leave them out by their mask. BatchNorm does see them in training:
    choose training batches that the devices divide.

    Args:
        batch: arrays (batch, ...); `mask` is added when it is missing.
        multiple: what must divide the batch.

    Returns:
        The batch as numpy arrays, with `mask` float32 (batch,).
    """
    size = len(next(iter(batch.values())))
    full = -(-size // multiple) * multiple
    rows = np.arange(full) % size
    padded = {name: np.asarray(array)[rows] for name, array in batch.items()}
    mask = np.asarray(padded.get("mask", np.ones(full)), np.float32)
    padded["mask"] = np.where(np.arange(full) < size, mask, 0).astype(np.float32)
    return padded


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> Batch:
    """Returns the batch on the devices of the mesh, split along its first axis.

    A batch that the number of devices does not divide is padded, see `pad_batch`. On several
    hosts each passes its own share, padded to its own devices.

    Args:
        batch: host arrays (batch, ...).
        mesh: from `make_mesh`.
    """
    num_local = len(mesh.local_devices)
    if "mask" not in batch or len(batch["mask"]) % num_local:
        batch = pad_batch(batch, num_local)
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

    def place(array: np.ndarray) -> Array:
        return jax.make_array_from_process_local_data(sharding, np.asarray(array))

    return {name: place(array) for name, array in batch.items()}


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Returns the tree with every array present on every device of the mesh.

    Args:
        tree: arrays, for example a training state.
        mesh: from `make_mesh`.
    """
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
