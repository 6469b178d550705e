"""Packs a tree of arrays into one byte array, since storing even a small array is costly.

Every array that one process has whole goes into it, one after the other. An array that is split
over the devices of several processes is stored by itself, because each process writes its part. How
arrays lie on devices when they are read again is free.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from musrep_jax.types import Array, PyTree

BYTES = "bytes"
"""Name of the stored array, uint8 (bytes,), that holds the others."""

_KEY_FIELDS = ("key", "name", "idx")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array and its position in the byte array.

    Attributes:
        shape: of the array.
        dtype: of the array, by name.
        offset: number of bytes before it; None when it is stored by itself, under its own name.
    """

    shape: tuple[int, ...]
    dtype: str
    offset: int | None = None

    @property
    def end(self) -> int:
        """Offset of its end, in bytes."""
        return (self.offset or 0) + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


Index = dict[str, Entry]
"""Name of an array in its tree -> its position."""


def pack(tree: PyTree) -> tuple[dict[str, Array | np.ndarray], Index]:
    """Returns the arrays to store, by name, and where those of the tree are in them.

    Args:
        tree: arrays.
    """
    index: Index = {}
    alone: dict[str, Array] = {}
    parts: list[np.ndarray] = []
    offset = 0
    for name, leaf in leaves_by_name(tree).items():
        entry = Entry(leaf.shape, str(leaf.dtype))
        if _is_whole(leaf):
            entry = dataclasses.replace(entry, offset=offset)
            parts.append(np.asarray(leaf).reshape(-1).view(np.uint8))
            offset = entry.end
        else:
            alone[name] = leaf
        index[name] = entry
    return {BYTES: np.concatenate(parts), **alone}, index


def make_template_index(tree: PyTree) -> Index:
    """Returns an index of a tree in which nothing is stored yet: its names, types and shapes."""
    return {name: Entry(leaf.shape, str(leaf.dtype)) for name, leaf in leaves_by_name(tree).items()}


def make_read_buffers(index: Index, template: PyTree) -> dict[str, Any]:
    """Returns, by name, the numpy array and the placed arrays to read what `pack` gave into.

    Args:
        index: from `pack`.
        template: a tree of the same names, types and shapes, on the devices wanted.
    """
    length = max(entry.end for entry in index.values() if entry.offset is not None)
    leaves = leaves_by_name(template)
    alone = {
        name: jax.ShapeDtypeStruct(entry.shape, entry.dtype, sharding=leaves[name].sharding)
        for name, entry in index.items()
        if entry.offset is None
    }
    return {BYTES: np.empty(length, np.uint8), **alone}


def unpack(stored: Mapping[str, Array | np.ndarray], index: Index, template: PyTree) -> PyTree:
    """Returns the tree, on devices as the template is.

    Args:
        stored: arrays like those of `make_read_buffers`, filled.
        index: from `pack`.
        template: as for `make_read_buffers`.
    """

    def placed(name: str, leaf: Array) -> Array | np.ndarray:
        entry = index[name]
        if entry.offset is None:
            return stored[name]
        part = stored[BYTES][entry.offset : entry.end].copy()  # in memory of its own, aligned
        whole = part.view(entry.dtype).reshape(entry.shape)
        if leaf.is_fully_addressable:
            return jax.device_put(whole, leaf.sharding)
        return jax.make_array_from_callback(entry.shape, leaf.sharding, lambda at: whole[at])

    leaves = leaves_by_name(template)
    return jax.tree.structure(template).unflatten(map(placed, leaves, leaves.values()))


def leaves_by_name(tree: PyTree) -> dict[str, Array]:
    """Returns name -> array, such as `params/dense/kernel`, in the tree's order."""

    def name(key: Any) -> str:
        return str(next(getattr(key, field) for field in _KEY_FIELDS if hasattr(key, field)))

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(name(key) for key in path): leaf for path, leaf in leaves}


def _is_whole(leaf: Array | np.ndarray) -> bool:
    """Returns whether this process has the whole of an array."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
