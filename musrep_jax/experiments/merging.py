"""Brings together what several machines have made of one experiment."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, differences
from musrep_jax.experiments.cells import Cell
from musrep_jax.experiments.workdir import CONFIG_FILE, LOCK_FILE, Workdir

MAY_DIFFER = (
    "seconds", "versus_scratch", "versus_best",
    "flops_per_second", "chunk_seconds", "tracks_per_second",
)  # fmt: skip
"""Fields of a result that depend on the machine, or on which other cells stand beside it."""


def open_workdirs(paths: Sequence[str], config: ml_collections.ConfigDict) -> list[Workdir]:
    """Returns the workdirs of one experiment.

    Args:
        paths: where they are.
        config: of the experiment.

    Raises:
        ConfigError: if one of them does not exist, or holds another experiment.
    """
    for path in paths:
        if not Path(path, CONFIG_FILE).is_file():
            raise ConfigError(
                f"--merge names {path}, which is no workdir: it has no {CONFIG_FILE}."
            )
    return [Workdir(path, config) for path in paths]


def copy_cells(folder: Workdir, cells: Sequence[Cell], others: Sequence[Workdir]) -> int:
    """Copies cells with their exported models from other workdirs; returns how many.

    A cell that several workdirs hold, such as a source that several shares needed, must be the
    same in all of them. What is there already is kept, so merging again adds what is new. A cell
    that failed everywhere is copied with its error.

    Args:
        folder: that is written to.
        cells: of the experiment.
        others: workdirs of the same experiment.

    Raises:
        ConfigError: if two workdirs hold different results of one cell.
    """
    for cell in cells:
        done = [other for other in (folder, *others) if other.is_done(cell)]
        for other in done[1:]:
            check_equal(cell, done[0], other)
    num_copied = 0
    for cell in cells:
        found = [other for other in (folder, *others) if other.is_done(cell)]
        found = found or [other for other in (folder, *others) if other.result(cell)]
        if found and found[0] is not folder:
            if found[0].is_done(cell):
                copy_folder(found[0].export_dir(cell), folder.export_dir(cell))
            copy_folder(found[0].cell_dir(cell), folder.cell_dir(cell))
            num_copied += 1
    return num_copied


def check_equal(cell: Cell, one: Workdir, other: Workdir) -> None:
    """Raises when two workdirs have different results of a cell, naming what differs."""
    first, second = (comparable(workdir.result(cell)) for workdir in (one, other))
    changed = differences(first, second)
    if changed:
        raise ConfigError(
            f"The cell {cell.key} is not the same in {one.path} and {other.path} (different: "
            f"{', '.join(changed[:4])}): decide for one, and remove the other's folder "
            f"cells/{cell.key} with the cells that start from it."
        )


def comparable(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a result that are the same wherever the cell was trained."""
    return {name: value for name, value in result.items() if name not in MAY_DIFFER}


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder under a temporary name first, so that the target is whole or not there."""
    temporary = target.with_name(f".{target.name}.copied")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("checkpoints", LOCK_FILE))
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
