"""The folder of a corpus, as the user has it: what should lie in it, and how it is read."""

import csv
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.download.files import SourceFile

_MAX_FIELD_LENGTH = 1 << 24
"""In characters; the biographies of some tables exceed what Python's csv module reads unasked."""


class CorpusFiles:
    """Part of `CorpusBuilder`: reads the files in the corpus' folder.

    Attributes:
        folder: the corpus' folder.
    """

    NAME = ""
    FILES: tuple[SourceFile, ...] = ()
    folder: pathlib.Path

    def need(self, relative: str) -> pathlib.Path:
        """Returns the path of a file of the corpus that must be there.

        Args:
            relative: path in the folder.

        Raises:
            BuildError: if it is not there; the message says how to get it.
        """
        path = self.folder / relative
        if path.exists():
            return path
        how = next((file.how for file in self.FILES if file.path == relative and file.how), "")
        raise BuildError(
            f"{self.NAME} needs {path}, which is not there. "
            f"`musrep download {self.NAME}` fetches it or says where it is. {how}".rstrip()
        )

    def read_text(self, relative: str) -> str:
        """Returns the text of a file of the corpus that must be there (UTF-8).

        Args:
            relative: path in the folder.

        Raises:
            BuildError: if it is not there, or no text.
        """
        path = self.need(relative)
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise BuildError(f"{path} is not text in UTF-8 ({error}); download it anew.") from error

    def read_table(
        self, relative: str, columns: Sequence[str], delimiter: str = "\t"
    ) -> list[dict[str, str]]:
        """Returns the rows of a table with a header line; nothing is taken for a missing value.

        Args:
            relative: path in the folder.
            columns: that it must have.
            delimiter: between fields, which may stand in double quotes.

        Raises:
            BuildError: if it is not there, lacks a column, or a row has another number of fields.
        """
        rows = self.iter_rows(relative, delimiter)
        header = next(rows, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise BuildError(
                f"{self.folder / relative} has no column {missing[0]!r}; it is not the published "
                f"table: download it anew with `musrep download {self.NAME}`."
            )
        table = []
        for row in rows:
            if len(row) != len(header):
                raise BuildError(
                    f"row {len(table) + 2} of {self.folder / relative} has {len(row)} fields "
                    f"instead of {len(header)}: the file is damaged; download it anew."
                )
            table.append(dict(zip(header, row, strict=True)))
        return table

    def iter_rows(self, relative: str, delimiter: str = "\t") -> Iterator[list[str]]:
        """Yields the fields of each row of a table, the header included; empty lines are passed.

        Args:
            relative: path in the folder.
            delimiter: between fields, which may stand in double quotes.

        Raises:
            BuildError: if it is not there, or no table in UTF-8.
        """
        path = self.need(relative)
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_LENGTH))
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                yield from (row for row in csv.reader(file, delimiter=delimiter) if row)
        except (UnicodeDecodeError, csv.Error) as error:
            raise BuildError(f"{path} is no table in UTF-8 ({error}); download it anew.") from (
                error
            )

    def read_list(self, relative: str) -> list[str]:
        """Returns the texts of a one-dimensional `.npy` file, in order; nothing is unpickled.

        Args:
            relative: path in the folder.

        Raises:
            BuildError: if it is not there, or not such an array.
        """
        path = self.need(relative)
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BuildError(
                f"{path} cannot be read as a numpy array ({error}); download it anew."
            ) from error
        if array.ndim != 1 or array.dtype.kind not in "US":
            raise BuildError(f"{path} is not a list of texts; download it anew.")
        return [str(text) for text in array.astype(str)]

    def find_prefix(self, candidates: Sequence[str], paths: Sequence[str]) -> str:
        """Returns the prefix under which a corpus' files lie, for archives that unpack so or so.

        Args:
            candidates: prefixes such as "" or "mp3/", the likeliest first.
            paths: of the files, without the prefix.

        Returns:
            The first under which any of them is; the first of all if none is.
        """
        for prefix in candidates:
            if any((self.folder / f"{prefix}{path}").is_file() for path in paths):
                return prefix
        return candidates[0]
