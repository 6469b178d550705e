"""Few-shot rows compared with each other, on the same episodes and the same queries."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.support import TOO_FEW_GROUPS
from musrep_jax.probing.episode_metrics import METRICS
from musrep_jax.probing.pairs import compare_all_resamples
from musrep_jax.reporting.results import parse_number
from musrep_jax.tasks.few_shot.trial import POOLS
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.probe.comparison import list_pairs
from musrep_jax.tasks.task import Records, Result

PAIRS = "versus_rows"
"""Field of a result: pool -> metric -> its differences from every earlier row of the table."""
RESAMPLED = "resampled"
"""Stem of the arrays of a result: the numbers of each pool in every resample."""


def compare_rows(jobs: Sequence[Job], records: Records) -> dict[Job, dict[str, Any]]:
    """Returns the differences between all rows that have the same episodes.

    A resample draws episodes and groups of queries, for all rows alike; the standard error of a
    difference is its deviation over resamples. Its degrees of freedom are the smaller number of
    episodes and groups, less one. P-values are corrected for the number of pairs of a table (Holm).

    Args:
        jobs: in the order of the config.
        records: their results, and their numbers in every resample.
    """
    tables: dict[tuple[Any, ...], list[Job]] = {}
    read: dict[Job, dict[str, np.ndarray]] = {}
    for job in jobs:
        pools = (records.result(job) or {}).get("pools") or {}
        # Results of earlier versions have no arrays.
        if records.is_done(job) and any("num_groups" in one for one in pools.values()):
            read[job] = records.read_arrays(job, RESAMPLED)
            for pool in POOLS:
                if pool in pools:
                    queries, count = read[job][f"{pool}_queries"], len(read[job][f"{pool}_roc_auc"])
                    same = (pool, queries.tobytes(), count, job["target"], job["num_labels"])
                    key = (*same, job["num_shots"], job.seed)
                    tables.setdefault(key, []).append(job)
    found: dict[Job, dict[str, Any]] = {}
    for (pool, *_), rows in tables.items():
        results = [_get_pool(records.result(job), pool) for job in rows]
        num_units = min(results[0]["num_episodes"], results[0]["num_groups"])
        for metric in METRICS:
            resampled = np.stack([read[job][f"{pool}_{metric}"] for job in rows])
            pairs = compare_all_resamples(
                [parse_number(one["metrics"][metric]["value"]) for one in results],
                resampled,
                num_units,
                None if resampled.shape[1] else TOO_FEW_GROUPS,
            )
            listed = list_pairs(pairs, [job.key for job in rows])
            for job, others in zip(rows, listed, strict=True):
                field = found.setdefault(job, {PAIRS: {}})[PAIRS]
                field.setdefault(pool, {})[metric] = others
    return found


def _get_pool(result: Result | None, pool: str) -> dict[str, Any]:
    """Returns what a result says of a pool of labels."""
    return (result or {})["pools"][pool]
