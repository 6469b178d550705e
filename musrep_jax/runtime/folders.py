"""Creates folders atomically, such as those of exports."""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from musrep_jax.runtime.files import (
    find_abandoned,
    give_usual_rights,
    remove,
    sync_file,
    sync_folder,
    temporary_path,
)
from musrep_jax.runtime.integrity import reraise_write_errors_as

SPECIAL_NAMES = "one of the characters [ ] * ? \\ in its name, or a colon at the end of one"
"""What `plain_path` avoids, in words."""
_SPECIAL, _SPECIAL_ON_WINDOWS = re.compile(r"[\[\]*?\\]|:/"), re.compile(r"[\[\]*?]")
_FILE_RIGHTS = 0o666
"""Permission bits of a folder that apply to files: files are not executable."""


@contextlib.contextmanager
def write_folder_atomically(
    path: Path, error_type: type[ValueError], is_ours: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yields an empty folder that is renamed to `path` at the end, unless an error occurs. An
    existing folder of ours is replaced at that moment; an empty one is used; anything else is left
    untouched and refused.

    Args:
        path: absolute path of the new folder.
        error_type: type of the errors.
        is_ours: returns whether an existing folder may be replaced.

    Raises:
        ValueError: of type `error_type`, when the path is taken, or the disk is full.
    """
    _remove_abandoned(path)
    check_replaceable(path, error_type, is_ours)
    with (
        reraise_write_errors_as(error_type, f"writing the export {path}"),
        replace_folder(path) as folder,
    ):
        yield folder


def check_replaceable(
    path: Path, error_type: type[ValueError], is_ours: Callable[[Path], bool]
) -> None:
    """Raises unless a folder can be written: there is nothing, an empty folder, or one of ours.

    Args:
        path: of the folder.
        error_type: type of the error.
        is_ours: returns whether an existing folder may be replaced.

    Raises:
        ValueError: of type `error_type`, when the path is taken.
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or is_ours(path))):
        raise error_type(f"{path} exists and is not an export of this kind; choose another path.")


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the name `path` at the end, if nothing failed.

    Its files get the permissions that the umask leaves, and are synced to disk before it is
    renamed. Leftovers of killed processes are removed; a folder that one of them had moved aside is
    restored.

    Args:
        path: of the folder; an existing one is replaced at the end.
    """
    _remove_abandoned(path)
    temporary, replaced = temporary_path(path), temporary_path(path, "old")
    try:
        temporary.mkdir(parents=True)
        rights = temporary.stat().st_mode & _FILE_RIGHTS
        yield temporary
        for inside in (*temporary.rglob("*"), temporary):
            if inside.is_dir():
                sync_folder(inside)
            else:
                give_usual_rights(inside, rights)
                sync_file(inside)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        remove(temporary)
        remove(replaced)


@contextlib.contextmanager
def plain_path(path: Path, error_type: type[ValueError]) -> Iterator[Path]:
    """Yields a path of a folder that is safe for libraries that treat paths as patterns.

    The array storage finds its own files with a pattern made from the whole path: below
    `Album [1999]` or a name with a backslash it finds none, and what it writes cannot be read. A
    folder whose name ends in a colon (`gs:/`) makes an address of it.

    Args:
        path: of a folder that is there.
        error_type: type of the error if no other path is available.

    Raises:
        ValueError: of type `error_type`, if the system makes no symbolic links.
    """
    special = _SPECIAL_ON_WINDOWS if os.name == "nt" else _SPECIAL
    if not special.search(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="musrep-") as folder:
        link = Path(folder) / "folder"
        try:
            if special.search(folder):
                raise OSError(f"{folder} is such a path too")
            link.symlink_to(path, target_is_directory=True)
        except OSError as error:
            raise error_type(
                f"{path} has {SPECIAL_NAMES}, with which arrays cannot be stored here ({error}): "
                "choose another folder."
            ) from error
        yield link


def _remove_abandoned(path: Path) -> None:
    for left in find_abandoned(path):
        if left.suffix == ".old" and left.is_dir() and not path.exists():
            left.rename(path)
        else:
            remove(left)
