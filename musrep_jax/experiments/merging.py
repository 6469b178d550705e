"""Brings together what several machines have made of one experiment."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, differences
from musrep_jax.experiments.data_changes import check_results_agree
from musrep_jax.experiments.workdir import CONFIG_FILE, LOCK_FILE, Workdir
from musrep_jax.runtime.folders import replace_folder
from musrep_jax.runtime.locks import lock_files
from musrep_jax.tasks.jobs import Job

VOLATILE = ("seconds",)
"""Fields of every result that depend on the machine; a task has further ones, `Task.volatile`."""


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


def copy_jobs(
    folder: Workdir,
    jobs: Sequence[Job],
    others: Sequence[Workdir],
    volatile: Mapping[str, Sequence[str]],
) -> int:
    """Copies jobs with their exported models from other workdirs; returns how many.

    A job that several workdirs hold, such as a source that several shares needed, must be the
    same in all of them. What is there already is kept, so merging again adds what is new. A job
    that failed everywhere is copied with its error.

    Args:
        folder: that is written to.
        jobs: of the experiment.
        others: workdirs of the same experiment.
        volatile: task -> fields of its results that may differ.

    Raises:
        ConfigError: if two workdirs hold different results of one job, or results of two states
            of a data set.
    """
    for job in jobs:
        done = [other for other in (folder, *others) if other.is_done(job)]
        for other in done[1:]:
            check_equal(job, done[0], other, volatile.get(job.task, ()))
    check_results_agree(
        [result for place in (folder, *others) for job in jobs if (result := place.result(job))],
        "The merged workdirs",
    )
    num_copied = 0
    for job in jobs:
        found = [other for other in (folder, *others) if other.is_done(job)]
        found = found or [other for other in (folder, *others) if other.result(job)]
        if found and found[0] is not folder:
            if found[0].is_done(job):
                for export in found[0].list_exports(job):
                    copy_folder(export, folder.path / "exports" / export.name)
            copy_folder(found[0].job_dir(job), folder.job_dir(job))
            num_copied += 1
    return num_copied


def check_equal(job: Job, one: Workdir, other: Workdir, volatile: Sequence[str]) -> None:
    """Raises when two workdirs have different results of a job, naming what differs."""
    first, second = (comparable(workdir.result(job), volatile) for workdir in (one, other))
    changed = differences(first, second)
    if changed:
        raise ConfigError(
            f"The cell {job.key} is not the same in {one.path} and {other.path} (different: "
            f"{', '.join(changed[:4])}): decide for one, and remove the other's folder "
            f"cells/{job.key} with the cells that start from it."
        )


def comparable(result: Mapping[str, Any], volatile: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the fields of a result that are the same wherever the job was run.

    Args:
        result: of a job.
        volatile: further fields that are not.
    """
    return {name: v for name, v in result.items() if name not in (*VOLATILE, *volatile)}


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder under a temporary name first, so that the target is whole or not there."""
    left_out = shutil.ignore_patterns("checkpoints", *lock_files(LOCK_FILE))
    with replace_folder(target) as temporary:
        shutil.copytree(source, temporary, ignore=left_out, dirs_exist_ok=True)
