"""Writes files atomically, and converts values to what JSON can represent.

A replacement is written next to the file under a name that is unique across hosts, synced to disk
and renamed, and the folder is synced, too: after a kill, a full disk or a power failure, a reader
finds either the old file or the new one. Leftovers of killed processes are removed by later ones.
"""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musrep_jax.runtime.processes import SAYS_WHO_RUNS, host_token, is_running

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

ABANDONED_SECONDS = 24 * 3600.0
"""Age at which a temporary file is abandoned, if its process cannot be checked."""

_NAME_BYTES = 120
"""Length of a name within its temporary name; file systems allow 255 in total."""

_OWNER = re.compile(r"(?:(?P<host>[0-9a-f]{8})-(?=\d+-))?(?P<pid>\d{1,9})(?:-[0-9a-f]{8})?")
"""Owner in a temporary name; earlier versions wrote only the process number."""


_no_folder_sync = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_swept: set[Path] = set()


@contextlib.contextmanager
def replace_file(path: str | Path, *, is_synced: bool = True) -> Iterator[Path]:
    """Yields the path of an empty file that is renamed to `path` at the end, unless an error
    occurs.

    Args:
        path: of the file; its folder is created.
        is_synced: whether it is synced to disk first. False is for files that can be verified (by
            length or checksum) and are created again if incomplete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _swept:
        _swept.add(path.parent)
        remove_abandoned_files(path.parent)
    temporary = temporary_path(path)
    try:
        temporary.touch(exist_ok=False)
        rights = stat.S_IMODE(temporary.stat().st_mode)  # what the umask leaves
        yield temporary
        give_usual_rights(temporary, rights)
        if is_synced:
            sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if is_synced:
        sync_folder(path.parent)


def write_bytes(path: str | Path, content: bytes, *, is_synced: bool = True) -> None:
    """Writes a file so that a reader finds either the old one or the whole new one.

    Args:
        path: of the file; its folder is created.
        content: of the file.
        is_synced: as of `replace_file`.
    """
    with replace_file(path, is_synced=is_synced) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text so that a reader finds either the old file or the whole new one.

    Args:
        path: of the file; its folder is created.
        text: its content; line ends stay as they are, on every system.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    r"""Writes JSON so that a reader finds either the old file or the whole new one.

    Undecodable bytes of file names are written as JSON escapes (`\udce9`).

    Args:
        path: of the file; its folder is created.
        value: as of `to_json_safe`.
        indent: as of `json.dumps`.
    """
    text = json.dumps(to_json_safe(value), indent=indent, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def to_json_safe(value: Any) -> Any:
    """Returns a value as plain Python data, with None in place of numbers that are not finite.

    >>> import numpy as np
    >>> to_json_safe({"ci": (np.float64(0.5), float("nan")), "n": np.arange(2)})
    {'ci': [0.5, None], 'n': [0, 1]}

    Args:
        value: numbers, text, None, arrays, and mappings and sequences of these.

    Returns:
        dict, list, str, bool, int, float or None.
    """
    if hasattr(value, "tolist"):  # arrays and numbers of numpy and JAX
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def temporary_path(path: Path, suffix: str = "tmp") -> Path:
    """Returns a name next to a path that no other process on any host uses.

    Args:
        path: of the file or folder to replace.
        suffix: "tmp" for new content, "old" for replaced content.
    """
    owner = f"{host_token()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f"{_temporary_prefix(path)}{owner}.{suffix}")


def find_abandoned(path: Path) -> list[Path]:
    """Returns the leftovers of killed processes that were replacing a path.

    Args:
        path: of a file or folder.
    """
    found = path.parent.iterdir() if path.parent.is_dir() else ()
    prefix = _temporary_prefix(path)
    return sorted(
        other for other in found
        if other.suffix in (".tmp", ".old") and other.name.startswith(prefix)
        and _is_abandoned(other, other.stem.removeprefix(prefix))
    )  # fmt: skip


def remove_abandoned_files(folder: Path) -> None:
    """Removes the leftovers of killed processes that were replacing files in a folder.

    Args:
        folder: to search, without subfolders.
    """
    for path in folder.glob(".*.tmp"):
        owner = path.stem.rpartition(".")[2]
        if owner.count("-") == 2 and _is_abandoned(path, owner):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file or folder if it exists, as far as possible.

    Args:
        path: of it.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def give_usual_rights(path: Path, rights: int) -> None:
    """Gives a file the permissions that the umask leaves, regardless of the library that wrote it.

    Args:
        path: of the file.
        rights: permission bits.
    """
    if stat.S_IMODE(path.stat().st_mode) != rights:
        path.chmod(rights)


def sync_file(path: Path) -> None:
    """Syncs the content of a file to disk.

    Args:
        path: of the file.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Syncs the entries of a folder to disk, if the system supports it.

    Args:
        path: of the folder.
    """
    if os.name != "posix":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _no_folder_sync:
            raise
    finally:
        os.close(descriptor)


def _temporary_prefix(path: Path) -> str:
    return f".{os.fsencode(path.name)[:_NAME_BYTES].decode(errors='ignore')}."


def _is_abandoned(path: Path, owner: str) -> bool:
    """Returns whether a path is a temporary one whose process has ended."""
    match = _OWNER.fullmatch(owner)
    if match is None:
        return False
    if SAYS_WHO_RUNS and match["host"] in (None, host_token()):
        return not is_running(int(match["pid"]))
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED_SECONDS
    except FileNotFoundError:  # another process was quicker
        return False
