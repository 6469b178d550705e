"""Keeps compiled programs between runs, with JAX's persistent compilation cache.

JAX writes a program directly to its file, and never rewrites it: a file that a killed run or a full
disk left incomplete costs a warning and a compilation in every later run. The same applies to files
compressed by a package that is no longer, or was not yet, installed.
"""

import importlib.util
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

CHECKED_FILE = "checked"
"""Its modification time is that of the last check for incomplete programs."""


class Compression(NamedTuple):
    """A compression format: name, decompressor, and the errors of an incomplete file."""

    name: str
    decompress: Callable[[bytes], bytes]
    error: type[Exception]


def enable_compilation_cache(data_dir: Path) -> None:
    """Turns on the cache, so that a program is compiled once per machine, and prints its location.

    Does nothing if a cache is already configured, for example by `JAX_COMPILATION_CACHE_DIR`.

    Args:
        data_dir: its folder `compiled` holds the cache.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    compression = _compression()
    folder = data_dir.expanduser().absolute() / "compiled" / compression.name
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        print(
            f"compiled programs are not kept: {there} cannot be written to; the environment "
            "variable JAX_COMPILATION_CACHE_DIR names another folder",
            file=sys.stderr,
        )
        return
    if folder.exists():
        remove_incomplete_programs(folder, compression)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    print(f"compiled programs are kept in {folder}", file=sys.stderr)


def remove_incomplete_programs(folder: Path, compression: Compression) -> None:
    """Removes unreadable programs among those written since the last check.

    Args:
        folder: of the cache.
        compression: of the programs in it.
    """
    checked = folder / CHECKED_FILE
    since = checked.stat().st_mtime if checked.exists() else 0.0
    try:
        checked.touch()  # before the check: programs written meanwhile are for the next one
        for file in folder.glob("*-cache"):
            if file.stat().st_mtime >= since:
                data = file.read_bytes()
                try:
                    compression.decompress(data)
                except compression.error:
                    file.unlink(missing_ok=True)
    except OSError as error:  # another run removed one, or the disk is full: JAX reports it
        print(f"compiled programs in {folder} could not be checked: {error}", file=sys.stderr)


def _compression() -> Compression:
    """Returns how JAX compresses programs here, with the packages that are installed."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return Compression("zstd", zstd.decompress, zstd.ZstdError)
    if importlib.util.find_spec("zstandard"):
        import zstandard

        return Compression("zstd", zstandard.ZstdDecompressor().decompress, zstandard.ZstdError)
    return Compression("zlib", zlib.decompress, zlib.error)
