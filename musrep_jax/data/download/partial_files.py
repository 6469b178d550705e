"""Partial downloads: received data, the server's metadata, free disk space."""

import contextlib
import http
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from musrep_jax.runtime.files import DISK_FULL_ERRNOS, write_json
from musrep_jax.runtime.locks import Lock

_MEGABYTE = 1e6


class DownloadError(OSError):
    """Something cannot be downloaded; the message is one sentence.

    Attributes:
        status: of the server's answer; None if there was none, or it was not to blame.
        is_html_page: whether a web page came instead of the file.
        is_local: whether the cause is on this machine, such as a full disk.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        is_html_page: bool = False,
        is_local: bool = False,
    ) -> None:
        """Stores the facts about the failure."""
        super().__init__(text)
        self.status = status
        self.is_html_page = is_html_page
        self.is_local = is_local


class TransferInterruptedError(Exception):
    """The transfer ended early and may go on; the message says how it ended."""


class PartialFile:
    """The part of a file that has come, locked against other processes while it is open.

    Attributes:
        path: where it lies.
        note: the server's metadata of the file.
        size: bytes that have come.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Names the part; nothing is opened yet.

        Args:
            path: of the whole file.
        """
        self.path = path.with_name(f"{path.name}.part")
        self._note_path = path.with_name(f"{path.name}.part.json")
        self._lock = Lock(path.with_name(f".{path.name}.lock"), str(self.path), is_local=True)
        self.note: dict[str, Any] = {}
        self.size = 0

    def __enter__(self) -> "PartialFile":
        with reraise_disk_full_as_download_error(self.path):
            if not self._lock.take(is_quiet=True):
                raise DownloadError(
                    f"another process is fetching {self.path} ({self._lock.holder()}); let it "
                    "finish.",
                    is_local=True,
                )
            try:
                self._file = open(self.path, "ab")
            except BaseException:
                self._lock.release()
                raise
        self.size = os.fstat(self._file.fileno()).st_size
        if self.size and self._note_path.is_file():
            # Half a note is no note: the file is then fetched from its beginning.
            with contextlib.suppress(ValueError):
                self.note = json.loads(self._note_path.read_text(encoding="utf-8"))
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        if not self.size:
            self.remove()
        self._lock.release()

    def accept(self, response: Any) -> int | None:
        """Returns the length of the whole file; restarts unless the answer continues the part."""
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            self.restart()
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None
        extent = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        total = int(extent[2]) if extent and extent[2] != "*" else None
        if not extent or int(extent[1]) != self.size or self.note.get("size", total) != total:
            self.restart()
            raise TransferInterruptedError("the server continues another file")
        return total

    def write_metadata(self, url: str, headers: Any, total: int | None) -> None:
        """Stores what is needed to resume later."""
        etag = headers.get("ETag", "")
        self.note = {
            "url": url,
            "etag": None if etag.startswith("W/") else etag or None,
            "modified": headers.get("Last-Modified"),
            **({} if total is None else {"size": total}),
        }
        with reraise_disk_full_as_download_error(self._note_path):
            write_json(self._note_path, self.note)

    def append(self, chunk: bytes) -> None:
        """Writes a further piece, so that it survives this process."""
        with reraise_disk_full_as_download_error(self.path):
            self._file.write(chunk)
            self._file.flush()
        self.size += len(chunk)

    def sync(self) -> None:
        """Waits until everything is on the disk."""
        with reraise_disk_full_as_download_error(self.path):
            os.fsync(self._file.fileno())

    def restart(self) -> None:
        """Discards the received data."""
        self._file.truncate(0)
        self.size, self.note = 0, {}

    def rename(self, path: pathlib.Path) -> None:
        """Gives the part the name of the whole file."""
        os.replace(self.path, path)
        self._note_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the part."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)


def check_free_space(folder: pathlib.Path, need: int, name: str) -> None:
    """Refuses what does not fit on the disk of a folder.

    Args:
        folder: where it will lie.
        need: bytes.
        name: of what needs them.

    Raises:
        DownloadError: if the disk has less free.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DownloadError(
            f"{name} needs {need / _MEGABYTE:,.1f} MB more, and the disk of {folder} has "
            f"{free / _MEGABYTE:,.1f} MB free; free some space and run the same command again.",
            is_local=True,
        )


@contextlib.contextmanager
def reraise_disk_full_as_download_error(path: pathlib.Path) -> Iterator[None]:
    """Says in one sentence that the disk is full, when writing a file fails for this reason."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise DownloadError(
            f"no room left on the disk while writing {path}; free some space and run the same "
            "command again: it resumes from there.",
            is_local=True,
        ) from error
