"""Which files below a folder are recordings: one definition for tables, builds, doctor and use."""

import os
import pathlib
import stat
from collections.abc import Callable, Iterator

from musrep_jax.data.audio.containers import MAGIC_BYTES, has_audio_signature
from musrep_jax.data.audio.formats import AUDIO_SUFFIXES

SYSTEM_FOLDERS = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"}
)
"""Where systems keep what was thrown away or is theirs; hidden folders begin with a dot."""


def walk_audio_files(
    folder: str | os.PathLike,
    *,
    is_content_read: bool = False,
    on_closed_folder: Callable[[str], None] = lambda path: None,
) -> Iterator[str]:
    """Yields the recordings below a folder, relative to it and with forward slashes, unsorted.

    Hidden files and folders, and those of the system (trash, resource forks), are no recordings.
    Links to folders are followed, but never into a folder that they lie in.

    Args:
        folder: to look through.
        is_content_read: take files that begin as audio does, too, whatever their names say.
        on_closed_folder: called with the relative path of a folder that may not be read.
    """
    root = os.fspath(folder)
    left = [(root, (os.path.realpath(root),))]
    while left:
        place, above = left.pop()
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            on_closed_folder(_relative(place, root))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                continue
            if _is_folder(entry):
                real = os.path.realpath(entry.path)
                if not any(f"{other}{os.sep}".startswith(f"{real}{os.sep}") for other in above):
                    left.append((entry.path, (*above, real)))
            elif is_audio_name(entry.name) or (is_content_read and _begins_as_audio(entry.path)):
                yield _relative(entry.path, root)


def lies_outside(folder: str | os.PathLike, path: str | os.PathLike) -> bool:
    """Returns whether a listed file lies outside a folder, by its path or behind a link.

    Args:
        folder: that the list belongs to.
        path: of the file.
    """
    root, real = os.path.realpath(folder), os.path.realpath(path)
    return not real.startswith(root.rstrip(os.sep) + os.sep)


def is_audio_name(name: str) -> bool:
    """Returns whether a file's name ends as those of recordings do."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def _relative(path: str, root: str) -> str:
    return pathlib.Path(path).relative_to(root).as_posix()


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that may not be followed stands among the files, which say why


def _begins_as_audio(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return has_audio_signature(file.read(MAGIC_BYTES))
    except OSError:
        return False  # neither its name nor its content tells that it is audio
