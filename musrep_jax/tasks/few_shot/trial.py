"""The episodes of one pool of labels: scores, thresholds, numbers, and what says nothing."""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.probing.episode_metrics import (
    EpisodeMean,
    EpisodeScores,
    average_episodes,
    average_random,
    predict_everything,
)
from musrep_jax.probing.episodes import Episode, fit_threshold, score_episode
from musrep_jax.probing.few_shot_methods import make_scorer
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job

NOVEL, BASE, BOTH = "novel", "base", "both"
POOLS = (NOVEL, BASE, BOTH)
"""Labels that the features were not trained on, those that they were, and all."""
PUBLISHED_F1 = "f1_at_zero"
"""Macro F1 with 0 as the threshold of scores, as the public code has it."""


def measure_pool(
    job: Job,
    section: ml_collections.ConfigDict,
    features: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    episodes: Sequence[Episode],
    names: Sequence[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns what a method reaches on episodes, as JSON values, and its resampled numbers.

    Args:
        job: the job.
        section: the settings `few_shot`.
        features: float64 (tracks, width).
        targets: bool (tracks, labels).
        groups: (tracks,).
        episodes: of the pool.
        names: of all labels.

    Returns:
        `metrics`: name -> value and interval; `everything` and `random`: the same numbers of who
        predicts every label, and of scores at random; `num_everything_wins`: episodes in which
        predicting everything has at least the macro F1 of the method; `num_episodes`, `num_queries`
        (mean), `num_support` (mean), `num_groups` of queries, `labels` that were drawn. Then arrays
        for paired tests: name -> float64 (resamples,), and `queries`, the rows of all queries.
    """
    scorer = make_scorer(job["classifier"], section.distance, centers=section.centers)
    at_zero, fitted = [], []
    for episode in episodes:
        scores = score_episode(episode, features, targets, scorer)
        truth = targets[np.ix_(episode.queries, episode.labels)]
        cut = fit_threshold(episode, features, targets, groups, scorer, 0.0)
        at_zero.append(EpisodeScores(episode, truth, scores, scores > 0))
        fitted.append(EpisodeScores(episode, truth, scores, scores > cut))
    options: dict[str, Any] = {"num_resamples": section.num_resamples, "seed": job.seed}
    found = average_episodes(fitted, groups, **options)
    found[PUBLISHED_F1] = average_episodes(at_zero, groups, **options)["f1"]
    blind = predict_everything(fitted)
    everything = average_episodes(blind, groups, **options)
    everything[PUBLISHED_F1] = everything["f1"]
    random = average_random(fitted)
    wins = sum(
        other.measure()["f1"] >= one.measure()["f1"]
        for one, other in zip(fitted, blind, strict=True)
    )
    queries = np.concatenate([one.queries for one in episodes])
    fields = to_json_safe(
        {
            "metrics": _list(found),
            "everything": _list(everything),
            "random": {**random, PUBLISHED_F1: random["f1"]},
            "num_everything_wins": wins,
            "num_episodes": len(episodes),
            "num_queries": float(np.mean([len(one.queries) for one in episodes])),
            "num_support": float(np.mean([len(one.support) for one in episodes])),
            "num_groups": len(np.unique(groups[queries])),
            "labels": sorted({names[column] for one in episodes for column in one.labels}),
        }
    )
    return fields, {**{name: one.resampled for name, one in found.items()}, "queries": queries}


def _list(found: dict[str, EpisodeMean]) -> dict[str, Any]:
    """Returns values with their intervals, None where there is none."""
    return {
        name: {
            "value": one.value,
            "ci": list(one.interval) if np.isfinite(one.interval).all() else None,
        }
        for name, one in found.items()
    }
