"""The choice between candidates: by one metric on validation data, and never on the test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.scoring import SELECTABLE
from musrep_jax.tasks.task import Records

CHOSEN_FIELD = "is_chosen"
GROUPED_BY = ("target", "num_train_tracks", "seed")
"""Fields of jobs that are candidates for the same thing."""


def rank_validation(metrics: Mapping[str, Any] | None, select_by: str) -> tuple[float, float]:
    """Returns a pair that is larger for the better of two models, lowest where nothing is known.

    Between equal metrics the lower validation loss decides, as in a training.

    Args:
        metrics: on validation data, or None.
        select_by: of `SELECTABLE`.
    """
    found = [(metrics or {}).get(name) for name in (select_by, "loss")]
    value, loss = (math.nan if x is None else float(x) for x in found)
    value = value if SELECTABLE[select_by] == "max" else -value
    return tuple(-math.inf if math.isnan(x) else x for x in (value, -loss))


def find_best(candidates: Iterable[tuple[Any, Mapping[str, Any] | None]], select_by: str) -> Any:
    """Returns the candidate that is best on validation data; of equals the first.

    Args:
        candidates: each with its validation metrics.
        select_by: of `SELECTABLE`.

    Returns:
        One of them, None of none.
    """
    best, highest = None, (-math.inf, -math.inf)
    for candidate, metrics in candidates:
        rank = rank_validation(metrics, select_by)
        if best is None or rank > highest:
            best, highest = candidate, rank
    return best


def choose_jobs(jobs: Sequence[Job], records: Records, select_by: str) -> list[Job]:
    """Returns the chosen job of each data set, training size and seed.

    Args:
        jobs: all candidates, the simpler ones first; those without result do not stand for choice.
        records: their results.
        select_by: of `SELECTABLE`.
    """
    groups: dict[tuple[Any, ...], list[tuple[Job, Any]]] = {}
    for job in jobs:
        if records.is_done(job):
            key = tuple(job.get(field) for field in GROUPED_BY)
            groups.setdefault(key, []).append((job, (records.result(job) or {}).get("validation")))
    return [find_best(group, select_by) for group in groups.values()]
