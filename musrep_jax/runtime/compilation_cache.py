"""Compiled programs are kept between runs, by JAX's persistent compilation cache.

JAX writes a program straight into its file, and never again: what a killed run or a full disk has
left half-written costs a warning and a compilation in every later run. Nor does it read what was
compressed by a package that is not installed any more, or was not yet.
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
"""Its time is that of the last look for half-written programs."""


class Compression(NamedTuple):
    """A compressed format: its name, what reads it, and what that raises for half a file."""

    name: str
    decompress: Callable[[bytes], bytes]
    error: type[Exception]


def enable_compilation_cache(data_dir: Path) -> None:
    """Turns on the cache, so that a program is compiled once per machine; says where it is.

    Nothing is done where a cache is set already, as by `JAX_COMPILATION_CACHE_DIR`.

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
    """Removes the programs that cannot be read, of those that were written since the last look.

    Args:
        folder: of the cache.
        compression: of the programs in it.
    """
    checked = folder / CHECKED_FILE
    since = checked.stat().st_mtime if checked.exists() else 0.0
    try:
        checked.touch()  # before the look: what is written meanwhile is for the next one
        for file in folder.glob("*-cache"):
            if file.stat().st_mtime >= since:
                data = file.read_bytes()
                try:
                    compression.decompress(data)
                except compression.error:
                    file.unlink(missing_ok=True)
    except OSError as error:  # another run removed one, or the disk is full: JAX compiles, and says
        print(f"compiled programs in {folder} were not looked through: {error}", file=sys.stderr)


def _compression() -> Compression:
    """Returns how JAX compresses programs here, with the packages that are installed."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return Compression("zstd", zstd.decompress, zstd.ZstdError)
    if importlib.util.find_spec("zstandard"):
        import zstandard

        return Compression("zstd", zstandard.ZstdDecompressor().decompress, zstandard.ZstdError)
    return Compression("zlib", zlib.decompress, zlib.error)
