"""A writer of TensorFlow checkpoints, for tests of what reads them."""

import pathlib
import struct
from collections.abc import Mapping

import numpy as np

MAGIC = 0xDB4775248B80FB57
NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def crc32c(content: bytes) -> int:
    """The Castagnoli checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def fixed(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<I", value)


def block(entries: list[tuple[bytes, bytes]], *, shares: bool = True) -> bytes:
    """Entries that leave out what their key shares with the one before, and one restart."""
    found, last = b"", b""
    for key, value in entries:
        shared = 0
        while shares and shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        found += varint(shared) + varint(len(key) - shared) + varint(len(value))
        found += key[shared:] + value
        last = key
    return found + struct.pack("<II", 0, 1)


def with_trailer(content: bytes, kind: int = 0) -> bytes:
    return content + bytes([kind]) + struct.pack("<I", masked(content + bytes([kind])))


def record(array: np.ndarray, begin: int, **changed: int) -> bytes:
    """What the index says of an array; `changed` replaces a number of it."""
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    facts = {"dtype": NUMBERS[array.dtype.name], "shard": 0, "offset": begin,
             "size": len(content), "checksum": masked(content)} | changed  # fmt: skip
    found = field(1, facts["dtype"]) + field(2, shape) + field(3, facts["shard"])
    found += field(4, facts["offset"]) + field(5, facts["size"])
    return found + fixed(6, facts["checksum"])


def table(entries: list[tuple[bytes, bytes]], *, per_block: int = 4, kind: int = 0) -> bytes:
    """The bytes of an index."""
    found, handles = b"", []
    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        content = block(part)
        handles.append((part[-1][0], varint(len(found)) + varint(len(content))))
        found += with_trailer(content, kind)
    facts = varint(len(found)) + varint(len(block([])))
    found += with_trailer(block([]))
    content = block(handles, shares=False)
    footer = facts + varint(len(found)) + varint(len(content))
    found += with_trailer(content)
    return found + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


HEADER = field(1, 1) + field(2, 0)


def write_bundle(
    folder: pathlib.Path, arrays: Mapping[str, np.ndarray], **changed: int
) -> pathlib.Path:
    """Writes a checkpoint as TensorFlow does, and returns its index.

    Args:
        folder: of the two files.
        arrays: name -> array.
        changed: numbers of the record of the first array that are not what they should be.
    """
    data, entries = b"", [(b"", HEADER)]
    for name, array in sorted(arrays.items()):
        entries.append((name.encode(), record(array, len(data), **changed)))
        data += array.tobytes()
        changed = {}
    index = folder / ".index"
    index.write_bytes(table(entries))
    (folder / ".data-00000-of-00001").write_bytes(data)
    return index
