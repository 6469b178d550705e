"""The folder of an experiment: its config, its cells, its results as data, tables and figures.

config.json        the resolved config and the versions of everything
results.json       the cells, see the README
results.md         the tables
metrics.jsonl      every logged step and validation of every cell
figures/           pictures
exports/CELL/      one exported model per cell
cells/CELL/        the cell's own result, metric rows, test scores, errors
"""

import contextlib
import json
import math
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, differences, plain
from musrep_jax.evaluation.comparison import paired_bootstrap
from musrep_jax.evaluation.tagging import to_json_safe
from musrep_jax.experiments.cells import Cell, Share
from musrep_jax.runtime.locks import Lock
from musrep_jax.training.logs import read_rows, run_record

FORMAT = 1
WRITING_SHARE = 0.02
"""Of the time, that results of all cells may take to be written while cells are still trained."""
CONFIG_FILE, LOCK_FILE = "config.json", ".lock"
# What may change between two runs in one workdir: which cells are asked for, and where things are.
NOT_IDENTITY = {
    "": ("source", "target", "seeds", "num_train_tracks", "cells", "merge", "distributed"),
    "model": ("name",),
    "data": ("name", "path", "data_dir", "cache_megabytes", "num_workers"),
    "transfer": ("modes",),
    "train": (
        "log_every_steps",
        "num_devices",
        "num_cpu_devices",
        "checkpoint",
        "checkpoint_every_minutes",
        "trace",
        "shard_params_over",
    ),
}


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader finds either the old file or the whole new one."""
    text = json.dumps(to_json_safe(value), indent=1, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes text so that a reader finds either the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # unique on all hosts
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a config that all cells of a workdir must agree in."""
    kept = {k: v for k, v in config.items() if k not in NOT_IDENTITY[""]}
    for section, names in NOT_IDENTITY.items():
        if section and section in kept:
            kept[section] = {k: v for k, v in kept[section].items() if k not in names}
    overrides = kept.get("overrides")
    if overrides:
        ours = {
            section: {k: v for k, v in values.items() if k not in NOT_IDENTITY.get(section, ())}
            for section, values in overrides.items()
            if isinstance(values, Mapping) and section not in NOT_IDENTITY[""]
        }
        kept["overrides"] = {section: values for section, values in ours.items() if values}
    return kept


class Workdir:
    """Reads and writes the folder of one experiment.

    Args:
        path: the folder; it is created.
        config: the experiment's config.

    Raises:
        ConfigError: if the folder holds another experiment or cannot be used.
    """

    def __init__(self, path: str | Path, config: ml_collections.ConfigDict) -> None:
        self.path = Path(path)
        self._config = plain(config)
        self._write_again_at = -math.inf
        file = self.path / CONFIG_FILE
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            theirs = json.loads(file.read_text(encoding="utf-8"))["config"] if file.exists() else {}
        except FileExistsError as error:
            raise ConfigError(
                f"The workdir {self.path} is a file: name a new or empty folder."
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"The workdir {self.path} cannot be used: {error}.") from error
        if theirs:
            changed = differences(identity(self._config), identity(theirs))
            if changed:
                shown = ", ".join(changed[:6]) + (", ..." if len(changed) > 6 else "")
                raise ConfigError(
                    f"The workdir {self.path} holds another experiment (different: {shown}): name "
                    "another --workdir, or remove this one."
                )
        elif any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise ConfigError(
                f"The workdir {self.path} is not empty and holds no experiment of ours: name an "
                "empty or new folder."
            )

    @contextlib.contextmanager
    def in_use(self, share: Share | None = None) -> Iterator[None]:
        """Locks the folder for this run, or for this share beside other shares of it.

        Args:
            share: the part of the cells that is run; None is all.

        Raises:
            ConfigError: if another run uses the folder, or it cannot be written to.
        """
        what = f"The workdir {self.path}"
        name = f"{LOCK_FILE}.{share.number}-of-{share.count}" if share else LOCK_FILE
        beside = f"{LOCK_FILE}.*-of-{share.count}" if share else name
        try:
            self.path.joinpath(name).touch()
        except OSError as error:
            raise ConfigError(f"{what} cannot be written to: {error.strerror}.") from error
        with Lock(self.path / name, what):
            for other in sorted(self.path.glob(f"{LOCK_FILE}*")):
                if not other.match(beside):
                    with Lock(other, what):
                        pass
            self._set_damaged_aside()
            write_json(self.path / CONFIG_FILE, {"config": self._config, "run": run_record()})
            yield

    def _set_damaged_aside(self) -> None:
        """Renames results that cannot be read, so that their cells are done again; says so."""
        for file in sorted(self.path.glob("cells/*/result.json")):
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                aside = file.replace(file.with_name("result.json.damaged"))
                print(
                    f"{file} is damaged and set aside as {aside.name}: the cell is done again",
                    file=sys.stderr,
                )

    def claim(self, cell: Cell) -> Lock:
        """Returns a lock on a cell; another share that trains the cell is waited for.

        Args:
            cell: the cell.
        """
        self.cell_dir(cell).mkdir(parents=True, exist_ok=True)
        path = self.cell_dir(cell) / LOCK_FILE
        return Lock(path, f"The cell {cell.key}", is_waited_for=True)

    def cell_dir(self, cell: Cell) -> Path:
        """Returns the folder of a cell."""
        return self.path / "cells" / cell.key

    def export_dir(self, cell: Cell) -> Path:
        """Returns the exported model of a cell."""
        return self.path / "exports" / cell.key

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Returns a cell's result, or None when there is none yet."""
        file = self.cell_dir(cell) / "result.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def is_done(self, cell: Cell) -> bool:
        """Returns whether a cell has a result without error, and its exported model."""
        result = self.result(cell)
        return bool(result and result["error"] is None and self.export_dir(cell).is_dir())

    def write_result(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Writes a cell's result."""
        write_json(self.cell_dir(cell) / "result.json", result)

    def write_scores(
        self, cell: Cell, track_ids: Iterable[str], labels: np.ndarray, scores: np.ndarray
    ) -> None:
        """Writes the labels and scores of a cell's test tracks."""
        np.savez_compressed(
            self.cell_dir(cell) / "scores.npz",
            track_ids=np.array(list(track_ids)),
            labels=labels.astype(np.uint8),
            scores=scores.astype(np.float32),
        )

    def compare_with_scratch(self, cell: Cell, result: dict[str, Any], num_resamples: int) -> bool:
        """Adds `versus_scratch` to a transfer result once the scratch cell is there.

        Args:
            cell: the transfer cell.
            result: its result, changed in place.
            num_resamples: of the paired bootstrap.

        Returns:
            Whether something was added.
        """
        if cell.source is None or result["error"] is not None or "versus_scratch" in result:
            return False
        scratch = Cell(cell.target, cell.model, "scratch", None, cell.seed, cell.num_train_tracks)
        if not self.is_done(scratch) or num_resamples < 1:
            return False
        ours = np.load(self.cell_dir(cell) / "scores.npz")
        theirs = np.load(self.cell_dir(scratch) / "scores.npz")
        if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
            raise ConfigError(
                f"{cell.key} and {scratch.key} were tested on different tracks: the data set was "
                "built anew in between; use a new --workdir."
            )
        comparison = paired_bootstrap(
            ours["labels"], ours["scores"], theirs["scores"],
            num_resamples=num_resamples, seed=cell.seed,
        )  # fmt: skip
        result["versus_scratch"] = to_json_safe(comparison.to_dict())
        return True

    def all_results(self) -> list[dict[str, Any]]:
        """Returns the results of all cells that the folder holds, of earlier runs too."""
        files = sorted(self.path.glob("cells/*/result.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def write_results(self, cells: list[dict[str, Any]]) -> None:
        """Writes `results.json` and `metrics.jsonl` from the cells."""
        write_json(self.path / "results.json", {"format": FORMAT, "cells": cells})
        lines = []
        for file in sorted(self.path.glob("cells/*/metrics.jsonl")):
            for row in read_rows(file):
                lines.append(json.dumps({"cell": file.parent.name, **row}))
        write_text(self.path / "metrics.jsonl", "".join(f"{line}\n" for line in lines))

    def write_results_now_and_then(self) -> None:
        """Writes `results.json` and `metrics.jsonl`, unless they were written a short time ago.

        They hold all cells, so that writing them after each would take time in the square of their
        number. Each cell's own folder has what they do not have yet.
        """
        started = time.monotonic()
        if started >= self._write_again_at:
            self.write_results(self.all_results())
            ended = time.monotonic()
            self._write_again_at = ended + (ended - started) / WRITING_SHARE
