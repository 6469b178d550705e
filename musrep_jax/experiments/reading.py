"""Reads the workdirs of runs, finished or not, and writes nothing.

The cells' own results are what counts; `results.json`, written from them, adds what compares cells
with each other, and stands alone where somebody has kept nothing else.
"""

import dataclasses
import functools
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.experiments.data_changes import check_results_agree
from musrep_jax.experiments.workdir import CONFIG_FILE
from musrep_jax.tasks.jobs import key_of_result
from musrep_jax.training.logs import read_rows

RESULTS_FILE, SCORES_FILE, ROWS_FILE = "results.json", "scores.npz", "metrics.jsonl"
NO_RESULT = "It was begun and has no result yet."
DAMAGED = "Its result.json is damaged; the same command does the cell again."


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a workdir.

    Attributes:
        path: of the workdir.
        config: the resolved config, empty when it is not there.
        record: versions, devices and command, empty when they are not there.
        results: name of the cell -> its result, failed cells among them.
        unfinished: name of the cell -> sentence on why it has no result.
    """

    path: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    unfinished: Mapping[str, str]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Returns the logged steps and validations of a cell.

        Args:
            name: of the cell.
        """
        file = self.path / "cells" / name / ROWS_FILE
        if file.is_file():
            return read_rows(file)
        return [row for row in self._all_rows if row.get("cell") == name]

    @functools.cached_property
    def _all_rows(self) -> list[dict[str, Any]]:
        """The rows of all cells, from the file next to `results.json`."""
        file = self.path / ROWS_FILE
        return read_rows(file) if file.is_file() else []

    def export_dir(self, name: str) -> Path:
        """Returns the location of a cell's exported model, if there is one.

        Args:
            name: of the cell.
        """
        return self.path / "exports" / name


@dataclasses.dataclass(frozen=True)
class TestScores:
    """The test scores of a cell.

    Attributes:
        result: of the cell.
        track_ids: of the test tracks.
        label_names: of the columns.
        labels: uint8 (tracks, classes), what holds.
        scores: float32 (tracks, classes), probabilities.
        groups: text (tracks,), performer or recording of each track; None in files of versions
            that did not write them.
    """

    __test__ = False  # no test, whatever pytest makes of the name

    result: Mapping[str, Any]
    track_ids: tuple[str, ...]
    label_names: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    groups: np.ndarray | None = None


def read_run(path: str | Path) -> Run:
    """Returns the content of a workdir.

    Args:
        path: of the workdir.

    Raises:
        ConfigError: if there is no such folder, no run in it, one whose files are damaged, or one
            with results of two states of a data set.
    """
    path = Path(path)
    if not path.is_dir():
        raise ConfigError(f"{path} is not a folder: name the --workdir of a run.")
    about, recorded = (_read_json(path / name) for name in (CONFIG_FILE, RESULTS_FILE))
    folders = sorted(folder for folder in path.glob("cells/*") if folder.is_dir())
    if not (about or recorded or folders):
        what = "holds no run of ours" if any(path.iterdir()) else "is empty"
        raise ConfigError(
            f"{path} {what}: name the --workdir of a run, which has {CONFIG_FILE}, "
            f"{RESULTS_FILE} and cells/."
        )
    results = {key_of_result(result): result for result in recorded.get("cells", ())}
    unfinished = {}
    for folder in folders:
        try:
            own = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            if folder.name not in results:
                unfinished[folder.name] = NO_RESULT
        except ValueError:
            results.pop(folder.name, None)
            unfinished[folder.name] = DAMAGED
        else:
            results[folder.name] = {**results.get(folder.name, {}), **own}
    check_results_agree(results.values(), str(path))
    return Run(path, about.get("config", {}), about.get("run", {}), results, unfinished)


def read_scores(run: Run, name: str) -> TestScores:
    """Returns the test scores of a finished cell.

    Args:
        run: the workdir.
        name: of the cell.

    Raises:
        ConfigError: if the cell has no scores, or they are damaged.
    """
    file = run.path / "cells" / name / SCORES_FILE
    result = run.results.get(name)
    if result is None or result.get("error") is not None or not file.is_file():
        reason = "no result" if result is None else result.get("error") or f"no {SCORES_FILE}"
        raise ConfigError(f"The cell {name} in {run.path} cannot be used: {reason}")
    try:
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in ("track_ids", "labels", "scores")}
            groups = stored["groups"] if "groups" in stored.files else None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{file} is damaged ({error}): remove result.json beside it, and run the cell again."
        ) from error
    names = tuple(result["per_label"])
    return TestScores(
        result,
        tuple(arrays["track_ids"].tolist()),
        names,
        arrays["labels"],
        arrays["scores"],
        groups,
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Returns a JSON file of a workdir, empty when it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}): run the same command again, which writes it anew."
        ) from error
