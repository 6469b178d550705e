"""Probes compared on the same test tracks: all with the first features, and every pair of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.evaluation.comparison import (
    apply_holm_correction,
    compare_systems,
    compare_values,
)
from musrep_jax.evaluation.support import choose_groups
from musrep_jax.probing.pairs import Pairs, compare_all_areas, compare_all_values
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.probe.matrix import SIMILARITY
from musrep_jax.tasks.task import Records

FIELD = "versus_first"
"""Field of a result with the difference from the first features under the same classifier."""

PAIRS = "versus_rows"
"""Field of a result with its differences from every earlier row of its table."""


def compare_probes(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str
) -> dict[Job, dict[str, Any]]:
    """Returns the fields of `compare_with_first` and `compare_rows`.

    Args:
        jobs: in the order of the config.
        records: their results, and the scores of their test tracks.
        num_resamples: swaps of the paired test; below 1 nothing is compared.
        resample: `groups` or `tracks`: what varies as a whole.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    found: dict[Job, dict[str, Any]] = {}
    if num_resamples > 0:
        done = [j for j in jobs if j["classifier"] != SIMILARITY and records.is_done(j)]
        for fields in (
            compare_with_first(done, records, num_resamples, resample),
            compare_rows(done, records, num_resamples, resample),
        ):
            for job, more in fields.items():
                found[job] = {**found.get(job, {}), **more}
    return found


def compare_rows(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str
) -> dict[Job, dict[str, Any]]:
    """Returns the differences between all rows of a table, p-values corrected for their number.

    Rows of a table have the same data set, number of training tracks and seed; those of a study
    that were tested on other tracks are not compared.

    Args:
        jobs: that are done, in the order of the config.
        records: see `compare_probes`.
        num_resamples: see `compare_probes`.
        resample: see `compare_probes`.
    """
    tables: dict[tuple[Any, ...], list[Job]] = {}
    read = {job: records.read_arrays(job) for job in jobs}
    for job in jobs:
        ours = read[job]
        tested = (ours["track_ids"].tobytes(), ours["labels"].tobytes(), ours["labels"].shape)
        key = (job["target"], job["num_train_tracks"], job.seed, *tested)
        tables.setdefault(key, []).append(job)
    found: dict[Job, dict[str, Any]] = {}
    for rows in tables.values():
        if len(rows) < 2:
            continue
        labels = read[rows[0]]["labels"]
        groups = choose_groups(read[rows[0]]["groups"], resample)
        scores = [read[job]["scores"] for job in rows]
        if (records.result(rows[0]) or {})["is_exclusive"]:
            right = np.stack([_mark_right(labels, one) for one in scores])
            pairs = compare_all_values(
                right, num_resamples=num_resamples, seed=rows[0].seed, track_groups=groups
            )
        else:
            pairs = compare_all_areas(labels, scores, groups)
        for job, listed in zip(rows, list_pairs(pairs, [job.key for job in rows]), strict=True):
            found[job] = {PAIRS: listed}
    return found


def list_pairs(pairs: Pairs, keys: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Returns, for each of several jobs, its differences from those before it, as JSON values.

    `p_value_corrected` is corrected for the number of all pairs (Holm).

    Args:
        pairs: of the jobs, by their numbers.
        keys: of the jobs.
    """
    corrected = apply_holm_correction([one.p_value for one in pairs.values()])
    found: list[list[dict[str, Any]]] = [[] for _ in keys]
    for ((first, second), one), p_value in zip(pairs.items(), corrected.tolist(), strict=True):
        fields = {
            "key": keys[first], "difference": one.value, "ci": list(one.ci),
            "p_value": one.p_value, "p_value_corrected": p_value, "reason": one.reason,
        }  # fmt: skip
        found[second].append(to_json_safe(fields))
    return found


def _mark_right(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns 1 for every track whose largest score is of its class."""
    return np.take_along_axis(labels, scores.argmax(axis=1)[:, None], axis=1)[:, 0]


def compare_with_first(
    jobs: Sequence[Job], records: Records, num_resamples: int, resample: str
) -> dict[Job, dict[str, Any]]:
    """Returns the field of every probe with other features than the first.

    Args:
        jobs: that are done, in the order of the config.
        records: see `compare_probes`.
        num_resamples: see `compare_probes`.
        resample: see `compare_probes`.

    Raises:
        ConfigError: if two jobs were tested on different tracks.
    """
    first: dict[tuple[Any, ...], Job] = {}
    found: dict[Job, dict[str, Any]] = {}
    for job in jobs:
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
            right = [_mark_right(labels, one["scores"]) for one in (ours, theirs)]
            difference = compare_values(*right, higher_is_better=True, **options)
        else:
            difference = compare_systems(
                labels, ours["scores"], theirs["scores"], **options
            ).overall.roc_auc
        found[job] = {
            FIELD: {"features": reference["features"], **to_json_safe(difference.to_dict())}
        }
    return found
