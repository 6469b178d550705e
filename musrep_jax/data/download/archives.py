"""Archives, unpacked beside themselves: safely, whole or again, read where they lie.

Nothing is written before every name has been looked at: an archive that would write outside its
folder, or that holds links or devices, is refused. Every file is written under a passing name and
renamed. When all is done, `ARCHIVE.unpacked` tells of which archive (size and sha256 of every
part); without it the archive is unpacked again. A zip that is cut into parts (`.zip.001`, ...) is
read across its parts, so that no joined copy is needed.
"""

import bisect
import contextlib
import io
import itertools
import json
import lzma
import os
import pathlib
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, Any

from musrep_jax.data.download.partial_files import (
    DownloadError,
    check_free_space,
    reraise_disk_full_as_download_error,
)
from musrep_jax.runtime.files import replace_file, write_json

_PART = re.compile(r"\.(\d{3})$")
_BUFFER_BYTES = 1 << 20
_REGULAR_FILE = 0o10
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_UNSUPPORTED_ARCHIVE_ERRORS = (RuntimeError, NotImplementedError)
"""Errors that zipfile raises for encrypted members and unknown compression methods."""

Member = tuple[str, int, Callable[[], IO[bytes]]]
"""Name, size in bytes, function that opens it."""


def archive_path(path: pathlib.Path) -> pathlib.Path:
    """Returns the name of the archive that a file is, or is a part of.

    Example:
        >>> archive_path(pathlib.PurePosixPath("audio/mp3.zip.002")).as_posix()
        'audio/mp3.zip'
    """
    return path.with_name(_PART.sub("", path.name))


def read_marker(path: pathlib.Path) -> dict[str, Any]:
    """Returns {size, sha256} of a part of an archive as it was unpacked; {} if it was not.

    Args:
        path: of the archive or of one of its parts, which need not be there any more.
    """
    marker = _marker_path(path)
    if not marker.is_file():
        return {}
    return json.loads(marker.read_text(encoding="utf-8"))["parts"].get(path.name, {})


def unpack(
    paths: Sequence[pathlib.Path],
    sums: Sequence[str],
    show: Callable[[int, int | None], None] | None = None,
) -> int:
    """Unpacks an archive into its own folder, and marks it as unpacked.

    Args:
        paths: the archive, or all its parts.
        sums: sha256 of each.
        show: takes (bytes written, bytes in all).

    Returns:
        The number of files.

    Raises:
        DownloadError: if it is damaged, unsafe or of an unknown kind, or does not fit on the disk.
    """
    rows = {
        path.name: {"size": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, sums, strict=True)
    }
    archive = archive_path(paths[0])
    folder = archive.parent
    _marker_path(archive).unlink(missing_ok=True)
    try:
        with _open_archive(archive, sorted(paths)) as list_members:
            sizes = {name: size for name, size, _ in list_members()}
            _check_names(archive, sizes)
            there = {name for name, size in sizes.items() if _has_size(folder / name, size)}
            total = sum(sizes.values())
            check_free_space(
                folder,
                sum(size for name, size in sizes.items() if name not in there),
                f"unpacking {archive.name}",
            )
            written = 0
            for name, size, open_member in list_members():
                with open_member() as source:
                    _write(source, folder / name)
                written += size
                if show:
                    show(written, total)
    except _BROKEN as error:
        raise DownloadError(f"{archive} is damaged ({error}); fetch it anew.") from error
    except _UNSUPPORTED_ARCHIVE_ERRORS as error:
        raise DownloadError(f"{archive} cannot be unpacked here: {error}.") from error
    content = {"parts": rows, "num_files": len(sizes), "num_bytes": total}
    with reraise_disk_full_as_download_error(archive):
        write_json(_marker_path(archive), content)
    return len(sizes)


@contextlib.contextmanager
def _open_archive(
    archive: pathlib.Path, paths: Sequence[pathlib.Path]
) -> Iterator[Callable[[], Iterator[Member]]]:
    """Gives a function that lists the files in an archive, from its beginning on every call."""
    numbers = [int(match[1]) for path in paths if (match := _PART.search(path.name))]
    if numbers and numbers != list(range(1, len(paths) + 1)):
        raise DownloadError(f"{archive} lacks parts: there are only {numbers}.")
    if archive.suffix.lower() == ".zip":
        joined = io.BufferedReader(_ConcatenatedFile(paths), _BUFFER_BYTES)
        with joined, zipfile.ZipFile(joined) as opened:
            yield lambda: _zip_members(archive, opened)
    elif archive.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        joined = io.BufferedReader(_ConcatenatedFile(paths), _BUFFER_BYTES)
        with joined:
            yield lambda: _tar_members(archive, joined)
    else:
        raise DownloadError(
            f"{archive} is no archive that can be unpacked here (.zip, .tar, .tar.gz, .tgz)."
        )


def _zip_members(archive: pathlib.Path, opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        kind = info.external_attr >> 28  # of a Unix file mode; 0 where other systems wrote it
        if kind not in {0, _REGULAR_FILE}:
            raise DownloadError(
                f"{archive} holds a link or a device ({info.filename}) and is not unpacked."
            )
        yield info.filename, info.file_size, lambda info=info: opened.open(info)


def _tar_members(archive: pathlib.Path, file: IO[bytes]) -> Iterator[Member]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:*") as opened:
        for info in opened:
            if info.isdir():
                continue
            if not info.isfile():
                raise DownloadError(
                    f"{archive} holds a link or a device ({info.name}) and is not unpacked."
                )
            yield info.name, info.size, lambda info=info: opened.extractfile(info)
            opened.members = []  # or the headers of all files stay in memory


def _check_names(archive: pathlib.Path, names: Collection[str]) -> None:
    """Raises DownloadError unless every member can be a file of its own below the folder."""
    files = {pathlib.PurePosixPath(name) for name in names}
    for name in names:
        _reject_path_traversal(archive, name)
        path = pathlib.PurePosixPath(name)
        if not path.name or "\0" in name or not _is_encodable(name):
            fault = f"its member {name!r} has a name that no file can have"
        elif parents := files.intersection(path.parents):
            fault = f"it holds both {str(min(parents))!r} and {name!r}, a file and a folder"
        elif len(files) < len(names) and sum(pathlib.PurePosixPath(n) == path for n in names) > 1:
            fault = f"it holds {str(path)!r} under two names"
        else:
            continue
        raise DownloadError(f"{archive} cannot be unpacked: {fault}. Fetch it anew.")


def _is_encodable(name: str) -> bool:
    try:
        return len(os.fsencode(name)) < 4096 and bool(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _reject_path_traversal(archive: pathlib.Path, name: str) -> None:
    parts = re.split(r"[/\\]", name)
    if not name or name[0] in "/\\" or ".." in parts or re.match(r"[A-Za-z]:[/\\]", name):
        raise DownloadError(
            f"{archive} would write outside its folder ({name!r}) and is not unpacked."
        )


def _has_size(path: pathlib.Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(source: IO[bytes], path: pathlib.Path) -> None:
    # Not synced, for each of 100,000 members: the next unpacking finds by its size what is missing.
    with (
        reraise_disk_full_as_download_error(path),
        replace_file(path, is_synced=False) as temporary,
        temporary.open("wb") as file,
    ):
        shutil.copyfileobj(source, file, _BUFFER_BYTES)


def _marker_path(path: pathlib.Path) -> pathlib.Path:
    archive = archive_path(path)
    return archive.with_name(f"{archive.name}.unpacked")


class _ConcatenatedFile(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, paths: Sequence[pathlib.Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        sizes = [path.stat().st_size for path in paths]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._starts[-1]:
            return 0
        index = bisect.bisect_right(self._starts, self._position) - 1
        self._files[index].seek(self._position - self._starts[index])
        got = self._files[index].readinto(buffer)
        self._position += got
        return got

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
