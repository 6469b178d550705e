"""Checksums of folders, and one-sentence errors for failing file operations."""

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from musrep_jax.runtime.files import DISK_FULL_ERRNOS, write_text

CHECKSUMS_FILE = "SHA256SUMS"


@contextlib.contextmanager
def reraise_write_errors_as(error_type: type[ValueError], doing: str) -> Iterator[None]:
    """Turns a failure to write files into one sentence.

    Args:
        error_type: type of the error to raise instead.
        doing: what was being done, such as "writing the export /a/b".

    Raises:
        ValueError: of type `error_type`, for an OSError, ValueError or LookupError inside the
            context (the array storage reports system errors as ValueError and KeyError).
    """
    try:
        yield
    except error_type:
        raise
    except (OSError, ValueError, LookupError) as error:
        if is_disk_full(error):
            raise error_type(
                f"No room left on the disk while {doing}; free some space and run the same "
                "command again. What was there before is untouched."
            ) from error
        reason = str(error).splitlines()[0][:300]
        raise error_type(f"Could not finish {doing}: {reason}") from error


def is_disk_full(error: BaseException | None) -> bool:
    """Returns whether an error, or one that it was raised from, says that the disk is full.

    Args:
        error: any.
    """
    while error is not None:
        codes = [f"os_error_code='{code}'" for code in DISK_FULL_ERRNOS]  # of the array storage
        if getattr(error, "errno", None) in DISK_FULL_ERRNOS or any(c in str(error) for c in codes):
            return True
        error = error.__cause__
    return False


def write_checksums(folder: Path, without: Collection[str] = ()) -> None:
    """Writes the sha256 of every file under a folder to its `SHA256SUMS`, whole or not at all.

    Args:
        folder: the folder; `sha256sum -c SHA256SUMS` inside it checks the same.
        without: files that are left out, relative to the folder.
    """
    files = list_files(folder, without)
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in files]
    write_text(folder / CHECKSUMS_FILE, "".join(lines))


def read_checksums(folder: Path) -> dict[str, str]:
    """Returns file name -> sha256 as `write_checksums` wrote them.

    Args:
        folder: a folder with `SHA256SUMS`.
    """
    text = (folder / CHECKSUMS_FILE).read_text(encoding="utf-8", errors="replace")
    parts = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in parts}


def find_damage(folder: Path, listed: Collection[str] = ()) -> str | None:
    """Returns a description of what is wrong with the files of a folder, or None.

    Args:
        folder: a folder that should have `SHA256SUMS`.
        listed: files that the list must contain, relative to the folder; otherwise a list truncated
            at the end of a line would pass.
    """
    if not (folder / CHECKSUMS_FILE).is_file():
        return f"the file {CHECKSUMS_FILE} is missing"
    sums = read_checksums(folder)
    if not sums:
        return f"the file {CHECKSUMS_FILE} is empty"
    for name, digest in sums.items():
        path = folder / name
        if not path.is_file():
            return f"the file {name} is missing"
        if sha256_of(path) != digest:
            return f"the file {name} does not match its checksum"
    if unlisted := sorted(set(listed) - sums.keys()):
        return f"{CHECKSUMS_FILE} does not list the file {unlisted[0]}"
    return None


def list_files(folder: Path, without: Collection[str] = ()) -> list[str]:
    """Returns the files under a folder, relative to it, but for its `SHA256SUMS`.

    Args:
        folder: the folder.
        without: files that are left out, relative to the folder.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in files}
    return sorted(names - {CHECKSUMS_FILE, *without})


def describe_difference(theirs: Any, ours: Any) -> str:
    """Describes how two JSON values differ; for lists, where they first differ.

    >>> describe_difference(["raga", "tala"], ["raga", "makam"])
    "has 'tala' at position 1 where this run has 'makam'"
    >>> describe_difference("ast", "musicnn")
    "is 'ast', but this run has 'musicnn'"
    """
    if isinstance(theirs, list) and isinstance(ours, list):
        for index, (their, our) in enumerate(zip(theirs, ours, strict=False)):
            if their != our:
                return f"has {their!r} at position {index} where this run has {our!r}"
        return f"has {len(theirs)} entries where this run has {len(ours)}"
    return f"is {theirs!r}, but this run has {ours!r}"


def sha256_of(path: str | Path) -> str:
    """Returns the hexadecimal sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
