"""Data parallelism: a batch is split over the devices of a one-axis mesh, the state is on each.

With `jax.jit` and shardings the compiled step is that of one large batch: BatchNorm statistics
and dropout masks are those of the global batch, so results do not depend on the number of devices.
Large arrays of the state may be split over the devices too, see `Layout`. With several processes
the mesh spans the devices of all, each process reads its rows of every batch (`local_rows`), and
nothing else changes. A batch of several streams is padded, split and widened stream by stream.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musrep_jax.runtime.rows import RowShare
from musrep_jax.training.streams import map_streams, stream_length
from musrep_jax.types import Array, Batch, PyTree

DATA_AXIS = "data"
INT16_STEP = 2.0**-15
"""The value of one step of a 16-bit sample, relative to full scale."""


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Returns a mesh of one axis, `data`, over the first devices of every process.

    Its axis is of type Auto: under Explicit axes, the default of newer JAX, concatenating a class
    token and dropout fail. The devices of a process stand side by side, so that its part of a batch
    is one range of rows.

    Args:
        num_devices: how many devices to use, over all processes; None for all.

    Raises:
        ValueError: when there are not that many devices, or the processes cannot share them.
    """
    devices, num_processes = jax.devices(), jax.process_count()
    num_devices = len(devices) if num_devices is None else num_devices
    if not 1 <= num_devices <= len(devices):
        where = "this machine has" if num_processes == 1 else f"{num_processes} processes have"
        raise ValueError(
            f"num_devices is {num_devices}, but {where} {len(devices)} "
            f"{devices[0].platform} device(s); ask for 1 to {len(devices)}."
        )
    if num_devices % num_processes:
        raise ValueError(
            f"num_devices is {num_devices}, which {num_processes} processes cannot share equally; "
            f"ask for a multiple of {num_processes}."
        )
    each = num_devices // num_processes
    used = [d for process in range(num_processes) for d in _devices_of(process)[:each]]
    if len(used) < num_devices:
        raise ValueError(
            f"num_devices is {num_devices}, {each} for each process, but some process has fewer; "
            "start all processes with the same number of devices."
        )
    return Mesh(np.array(used), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def _devices_of(process: int) -> list[Any]:
    """Returns the devices of a process, each a `jax.Device`."""
    return [device for device in jax.devices() if device.process_index == process]


def pad_batch(batch: Mapping[str, Any], multiple: int) -> dict[str, Any]:
    """Returns the batch with the length of every stream grown to a multiple, marked by mask 0.

    Padding repeats examples of the stream, so that no model meets values it could not meet in
    data; losses, scores and BatchNorm statistics leave them out by their mask.

    Args:
        batch: one stream of arrays (examples, ...), or named streams; `mask` is added to a stream
            where it is missing.
        multiple: what must divide the length of a stream.

    Returns:
        The batch as numpy arrays, every stream with `mask` float32 (examples,).

    Raises:
        ValueError: if arrays of one stream differ in length, see `map_streams`.
    """
    return map_streams(lambda stream: _pad_stream(stream, multiple), batch)


def _pad_stream(stream: Mapping[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    size = stream_length(stream)
    full = -(-size // multiple) * multiple
    rows = np.arange(full) % size
    padded = {name: np.asarray(array)[rows] for name, array in stream.items()}
    mask = np.asarray(padded.get("mask", np.ones(full)), np.float32)
    padded["mask"] = np.where(np.arange(full) < size, mask, 0).astype(np.float32)
    return padded


def row_share(mesh: Mesh) -> RowShare:
    """Returns this process's share of every batch and of each of its streams, for any size.

    Args:
        mesh: from `make_mesh`.
    """
    owners = [device.process_index for device in mesh.devices.flat]
    first = owners.index(jax.process_index())
    return RowShare(first, first + owners.count(jax.process_index()), mesh.size)


def local_rows(batch_size: int, mesh: Mesh) -> range:
    """Returns which rows of every batch this process has to read.

    Args:
        batch_size: of the global batch, or of one stream of it.
        mesh: from `make_mesh`.

    Returns:
        A range; rows from `batch_size` on are padding, there when the devices do not divide it.
    """
    return row_share(mesh)(batch_size)


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> Batch:
    """Returns the batch on the devices of the mesh, split along its first axis, see `widen_stream`.

    A stream that the number of devices does not divide is padded, see `pad_batch`. Of several
    processes each passes its own rows of every stream, see `local_rows`.

    Args:
        batch: one stream of host arrays (examples, ...), or named streams.
        mesh: from `make_mesh`.

    Raises:
        ValueError: if arrays of one stream differ in length, see `map_streams`.
    """
    num_local = len(mesh.local_devices)
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

    def place(stream: Mapping[str, np.ndarray]) -> dict[str, Array]:
        if "mask" not in stream or stream_length(stream) % num_local:
            stream = _pad_stream(stream, num_local)
        return widen_stream({
            name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
            for name, array in stream.items()
        })  # fmt: skip

    return map_streams(place, batch)


def place_batch(batch: Mapping[str, Any]) -> Batch:
    """Returns the batch on the default device, see `widen_stream`.

    Args:
        batch: one stream of host arrays (examples, ...), or named streams.

    Raises:
        ValueError: if arrays of one stream differ in length, see `map_streams`.
    """
    return map_streams(lambda stream: widen_stream(jax.device_put(dict(stream))), batch)


def widen_stream(stream: Mapping[str, Array]) -> dict[str, Array]:
    """Returns a stream that came to the device as it is stored in the types that models read.

    Half as many bytes are prepared and sent; the values are those of a host that widens them.

    Args:
        stream: arrays by name.

    Returns:
        `audio` int16 (samples of full scale 32,768) as float32 of full scale 1, every float16 array
        (decibels of `log_mel`) as float32; the others, such as int16 tokens, as they are.
    """
    return {
        name: _widen(array) if _is_narrow(name, array) else array for name, array in stream.items()
    }


def _is_narrow(name: str, array: Array) -> bool:
    return array.dtype == np.float16 or (name == "audio" and array.dtype == np.int16)


@jax.jit
def _widen(array: Array) -> Array:
    wide = array.astype(np.float32)
    return wide * np.float32(INT16_STEP) if array.dtype == np.int16 else wide


@dataclasses.dataclass(frozen=True)
class Layout:
    """The placement of a state's arrays: replicated, or large ones sharded over the devices.

    Splitting is fully sharded data parallelism: every device keeps a part of the large parameters
    and of their optimizer state, they are gathered for the forward and backward pass, and gradients
    are scattered again. The numbers are those of the unsplit state.

    Attributes:
        mesh: from `make_mesh`.
        shard_over: arrays of at least so many bytes are split, along their longest axis that the
            number of devices divides (none: the array stays whole); None splits nothing.
    """

    mesh: Mesh
    shard_over: int | None = None

    def spec(self, leaf: Array) -> PartitionSpec:
        """Returns the axis along which an array, or a value of its shape and type, is split."""
        axes = [i for i, size in enumerate(leaf.shape) if size % self.mesh.size == 0]
        size_bytes = leaf.size * leaf.dtype.itemsize
        if self.shard_over is None or size_bytes < self.shard_over or not axes:
            return PartitionSpec()
        axis = max(axes, key=lambda i: leaf.shape[i])
        return PartitionSpec(*(None,) * axis, DATA_AXIS)

    def shardings(self, tree: PyTree) -> PyTree:
        """Returns the sharding of every array of a tree."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self.spec(leaf)), tree)

    def place(self, tree: PyTree) -> PyTree:
        """Returns the tree on the devices; every process must hold the same values.

        Args:
            tree: arrays, for example a training state.
        """
        shardings = self.shardings(tree)
        if jax.process_count() == 1:
            return jax.device_put(tree, shardings)
        return jax.tree.map(_place_global, tree, shardings)

    def constrain(self, tree: PyTree) -> PyTree:
        """Returns the tree as it is to lie, in a function that is being compiled."""
        return jax.lax.with_sharding_constraint(tree, self.shardings(tree))

    def gather(self, tree: PyTree) -> PyTree:
        """Returns the tree whole on every device, in a function that is being compiled."""
        return Layout(self.mesh).constrain(tree)


def _place_global(leaf: Array | np.ndarray, sharding: NamedSharding) -> Array:
    """Returns an array that spans processes, from a copy on each or from another placement."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Returns the tree with every array present on every device of the mesh.

    Args:
        tree: arrays, for example a training state.
        mesh: from `make_mesh`.
    """
    return Layout(mesh).place(tree)


def to_host(tree: PyTree) -> PyTree:
    """Returns the tree as numpy arrays, whole in every process; all processes must call it.

    Args:
        tree: arrays, wherever their parts lie.
    """

    def whole(leaf: Array) -> Array:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        mesh = cast(NamedSharding, leaf.sharding).mesh
        return _place_global(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.device_get(jax.tree.map(whole, tree))
