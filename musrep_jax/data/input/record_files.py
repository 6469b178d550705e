"""Reading a part of a record where it lies in its file, without reading the rest.

An `array_record` file is a Riegeli file: blocks of 64 KiB, each with a header of 24 bytes, through
which chunks run on as if the headers were not there. What we write has one uncompressed record to a
chunk, so that a record's bytes stand in the file as they are. Places are counted without the block
headers here: byte n of a record is n places after its first.

Source: the Riegeli/records file format (github.com/google/riegeli, doc), ArrayRecord 0.8.
"""

import os
import pathlib
import struct
import threading
import zlib
from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 1 << 16
_BLOCK_HEADER_BYTES = 24
_BLOCK_DATA_BYTES = BLOCK_BYTES - _BLOCK_HEADER_BYTES
_CHUNK_HEADER = struct.Struct("<8xQ8xc7sQ")
"""Hash, size of the data, hash of the data, type, number of records, size when decoded."""
_SIGNATURE, _RECORDS, _PADDING = b"s", b"r", b"p"
_MAX_CHUNK_BYTES = 1 << 40
"""A chunk that claims more is none: the file is not of the expected form."""


class RecordFile:
    """A file of records that is read by place; several threads may do so at once."""

    def __init__(self, path: pathlib.Path, sums: np.ndarray | None = None) -> None:
        """Opens the file when it is first read.

        Args:
            path: of the file.
            sums: of `block_sums`, when the file was known to be whole; every block is compared
                with its own before the first byte of it is returned. None compares nothing.
        """
        self.path = pathlib.Path(path)
        self._sums = sums
        self._is_verified = bytearray(0 if sums is None else len(sums))
        self._file: int | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)

    def read(self, place: int, length: int) -> bytes:
        """Returns bytes of the file; fewer where it is over.

        Args:
            place: of the first byte.
            length: how many.

        Raises:
            OSError: if the bytes are not those that the sums were taken of.
        """
        if length <= 0:
            return b""
        if self._file is None:
            with self._lock:
                if self._file is None:
                    self._file = os.open(self.path, os.O_RDONLY)
        first, end = _offset(place), _offset(place + length - 1) + 1
        self._verify_blocks(first // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        raw = os.pread(self._file, end - first, first)
        head = BLOCK_BYTES - first % BLOCK_BYTES
        if len(raw) <= head:
            return raw
        view = memoryview(raw)
        rest = range(head, len(raw), BLOCK_BYTES)
        return b"".join(
            [view[:head], *(view[at + _BLOCK_HEADER_BYTES : at + BLOCK_BYTES] for at in rest)]
        )

    def _verify_blocks(self, first: int, end: int) -> None:
        """Raises if one of the blocks [first, end) is not what it was."""
        for block in range(first, min(end, len(self._is_verified))):
            if not self._is_verified[block]:
                raw = os.pread(self._file, BLOCK_BYTES, block * BLOCK_BYTES)
                if zlib.crc32(raw) != self._sums[block]:
                    raise OSError(
                        f"{self.path} is damaged: its bytes from {block * BLOCK_BYTES} on are not "
                        f"those that were written; remove {self.path.parent} and build the data "
                        "set again, or copy it again."
                    )
                self._is_verified[block] = 1

    def block_sums(self) -> np.ndarray:
        """Returns the CRC-32 of every block of the file, uint32 (blocks,)."""
        with self.path.open("rb") as file:
            blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
            return np.fromiter((zlib.crc32(block) for block in blocks), np.uint32)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yields (place, size) of the data of each chunk that holds one record, in order.

        Ends where the file is over, or is not of the expected form: it is left to whoever asks to
        see that a record is where it is said to be.
        """
        place = 0
        while True:
            header = self.read(place, _CHUNK_HEADER.size)
            if len(header) < _CHUNK_HEADER.size:
                return
            size, kind, num_records, _ = _CHUNK_HEADER.unpack(header)
            place += _CHUNK_HEADER.size
            if kind == _RECORDS and int.from_bytes(num_records, "little") == 1:
                yield place, size
            elif kind not in (_SIGNATURE, _PADDING) or size > _MAX_CHUNK_BYTES:
                return
            place += size


def _offset(place: int) -> int:
    """Returns the offset in the file of a place."""
    block, within = divmod(place, _BLOCK_DATA_BYTES)
    return block * BLOCK_BYTES + _BLOCK_HEADER_BYTES + within
