"""Arrays in `.npy` files that grow row by row and can be opened with `np.load` at any time.

The header that numpy writes has room for the number of rows to grow to 21 digits, so it is written
over in place, after the rows. A process that is killed in between leaves rows that the header does
not count; one that is opened again cuts them off.
"""

import io
import os
import pathlib
import re
import struct
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from musrep_jax.runtime.closing import Closing
from musrep_jax.runtime.files import replace_file


class ArrayFileError(ValueError):
    """A file is not the expected array; the message is one sentence."""


class GrowingArray(Closing):
    """A `.npy` file, C order, whose first axis grows.

    Attributes:
        num_rows: that have been appended, on the disk or on the way.
    """

    def __init__(self, path: pathlib.Path, row: tuple[int, ...], dtype: str) -> None:
        """Opens the file, or makes an empty one.

        Args:
            path: of the file.
            row: shape of a row.
            dtype: of the numbers, with byte order ("<f4").

        Raises:
            ArrayFileError: if the file holds something else.
        """
        self._path, self._row, self._dtype = path, row, np.dtype(dtype)
        self._row_bytes = int(np.prod(row, dtype=np.int64)) * self._dtype.itemsize
        if not path.exists():
            with replace_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, np.zeros((0, *row), self._dtype))
        self._file: BinaryIO = path.open("r+b")
        self.num_rows, found, self._start = read_header(self._file, path)
        if found != (row, self._dtype):
            raise ArrayFileError(
                f"{path} has rows of {found[0]} {found[1]}, not of {row} {self._dtype}: it belongs "
                "to another store."
            )
        self._file.seek(0, os.SEEK_END)
        whole = (self._file.tell() - self._start) // max(1, self._row_bytes)
        self.cut(min(self.num_rows, whole) if self._row_bytes else self.num_rows)

    def cut(self, num_rows: int) -> None:
        """Drops all rows but the first."""
        self.num_rows = num_rows
        self.count()  # first, so that no reader finds fewer rows than the header says
        self._file.truncate(self._start + num_rows * self._row_bytes)
        self._file.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        """Appends rows, (rows, *row); they are visible once `count` has been called."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self.num_rows += len(rows)

    def count(self) -> None:
        """Writes the number of rows into the header."""
        self._file.flush()  # the rows first
        header = io.BytesIO()
        shape = (self.num_rows, *self._row)
        facts = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(header, facts)
        if header.tell() != self._start:
            raise ArrayFileError(f"{self._path} has no room in its header for more rows.")
        self._file.seek(0)
        self._file.write(header.getvalue())
        self._file.flush()
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Syncs the rows to disk, and closes the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_header(
    file: BinaryIO, path: pathlib.Path
) -> tuple[int, tuple[tuple[int, ...], np.dtype], int]:
    """Returns (number of rows, (shape of a row, dtype), where the first row begins).

    Args:
        file: open at its beginning.
        path: for messages.

    Raises:
        ArrayFileError: if it is no array in C order.
    """
    try:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("another version of the format")
    except ValueError as error:
        raise ArrayFileError(f"{path} is no array that numpy reads ({error}).") from error
    (length,) = struct.unpack("<H", (file.read(2) + b"\0\0")[:2])
    found = _HEADER.fullmatch(file.read(length))
    if found is None:
        raise ArrayFileError(f"{path} is no array of numbers in C order, as a store holds them.")
    shape = tuple(int(size) for size in found["shape"].decode().replace(",", " ").split())
    return shape[0], (shape[1:], np.dtype(found["type"].decode())), file.tell()


_HEADER = re.compile(
    rb"\{'descr': '(?P<type><f[48])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,18}(?:, \d{1,9}){0,3},?)\), \}\s*"
)
"""As numpy writes it: read by ourselves, so that nothing but plain numbers is ever mapped."""


def open_array(path: pathlib.Path, row: tuple[int, ...], dtype: str) -> np.ndarray:
    """Returns the array of a file, mapped and not read.

    Args:
        path: as `GrowingArray` writes it, perhaps at this moment.
        row: shape of a row, as the store says.
        dtype: of the numbers, as the store says.

    Raises:
        ArrayFileError: if it is another array, or its file was cut.
    """
    with path.open("rb") as file:
        num_rows, found, start = read_header(file, path)
    if found != (row, np.dtype(dtype)):
        raise ArrayFileError(
            f"{path} has rows of {found[0]} {found[1]}, and store.json says {row} "
            f"{np.dtype(dtype)}."
        )
    row_bytes = int(np.prod(row, dtype=np.int64)) * np.dtype(dtype).itemsize
    if path.stat().st_size < start + num_rows * row_bytes:
        raise ArrayFileError(
            f"{path} was cut: it holds {(path.stat().st_size - start) // row_bytes} of its "
            f"{num_rows} rows; copy it again, or embed into this store again, which drops the rest."
        )
    if not num_rows * row_bytes:  # nothing can be mapped of an empty array
        return np.zeros((num_rows, *row), dtype)
    return np.memmap(path, dtype, "r", start, (num_rows, *row))
