"""The files of a corpus' folder: described, checked, fetched, unpacked.

A file is fetched into `PATH.part` and gets its name when size and sha256 are right: what stands
under its name is whole. The sums of files that have been read once are remembered, by size and
time of change, so that a second check is instant. An archive is unpacked beside itself; it may be
deleted once `PATH.unpacked` stands there.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

from musrep_jax.data.download import archives
from musrep_jax.data.download.http_client import HttpClient, Show
from musrep_jax.data.download.partial_files import (
    DownloadError,
    reraise_disk_full_as_download_error,
)
from musrep_jax.runtime.files import write_json
from musrep_jax.runtime.progress import Progress

CHECKSUMS_FILE = ".musrep-sums.json"
"""Cache of checksums, in the corpus' folder."""

_CHUNK_BYTES = 1 << 20
_MOVE_FILE_HINT = "Move it away and run the same command again."


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file that a corpus needs.

    Attributes:
        path: where it belongs in the corpus' folder, with forward slashes.
        url: where it is fetched from; None if it must be got by hand.
        size: in bytes, where known.
        sha256: hexadecimal, where known.
        unpack: whether it is an archive (.zip, .tar, .tar.gz, .tgz), unpacked beside itself; a zip
            that is cut into parts (.zip.001, .zip.002, ...) is one archive of several files.
        how: the manual way: where it is and what must be done there, a sentence.
    """

    path: str
    url: str | None
    size: int | None
    sha256: str | None
    unpack: bool = False
    how: str = ""


@dataclasses.dataclass(frozen=True)
class FileState:
    """The local state of a file.

    Attributes:
        file: that it is about.
        state: "present", "missing", "wrong size" or "wrong checksum"; after an attempt to fetch
            it, "downloaded" or "failed".
        note: a sentence on what to know or do; "" if nothing.
        is_unpacked: whether nothing is left to unpack.
    """

    file: SourceFile
    state: str
    note: str = ""
    is_unpacked: bool = True

    @property
    def is_absent(self) -> bool:
        """Whether the file is missing or wrong."""
        return self.state not in {"present", "downloaded"}

    @property
    def is_ready(self) -> bool:
        """Whether the file is as it should be, and unpacked if it is an archive."""
        return self.is_unpacked and not self.is_absent


class ChecksumCache:
    """The sha256 of files of a folder, each read once for every size and time of change."""

    def __init__(
        self, folder: str | os.PathLike, make_progress: Callable[[str], Progress] = Progress
    ) -> None:
        """Reads the cache.

        Args:
            folder: of the corpus; it may not exist yet.
            make_progress: makes what shows how far a large file has been read.
        """
        self._folder = pathlib.Path(folder)
        self._make_progress = make_progress
        self._path = self._folder / CHECKSUMS_FILE
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            rows = {}  # a memory only: whatever it does not hold is computed
        self._rows = rows if isinstance(rows, dict) else {}

    def sha256(self, path: str) -> str:
        """Returns the hexadecimal sha256 of a file, reading it only if it has changed.

        Args:
            path: in the folder, with forward slashes.
        """
        status = (self._folder / path).stat()
        stamp = [status.st_size, status.st_mtime_ns]
        row = self._rows.get(path)
        if not (isinstance(row, list) and row[:2] == stamp):
            row = [*stamp, self._read(path, status.st_size)]
            self._rows[path] = row
            self._keep()
        return str(row[2])

    def _read(self, path: str, size: int) -> str:
        digest, have = hashlib.sha256(), 0
        progress = contextlib.closing(self._make_progress(f"reading {path}"))
        with open(self._folder / path, "rb") as file, progress as show:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                have += len(chunk)
                show(have, size)
        return digest.hexdigest()

    def rename(self, old: str, new: str) -> None:
        """Remembers the sum of a file under its new name."""
        if old in self._rows:
            self._rows[new] = self._rows.pop(old)
            self._keep()

    def _keep(self) -> None:
        if os.access(self._folder, os.W_OK):
            with reraise_disk_full_as_download_error(self._path):
                write_json(self._path, self._rows)


def check_file(
    file: SourceFile,
    folder: str | os.PathLike,
    *,
    sums: ChecksumCache | None = None,
    is_quick: bool = False,
) -> FileState:
    """Returns the local state of a file.

    Args:
        file: what should be there.
        folder: of the corpus.
        sums: of the folder; None to make it.
        is_quick: look at the size only and trust the content.
    """
    folder = pathlib.Path(folder)
    path = folder / file.path
    unpacked = archives.read_marker(path) if file.unpack else {}
    if path.is_dir():
        state = "present" if any(path.iterdir()) else "missing"
        return FileState(
            file, state, "" if state == "present" else format_manual_instructions(file, folder)
        )
    if not path.exists():
        if unpacked and file.sha256 in (None, unpacked["sha256"]):
            return FileState(file, "present", "It is unpacked; the archive itself has gone.")
        return FileState(file, "missing", _format_download_hint(file, folder), not file.unpack)
    size = path.stat().st_size
    if file.size not in (None, size):
        note = f"It has {size} bytes instead of {file.size}. {_MOVE_FILE_HINT}"
        return FileState(file, "wrong size", note, not file.unpack)
    is_same = bool(unpacked) and unpacked["size"] == size
    if not is_quick and (file.sha256 or file.unpack):
        found = (sums or ChecksumCache(folder)).sha256(file.path)
        if file.sha256 not in (None, found):
            note = f"Its sha256 is {found} instead of {file.sha256}. {_MOVE_FILE_HINT}"
            return FileState(file, "wrong checksum", note, not file.unpack)
        is_same = is_same and unpacked["sha256"] == found
    if file.unpack and not is_same:
        return FileState(file, "present", "It is not unpacked yet.", False)
    return FileState(file, "present")


def check_files(folder: str | os.PathLike, files: Iterable[SourceFile]) -> list[FileState]:
    """Checks the files of a corpus, size first, then sha256, and returns their states.

    Args:
        folder: of the corpus.
        files: what should be there.
    """
    sums = ChecksumCache(folder)
    return [check_file(file, folder, sums=sums) for file in files]


def find_missing_files(folder: str | os.PathLike, files: Iterable[SourceFile]) -> list[SourceFile]:
    """Returns the files that are not there, of the wrong size, or archives not yet unpacked.

    No content is read, so that a builder can ask every time.

    Args:
        folder: of the corpus.
        files: what should be there.
    """
    return [file for file in files if not check_file(file, folder, is_quick=True).is_ready]


def _format_download_hint(file: SourceFile, folder: pathlib.Path) -> str:
    if not file.url:
        return format_manual_instructions(file, folder)
    part = folder / f"{file.path}.part"
    return f"{part.stat().st_size / 1e6:,.1f} MB of it have come." if part.is_file() else ""


def format_manual_instructions(file: SourceFile, folder: str | os.PathLike) -> str:
    """Returns how a file is got without this program: where it is, and where it belongs.

    Args:
        file: that is wanted.
        folder: of the corpus.
    """
    facts = [f"{file.size} bytes"] if file.size is not None else []
    facts += [f"sha256 {file.sha256}"] if file.sha256 else []
    listed = f" ({', '.join(facts)})" if facts else ""
    how = file.how or (f"It is published at {file.url}." if file.url else "")
    return f"{how} Save it as {pathlib.Path(folder) / file.path}{listed}.".strip()


def fetch_file(
    file: SourceFile,
    folder: str | os.PathLike,
    *,
    web: HttpClient | None = None,
    sums: ChecksumCache | None = None,
    show: Show | None = None,
) -> FileState:
    """Fetches a file if it is missing, and returns its state; does not unpack it.

    Args:
        file: that is wanted.
        folder: of the corpus; it is made.
        web: how requests are made; None for the usual patience.
        sums: of the folder; None to make it.
        show: takes the progress.

    Raises:
        DownloadError: if it cannot be had; the message ends with the manual way. A file that is
            there and wrong is left alone.
    """
    sums = sums or ChecksumCache(folder)
    state = check_file(file, folder, sums=sums)
    if state.state == "present":
        return state
    if state.state != "missing":
        raise DownloadError(f"{pathlib.Path(folder) / file.path}: {state.note}", is_local=True)
    if not file.url:
        raise DownloadError(state.note)

    def find_error(part: pathlib.Path) -> str:
        found = sums.sha256(part.relative_to(folder).as_posix())
        return (
            ""
            if found == file.sha256
            else f"the sha256 of {file.url} is {found} instead of {file.sha256}"
        )

    path = pathlib.Path(folder) / file.path
    try:
        (web or HttpClient()).save(
            file.url,
            path,
            size=file.size,
            find_error=find_error if file.sha256 else None,
            show=show,
        )
        if file.size is None and not path.stat().st_size:  # no corpus has an empty file
            path.unlink()
            raise DownloadError(f"The answer of {file.url} is empty.")
    except DownloadError as error:
        text = (
            str(error)
            if error.is_local
            else f"{error} By hand: {format_manual_instructions(file, folder)}"
        )
        raise DownloadError(
            text, status=error.status, is_html_page=error.is_html_page, is_local=error.is_local
        ) from error
    sums.rename(f"{file.path}.part", file.path)
    return dataclasses.replace(check_file(file, folder, sums=sums), state="downloaded")


def fetch_files(
    folder: str | os.PathLike,
    files: Sequence[SourceFile],
    *,
    web: HttpClient | None = None,
    make_progress: Callable[[str], Progress] = Progress,
) -> list[FileState]:
    """Fetches and unpacks missing files of a corpus; returns the resulting states.

    A failure is reported in the note of its state and does not stop the others.

    Args:
        folder: of the corpus; it is made.
        files: that are wanted.
        web: how requests are made; None for the usual patience.
        make_progress: makes what shows the progress of a file with this name.
    """
    web, sums = web or HttpClient(), ChecksumCache(folder, make_progress)
    states = []
    for file in files:
        with contextlib.closing(make_progress(file.path)) as show:
            try:
                state = fetch_file(file, folder, web=web, sums=sums, show=show)
            except DownloadError as error:
                state = check_file(file, folder, sums=sums)
                is_failed = state.state == "missing" and file.url
                kind = "failed" if is_failed else state.state
                state = dataclasses.replace(state, state=kind, note=str(error))
        states.append(state)
    of_archive: dict[pathlib.Path, list[int]] = {}
    for index, file in enumerate(files):
        if file.unpack:
            archive = archives.archive_path(pathlib.Path(folder) / file.path)
            of_archive.setdefault(archive, []).append(index)
    for archive, indices in of_archive.items():
        parts = [states[index] for index in indices]
        if all(part.is_ready for part in parts) or any(part.is_absent for part in parts):
            continue
        paths = [pathlib.Path(folder) / part.file.path for part in parts]
        digests = [sums.sha256(part.file.path) for part in parts]
        with contextlib.closing(make_progress(f"unpacking {archive.name}")) as show:
            try:
                archives.unpack(paths, digests, show)
                fault = ""
            except DownloadError as error:
                fault = str(error)
        for index in indices:
            note = fault if index == indices[0] else ""
            states[index] = dataclasses.replace(states[index], note=note, is_unpacked=not fault)
    return states


def delete_unpacked(folder: str | os.PathLike, states: Iterable[FileState]) -> list[pathlib.Path]:
    """Deletes unpacked archives; their content counts as present.

    Args:
        folder: of the corpus.
        states: as `check_files` or `fetch_files` gave them.

    Returns:
        The deleted archives.
    """
    paths = [pathlib.Path(folder) / s.file.path for s in states if s.file.unpack and s.is_ready]
    there = [path for path in paths if path.exists()]
    for path in there:
        path.unlink()
    return there
