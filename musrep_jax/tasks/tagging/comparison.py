"""Transfers compared with trainings from scratch on the same test tracks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.evaluation.comparison import compare_systems
from musrep_jax.evaluation.support import BY_GROUPS, choose_groups
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.tagging.matrix import find_scratch
from musrep_jax.tasks.task import Records


def compare_with_scratch(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str = BY_GROUPS
) -> dict[Job, dict[str, Any]]:
    """Returns `versus_scratch` of the transfers that do not have it and can have it.

    Args:
        jobs: to look through.
        records: their results, and the scores of their test tracks.
        num_resamples: swaps of the paired test; below 1 nothing is compared.
        resample: `groups` or `tracks`: what is swapped as a whole.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    found: dict[Job, dict[str, Any]] = {}
    for job in jobs:
        if job["source"] is None or num_resamples < 1 or not records.is_done(job):
            continue
        if "versus_scratch" in records.result(job):
            continue
        scratch = find_scratch(job, jobs)
        if scratch is None or not records.is_done(scratch):
            continue
        ours, theirs = records.read_arrays(job), records.read_arrays(scratch)
        if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
            raise ConfigError(
                f"{job.key} and {scratch.key} were tested on different tracks: the data set was "
                "built anew in between; use a new --workdir."
            )
        comparison = compare_systems(
            ours["labels"], ours["scores"], theirs["scores"],
            num_resamples=num_resamples, seed=job.seed,
            track_groups=choose_groups(ours.get("groups"), resample),
        )  # fmt: skip
        found[job] = {"versus_scratch": to_json_safe(comparison.overall.to_dict())}
    return found
