"""Taggers on deformed tracks compared with themselves on the same tracks as they are."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.deformed.deformations import CLEAN
from musrep_jax.evaluation.comparison import compare_systems
from musrep_jax.evaluation.support import choose_groups
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.task import Records

FIELD = "versus_clean"
"""Field of a result: the paired differences from the same tracks without deformation."""
TASK = "robustness"
SWAPS_PER_ROW = 40
"""Of a table: the smallest p-value is one over the number of swaps, and is corrected for the rows;
so it can come down to 1 / 40."""


def compare_with_clean(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str
) -> dict[Job, dict[str, Any]]:
    """Returns the field of every job with a deformation that does not have it and can have it.

    Args:
        jobs: of a config.
        records: their results, and the scores of their test tracks.
        num_resamples: swaps of the paired test, at least; below 1 nothing is compared. Large tables
            take more, or no p-value could be small enough for its correction.
        resample: `groups` or `tracks`: what is swapped as a whole.

    Returns:
        `roc_auc` and `pr_auc` as in `PairedComparison.to_dict`, and `per_label`: name -> both, None
        for a label that could not be ranked.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    clean = {_identify(job): job for job in jobs if job["deformation"] == CLEAN}
    found: dict[Job, dict[str, Any]] = {}
    if num_resamples < 1:
        return found
    changed = [job for job in jobs if job["deformation"] != CLEAN]
    num_rows = Counter(job["target"] for job in changed)
    for job in changed:
        reference = clean.get(_identify(job))
        if reference is None:
            continue
        if not (records.is_done(job) and records.is_done(reference)):
            continue
        if FIELD in (records.result(job) or {}):
            continue
        ours, theirs = records.read_arrays(job), records.read_arrays(reference)
        if not all(np.array_equal(ours[k], theirs[k]) for k in ("track_ids", "label_names")):
            raise ConfigError(
                f"{job.key} and {reference.key} were tested on different tracks or labels: the "
                "data set was built anew in between; use a new --workdir."
            )
        comparison = compare_systems(
            ours["labels"], ours["scores"], theirs["scores"],
            num_resamples=max(num_resamples, SWAPS_PER_ROW * num_rows[job["target"]]),
            seed=job.seed,
            track_groups=choose_groups(ours["groups"], resample),
        )  # fmt: skip
        per_label = {
            str(name): None if one is None else one.to_dict()
            for name, one in zip(ours["label_names"], comparison.per_label, strict=True)
        }
        found[job] = {FIELD: to_json_safe({**comparison.overall.to_dict(), "per_label": per_label})}
    return found


def _identify(job: Job) -> tuple[Any, ...]:
    """Returns what a job has in common with its reference."""
    rest = [(name, value) for name, value in job.fields.items() if name != "deformation"]
    return (*rest, *job.study.items())
