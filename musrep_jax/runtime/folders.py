"""Folders of exports, which come to be whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from musrep_jax.runtime.integrity import one_sentence


@contextlib.contextmanager
def whole_folder(
    path: Path, error_type: type[ValueError], is_ours: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yields an empty folder that takes the name `path` at the end, if nothing failed.

    A folder of ours that is already there is replaced at that moment; an empty one is taken;
    anything else is left alone and refused.

    Args:
        path: absolute path of the folder to come.
        error_type: of what goes wrong.
        is_ours: says of a folder that is there whether it may be replaced.

    Raises:
        ValueError: of type `error_type`, when the path is taken, or the disk is full.
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or is_ours(path))):
        raise error_type(f"{path} exists and is not an export of this kind; choose another path.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        with one_sentence(error_type, f"writing the export {path}"):
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
