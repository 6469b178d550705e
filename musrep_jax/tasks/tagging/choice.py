"""The choice between candidates: by a metric on validation or by folds, never on the test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.comparison import (
    SIGNIFICANCE,
    Difference,
    apply_holm_correction,
    compare_systems,
    compare_values,
)
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.task import Records

CHOSEN_FIELD = "is_chosen"
GROUPED_BY = ("target", "num_train_tracks", "seed")
"""Fields of jobs that are candidates for the same thing."""
FOLDS_FIELD = "folds"
"""Of a result: metrics by folds over the groups of training and validation tracks, or None."""
VALIDATION_ARRAYS = "validation"
"""File of the scores of validation tracks."""


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
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        if records.is_done(job):
            groups.setdefault(tuple(job.get(field) for field in GROUPED_BY), []).append(job)
    return [choose_one(group, records, select_by) for group in groups.values()]


def choose_one(jobs: Sequence[Job], records: Records, select_by: str) -> Job:
    """Returns the chosen one of finished jobs.

    Where validation is of few groups, solved candidates are judged by folds over all groups but
    those of the test. What is trained has no folds: it is taken instead of the best of these only
    where it is better on the validation tracks by the paired test over tracks, corrected for the
    number of trained candidates (of few groups a test over groups cannot succeed). Otherwise the
    best on validation is chosen.

    Args:
        jobs: candidates for the same thing, at least one.
        records: their results.
        select_by: of `SELECTABLE`.
    """
    results = {job: records.result(job) or {} for job in jobs}
    validation = [(job, results[job].get("validation")) for job in jobs]
    solved = [job for job in jobs if results[job].get(FOLDS_FIELD)]
    # Results of an earlier version say nothing of folds.
    if not solved or not all(FOLDS_FIELD in result for result in results.values()):
        return find_best(validation, select_by)
    best = find_best([(job, results[job][FOLDS_FIELD]) for job in solved], select_by)
    least = rank_validation(results[best]["validation"], select_by)
    ahead = [
        (job, metrics)
        for job, metrics in validation
        if job not in solved and rank_validation(metrics, select_by)[0] > least[0]
    ]
    differences = [_compare_on_validation(job, best, records, select_by) for job, _ in ahead]
    p_values = apply_holm_correction([difference.p_value for difference in differences])
    surely = [one for one, p_value in zip(ahead, p_values, strict=True) if p_value < SIGNIFICANCE]
    return find_best(surely, select_by) if surely else best


def _compare_on_validation(job: Job, other: Job, records: Records, select_by: str) -> Difference:
    """Returns by how much a job is better than another on the same validation tracks."""
    ours, theirs = (records.read_arrays(one, VALIDATION_ARRAYS) for one in (job, other))
    if select_by in ("roc_auc", "pr_auc"):
        found = compare_systems(ours["labels"], ours["scores"], theirs["scores"], seed=job.seed)
        return getattr(found.overall, select_by)
    return compare_values(
        ours[select_by], theirs[select_by], higher_is_better=SELECTABLE[select_by] == "max",
        seed=job.seed,
    )  # fmt: skip


def make_validation_arrays(scorer: SplitScorer, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a choice needs of validation tracks: labels, scores, and metrics of each.

    Args:
        scorer: of the validation tracks.
        scores: (tracks, classes), probabilities.
    """
    labels = scorer.tracks.label_matrix
    each = [scorer.summarize_track(*pair) for pair in zip(labels, scores, strict=True)]
    return {
        "labels": labels.astype(np.uint8),
        "scores": scores.astype(np.float32),
        **{name: np.array([one[name] for one in each]) for name in each[0]},
    }
