"""Probes compared on the same test tracks: all features with the first ones of the config."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.evaluation.comparison import compare_systems, compare_values
from musrep_jax.evaluation.support import choose_groups
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.probe.matrix import SIMILARITY
from musrep_jax.tasks.task import Records

FIELD = "versus_first"
"""Field of a result with the difference from the first features under the same classifier."""


def compare_with_first(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str
) -> dict[Job, dict[str, Any]]:
    """Returns the field of every probe with other features than the first.

    Args:
        jobs: in the order of the config.
        records: their results, and the scores of their test tracks.
        num_resamples: swaps of the paired test; below 1 nothing is compared.
        resample: `groups` or `tracks`: what is swapped as a whole.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    first: dict[tuple[Any, ...], Job] = {}
    found: dict[Job, dict[str, Any]] = {}
    for job in jobs if num_resamples > 0 else ():
        if job["classifier"] == SIMILARITY or not records.is_done(job):
            continue
        rest = [(name, value) for name, value in job.fields.items() if name != "features"]
        reference = first.setdefault((*rest, *job.study.items()), job)
        if (
            reference is job
            or (records.result(job) or {}).get(FIELD, {}).get("features") == reference["features"]
        ):
            continue
        ours, theirs = records.read_arrays(job), records.read_arrays(reference)
        if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
            raise ConfigError(
                f"{job.key} and {reference.key} were tested on different tracks: the data set was "
                "built anew in between; use a new --workdir."
            )
        labels, groups = ours["labels"], choose_groups(ours["groups"], resample)
        options = {"num_resamples": num_resamples, "seed": job.seed, "track_groups": groups}
        if (records.result(job) or {})["is_exclusive"]:
            right = [
                np.take_along_axis(labels, one["scores"].argmax(axis=1)[:, None], axis=1)[:, 0]
                for one in (ours, theirs)
            ]
            difference = compare_values(*right, higher_is_better=True, **options)
        else:
            difference = compare_systems(
                labels, ours["scores"], theirs["scores"], **options
            ).overall.roc_auc
        found[job] = {
            FIELD: {"features": reference["features"], **to_json_safe(difference.to_dict())}
        }
    return found
