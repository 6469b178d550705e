"""Trainings compared on the same test tracks: with scratch, and with the baseline."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.evaluation.comparison import compare_systems
from musrep_jax.evaluation.support import BY_GROUPS, choose_groups
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.tagging.matrix import find_baseline, find_scratch
from musrep_jax.tasks.task import Records

FindReference = Callable[[Job, Sequence[Job]], Job | None]

REFERENCES: Mapping[str, FindReference] = {
    "versus_scratch": find_scratch,
    "versus_baseline": find_baseline,
}
"""Field of a result -> `(job, jobs) -> job` with which it is compared, None with nothing."""


def compare_on_same_tracks(
    jobs: Sequence[Job],
    records: Records,
    num_resamples: int,
    resample: str = BY_GROUPS,
    references: Mapping[str, FindReference] = REFERENCES,
) -> dict[Job, dict[str, Any]]:
    """Returns the fields of references for the jobs that do not have them and can have them.

    Args:
        jobs: to look through.
        records: their results, and the scores of their test tracks.
        num_resamples: swaps of the paired test; below 1 nothing is compared.
        resample: `groups` or `tracks`: what is swapped as a whole.
        references: see `REFERENCES`.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    found: dict[Job, dict[str, Any]] = {}
    if num_resamples < 1:
        return found
    for job in jobs:
        if not records.is_done(job):
            continue
        recorded = records.result(job)
        for field, find_reference in references.items():
            reference = None if field in recorded else find_reference(job, jobs)
            if reference is None or not records.is_done(reference):
                continue
            ours, theirs = records.read_arrays(job), records.read_arrays(reference)
            if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
                raise ConfigError(
                    f"{job.key} and {reference.key} were tested on different tracks: the data set "
                    "was built anew in between; use a new --workdir."
                )
            comparison = compare_systems(
                ours["labels"], ours["scores"], theirs["scores"],
                num_resamples=num_resamples, seed=job.seed,
                track_groups=choose_groups(ours.get("groups"), resample),
            )  # fmt: skip
            found.setdefault(job, {})[field] = to_json_safe(comparison.overall.to_dict())
    return found
