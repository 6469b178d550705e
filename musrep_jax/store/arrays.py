"""Arrays in `.npy` files that grow row by row, and that `np.load` opens at any moment.

The header that numpy writes has room for the number of rows to grow to 21 digits, so it is written
over in place, after the rows. A process that is killed in between leaves rows that the header does
not count; one that is opened again cuts them off.
"""

import io
import os
import pathlib
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from musrep_jax.runtime.closing import Closing
from musrep_jax.runtime.files import replace_file


class ArrayFileError(ValueError):
    """A file is not the array it should be; the message is one sentence."""


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
        self._file.truncate(self._start + num_rows * self._row_bytes)
        self._file.seek(0, os.SEEK_END)
        self.count()

    def append(self, rows: np.ndarray) -> None:
        """Adds rows, (rows, *row); they are there once `count` has been called."""
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
        """Waits until the rows are on the disk, and closes the file."""
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
        shape, is_fortran, dtype = npy.read_array_header_1_0(file)
    except ValueError as error:
        raise ArrayFileError(f"{path} is no array that numpy reads ({error}).") from error
    if is_fortran or not shape:
        raise ArrayFileError(f"{path} has the shape {shape} and is not in C order.")
    return shape[0], (shape[1:], dtype), file.tell()


def open_array(path: pathlib.Path) -> np.ndarray:
    """Returns the array of a file, mapped and not read; its rows as far as they are there.

    Args:
        path: as `GrowingArray` writes it, perhaps at this moment.

    Raises:
        ArrayFileError: if it is no such array.
    """
    with path.open("rb") as file:
        num_rows, (row, dtype), start = read_header(file, path)
    row_bytes = int(np.prod(row, dtype=np.int64)) * dtype.itemsize
    if row_bytes:
        num_rows = min(num_rows, (path.stat().st_size - start) // row_bytes)
    if not num_rows * row_bytes:  # nothing can be mapped of an empty array
        return np.zeros((num_rows, *row), dtype)
    return np.memmap(path, dtype, "r", start, (num_rows, *row))
