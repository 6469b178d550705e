"""TensorFlow's checkpoints, read without TensorFlow and without executing anything in them.

A checkpoint is two files, `PREFIX.index` and `PREFIX.data-00000-of-00001`. The index is a sorted
table of strings: blocks of entries that share the beginnings of their keys, each block followed by
its kind of compression and a checksum, and a footer with the place of the block that lists the
others. A key is the name of a variable, a value a protocol-buffer record of its type, shape and
place in the data file, which holds raw little-endian arrays one after the other. Key "" is a
header.

Every number in a file is checked against the file's size before it is used, blocks and arrays may
not overlap, and so a file can neither crash the reader nor make it take more memory than a small
multiple of its own size.

Source: the public formats of LevelDB's table and TensorFlow's `tensor_bundle.proto`.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musrep_jax.weights.errors import WeightFileError

INDEX_SUFFIX = ".index"
DATA_SUFFIX = ".data-00000-of-00001"

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "?", 19: "<f2"}
"""Number of a type in the format -> NumPy's. Source: `tensorflow/core/framework/types.proto`."""

LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Last part of a variable's name -> what PyTorch calls it."""

MAX_INDEX_BYTES = 1 << 24
MAX_ENTRIES = 100_000
MAX_KEY_BYTES = 1_024
MAX_AXES = 8

_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_MAGIC = 0xDB4775248B80FB57
_MASK_DELTA = 0xA282EAD8
_UINT32 = 0xFFFFFFFF


class _BrokenError(Exception):
    """The bytes are not what the format says; the message says which."""


class Entry(NamedTuple):
    """What the index says about a variable.

    Attributes:
        dtype: number of its type.
        shape: of the array.
        offset: in the data file, in bytes.
        size: in bytes.
        checksum: masked CRC-32C of the bytes.
    """

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def read_bundle(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the variables of a TensorFlow checkpoint, named and laid out as PyTorch has them.

    What training left beside them is left out: the slots of the optimizer, whose names lie under a
    variable's own (`conv2d/kernel/Adam`), and counters, which have no axes.

    Args:
        path: of the file that ends in `.index`; the data file lies beside it.

    Returns:
        For example "conv2d.weight" -> (out, in, frequency, time); floating-point arrays are
        float32.

    Raises:
        WeightFileError: if a file is missing, damaged, or of a kind that is not read.
    """
    path = Path(path)
    data = path.with_name(path.name.removesuffix(INDEX_SUFFIX) + DATA_SUFFIX)
    if not data.is_file():
        raise WeightFileError(
            f"{path} is the index of a TensorFlow checkpoint, whose arrays are missing: put "
            f"{data.name} beside it (a checkpoint of several such files is not read)."
        )
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise _BrokenError(f"it is larger than {MAX_INDEX_BYTES:,} bytes")
        entries = read_index(path.read_bytes())
    except _BrokenError as error:
        raise WeightFileError(
            f"{path} is damaged or not the index of a TensorFlow checkpoint: {error}."
        ) from error
    wanted = {
        name: entry
        for name, entry in entries.items()
        if entry.shape and name.rpartition("/")[0] not in entries
    }
    try:
        return dict(_read_arrays(data, wanted))
    except _BrokenError as error:
        raise WeightFileError(
            f"{data} is damaged, or belongs to another index than {path.name}: {error}."
        ) from error


def _read_arrays(data: Path, entries: dict[str, Entry]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and array of the entries."""
    total = data.stat().st_size
    if sum(entry.size for entry in entries.values()) > total:
        raise _BrokenError(f"it has {total:,} bytes, which is fewer than its arrays have")
    with data.open("rb") as file:
        for name, entry in entries.items():
            dtype = DTYPES.get(entry.dtype)
            if dtype is None:
                raise _BrokenError(f"{name!r} is of the type {entry.dtype}, which is not read")
            if math.prod(entry.shape) * np.dtype(dtype).itemsize != entry.size:
                raise _BrokenError(f"{name!r} of shape {entry.shape} has {entry.size:,} bytes")
            if entry.offset + entry.size > total:
                raise _BrokenError(f"{name!r} lies beyond the end of the file")
            file.seek(entry.offset)
            content = file.read(entry.size)
            if mask_checksum(compute_crc32c(content)) != entry.checksum:
                raise _BrokenError(f"the checksum of {name!r} is wrong")
            array = np.frombuffer(content, dtype).reshape(entry.shape)
            module, _, leaf = name.rpartition("/")
            if leaf == "kernel":  # (time, frequency, in, out) -> (out, in, frequency, time)
                array = array.transpose()
            renamed = ".".join((*filter(None, module.split("/")), LEAVES.get(leaf, leaf)))
            yield renamed, array.astype(np.float32) if array.dtype.kind == "f" else array


def read_index(content: bytes) -> dict[str, Entry]:
    """Returns variable name -> entry of the bytes of an index."""
    if len(content) < _FOOTER_BYTES:
        raise _BrokenError(f"it has {len(content)} bytes")
    footer = content[-_FOOTER_BYTES:]
    if struct.unpack("<Q", footer[40:])[0] != _MAGIC:
        raise _BrokenError("it does not end as one does")
    at = 0
    for _ in range(2):
        _, at = _read_varint(footer, at)  # of a block of further facts, which has none
    block = _read_block(content, *_read_handle(footer, at), fewest=0)
    entries: dict[str, Entry] = {}
    has_header, end, count = False, 0, 0
    for _, value in _read_entries(block):
        offset, size = _read_handle(value, 0)
        for key, record in _read_entries(_read_block(content, offset, size, fewest=end)):
            count += 1
            if count > MAX_ENTRIES:
                raise _BrokenError(f"it has more than {MAX_ENTRIES:,} entries")
            if key:
                entries[_to_text(key)] = _read_record(record)
            else:
                _check_header(record)
                has_header = True
        end = offset + size + _TRAILER_BYTES
    if not has_header or not entries:
        raise _BrokenError("it lists no variables")
    return entries


def _read_block(content: bytes, offset: int, size: int, *, fewest: int) -> bytes:
    """Returns a block whose checksum is right, and that begins where another may not be."""
    end = offset + size
    if offset < fewest or end + _TRAILER_BYTES > len(content) - _FOOTER_BYTES:
        raise _BrokenError("a block lies beyond its end, or overlaps another")
    if content[end]:
        raise _BrokenError("it is compressed, which is not read")
    (checksum,) = struct.unpack_from("<I", content, end + 1)
    if mask_checksum(compute_crc32c(content[offset : end + 1])) != checksum:
        raise _BrokenError("the checksum of a block is wrong")
    return content[offset:end]


def _read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block; a key leaves out what it shares with the last one."""
    if len(block) < 4:
        raise _BrokenError("a block is too short")
    (num_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 * (num_restarts + 1)
    if end < 0:
        raise _BrokenError("a block is too short")
    at, key = 0, b""
    while at < end:
        (shared, at), (own, at), (length, at) = _read_three(block, at)
        if shared > len(key) or shared + own > MAX_KEY_BYTES or at + own + length > end:
            raise _BrokenError("an entry lies beyond the end of its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _read_three(content: bytes, at: int) -> Iterator[tuple[int, int]]:
    for _ in range(3):
        value, at = _read_varint(content, at)
        yield value, at


def _read_handle(content: bytes, at: int) -> tuple[int, int]:
    """Returns the offset and size of a block."""
    offset, at = _read_varint(content, at)
    return offset, _read_varint(content, at)[0]


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Returns a whole number of seven bits per byte, and where it ends."""
    value = 0
    for number, byte in enumerate(content[at : at + 10]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, at + number + 1
    raise _BrokenError("a number does not end")


def _read_fields(record: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields number and value of the fields of a protocol-buffer record."""
    at = 0
    while at < len(record):
        tag, at = _read_varint(record, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(record, at)
            yield tag >> 3, value
            continue
        sizes = {1: 8, 5: 4}
        if kind == 2:
            size, at = _read_varint(record, at)
        elif kind in sizes:
            size = sizes[kind]
        else:
            raise _BrokenError("a record has a field of an unknown kind")
        if at + size > len(record):
            raise _BrokenError("a field lies beyond the end of its record")
        content = record[at : at + size]
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
        at += size


def _check_header(record: bytes) -> None:
    """Raises unless a checkpoint has one data file, of little-endian numbers."""
    fields = dict(_read_fields(record))
    if fields.get(1, 1) != 1:
        raise _BrokenError("its arrays lie in several files, which is not read")
    if fields.get(2, 0) != 0:
        raise _BrokenError("its numbers are big-endian, which is not read")


def _read_record(record: bytes) -> Entry:
    """Returns the entry that a record of the index holds."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    for field, value in _read_fields(record):
        if field == 2 and isinstance(value, bytes):
            shape = _read_shape(value)
        elif field == 7:
            raise _BrokenError("a variable is cut into slices, which is not read")
        elif field in numbers and isinstance(value, int):
            numbers[field] = value
    if numbers[3]:
        raise _BrokenError("its arrays lie in several files, which is not read")
    return Entry(numbers[1], shape, numbers[4], numbers[5], numbers[6])


def _read_shape(record: bytes) -> tuple[int, ...]:
    sizes = []
    for field, value in _read_fields(record):
        if field == 2 and isinstance(value, bytes):
            size = dict(_read_fields(value)).get(1, 0)
            if not isinstance(size, int) or size >= 1 << 63:
                raise _BrokenError("a shape has an axis without a length")
            sizes.append(size)
        elif field == 3 and value:
            raise _BrokenError("a variable has no shape")
    if len(sizes) > MAX_AXES:
        raise _BrokenError(f"a variable has {len(sizes)} axes")
    return tuple(sizes)


def _to_text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise _BrokenError("the name of a variable is no text") from error


def _make_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def compute_crc32c(content: bytes) -> int:
    """Returns the CRC-32C (Castagnoli) of bytes.

    Example:
        >>> hex(compute_crc32c(b"123456789"))
        '0xe3069283'
    """
    table, crc = _TABLE, _UINT32
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _UINT32


def mask_checksum(crc: int) -> int:
    """Returns a checksum as the format stores it, so that checksums of checksums mean something."""
    return (crc >> 15 | crc << 17) + _MASK_DELTA & _UINT32
