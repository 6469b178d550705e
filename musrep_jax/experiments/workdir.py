"""The folder of an experiment: its config, its jobs, its results as data, tables and figures.

config.json        the resolved config and the versions of everything
results.json       the results of all jobs, called cells there, see the README
results.md         the tables
metrics.jsonl      every logged step and validation of every job
figures/           pictures
exports/KEY/       the exported model of a job
exports/best/      a copy of the one that was chosen on validation data, where there is a choice
cells/KEY/         the job's own result, metric rows, arrays such as test scores, errors
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, differences, plain
from musrep_jax.experiments.shares import JobShard
from musrep_jax.runtime.files import write_json, write_text
from musrep_jax.runtime.locks import Lock
from musrep_jax.tasks.jobs import Job
from musrep_jax.training.checkpoints import copy_export
from musrep_jax.training.logs import make_run_record, read_rows

FORMAT = 1
MAX_WRITE_SHARE = 0.02
"""Maximum fraction of the time for writing the results of all jobs while jobs run."""
CONFIG_FILE, LOCK_FILE = "config.json", ".lock"
# What may change between two runs in one workdir: which jobs are asked for, and where things are.
NON_IDENTITY_FIELDS = {
    "": (
        "source",
        "target",
        "candidates",
        "features",
        "classifiers",
        "similarity",
        "taggers",
        "seeds",
        "num_train_tracks",
        "cells",
        "merge",
        "distributed",
        "study",
        "task",
    ),
    "model": ("name",),
    "data": ("name", "path", "data_dir", "cache_megabytes", "num_workers"),
    "transfer": ("modes",),
    "robustness": ("deformations",),
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


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a config that all jobs of a workdir must agree in."""
    kept = {k: v for k, v in config.items() if k not in NON_IDENTITY_FIELDS[""]}
    for section, names in NON_IDENTITY_FIELDS.items():
        if section and section in kept:
            kept[section] = {k: v for k, v in kept[section].items() if k not in names}
    overrides = kept.get("overrides")
    if overrides:
        ours = {
            section: {
                k: v for k, v in values.items() if k not in NON_IDENTITY_FIELDS.get(section, ())
            }
            for section, values in overrides.items()
            if isinstance(values, Mapping) and section not in NON_IDENTITY_FIELDS[""]
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
            ours, known = identity(self._config), identity(theirs)
            # A version may bring models: no earlier job is one of those.
            if isinstance(known.get("compact"), dict) and "compact" in ours:
                ours["compact"] = {
                    k: v for k, v in ours["compact"].items() if k in known["compact"]
                }
            changed = differences(ours, known)
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
    def lock_for_run(self, share: JobShard | None = None) -> Iterator[None]:
        """Locks the folder for this run, or for this share beside other shares of it.

        Args:
            share: the part of the jobs that is run; None is all.

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
            self._quarantine_damaged_results()
            write_json(self.path / CONFIG_FILE, {"config": self._config, "run": make_run_record()})
            yield

    def _quarantine_damaged_results(self) -> None:
        """Renames results that cannot be read, so that their jobs are done again; says so."""
        for file in sorted(self.path.glob("cells/*/result.json")):
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                aside = file.replace(file.with_name("result.json.damaged"))
                print(
                    f"{file} is damaged and set aside as {aside.name}: the cell is done again",
                    file=sys.stderr,
                )

    def claim(self, job: Job) -> Lock:
        """Returns a lock on a job; another share that runs the job is waited for.

        Args:
            job: the job.
        """
        self.job_dir(job).mkdir(parents=True, exist_ok=True)
        path = self.job_dir(job) / LOCK_FILE
        return Lock(path, f"The cell {job.key}", should_wait=True)

    def job_dir(self, job: Job) -> Path:
        """Returns the folder of a job."""
        return self.path / "cells" / job.key

    def export_dir(self, job: Job, name: str = "") -> Path:
        """Returns the location of a job's exported model of that name, if there is one.

        Args:
            job: the job.
            name: "" for the one that other jobs start from, see `Outcome.exports`.
        """
        return self.path / "exports" / (f"{job.key}@{name}" if name else job.key)

    def result(self, job: Job) -> dict[str, Any] | None:
        """Returns a job's result, or None when there is none yet."""
        file = self.job_dir(job) / "result.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def is_done(self, job: Job) -> bool:
        """Returns whether a job has a result without error, and the exports that it speaks of."""
        result = self.result(job)
        if not result or result["error"] is not None:
            return False
        return all(path.is_dir() for path in self.list_exports(job))

    def list_exports(self, job: Job) -> list[Path]:
        """Returns the exported models of a job, of which its result speaks."""
        result = self.result(job) or {}
        paths = result.get("exports") or {"": result.get("export")}
        return [self.path / path for path in paths.values() if path]

    def copy_export(self, job: Job, name: str) -> Path:
        """Returns the folder with a copy of a job's exported model; one that is there is replaced.

        Args:
            job: that is done.
            name: of the folder in `exports/`.
        """
        return copy_export(self.export_dir(job), self.path / "exports" / name)

    def write_result(self, job: Job, result: Mapping[str, Any]) -> None:
        """Writes a job's result."""
        write_json(self.job_dir(job) / "result.json", result)

    def write_arrays(self, job: Job, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Writes the arrays of a job; what an earlier training of it left is removed.

        Args:
            job: the job.
            arrays: file stem -> arrays by name.
        """
        self.job_dir(job).mkdir(parents=True, exist_ok=True)
        for name, values in arrays.items():
            np.savez_compressed(self.job_dir(job) / f"{name}.npz", **values)
        for file in self.job_dir(job).glob("*.npz"):
            if file.stem not in arrays:
                file.unlink()

    def read_arrays(self, job: Job | str, name: str = "scores") -> dict[str, np.ndarray]:
        """Returns arrays of a finished job.

        Args:
            job: the job, or its key.
            name: stem of their file.
        """
        key = job if isinstance(job, str) else job.key
        with np.load(self.path / "cells" / key / f"{name}.npz") as file:
            return dict(file)

    def all_results(self) -> list[dict[str, Any]]:
        """Returns the results of all jobs that the folder holds, of earlier runs too."""
        files = sorted(self.path.glob("cells/*/result.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def write_results(self, results: list[dict[str, Any]]) -> None:
        """Writes `results.json` and `metrics.jsonl` from the results of jobs."""
        write_json(self.path / "results.json", {"format": FORMAT, "cells": results})
        lines = []
        for file in sorted(self.path.glob("cells/*/metrics.jsonl")):
            for row in read_rows(file):
                lines.append(json.dumps({"cell": file.parent.name, **row}))
        write_text(self.path / "metrics.jsonl", "".join(f"{line}\n" for line in lines))

    def write_results_periodically(self) -> None:
        """Writes `results.json` and `metrics.jsonl`, unless they were written a short time ago.

        They hold all jobs, so that writing them after each would take time in the square of their
        number. Each job's own folder has what they do not have yet.
        """
        started = time.monotonic()
        if started >= self._write_again_at:
            self.write_results(self.all_results())
            ended = time.monotonic()
            self._write_again_at = ended + (ended - started) / MAX_WRITE_SHARE
