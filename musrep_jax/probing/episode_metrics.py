"""Numbers of many episodes: means, and intervals over episodes and groups of tracks at once.

A track is a query in many episodes, so episodes do not vary independently of each other. A resample
draws episodes and, for all of them alike, groups of tracks.

Source: Owen, "The pigeonhole bootstrap", 2007 (resampling both factors of crossed data).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import Interval, centered_interval, draw_resample_counts
from musrep_jax.evaluation.metrics import BoolArray, FloatArray, make_ranking
from musrep_jax.evaluation.support import MIN_EXAMPLES, make_units
from musrep_jax.evaluation.weighted import compute_weighted_areas
from musrep_jax.probing.episodes import Episode

METRICS = ("roc_auc", "pr_auc", "f1")
NUM_RESAMPLES = 200


@dataclasses.dataclass(frozen=True)
class EpisodeScores:
    """One classifier's outputs for one episode.

    Attributes:
        episode: the episode.
        truth: bool (queries, labels).
        scores: float64 (queries, labels), finite.
        predicted: bool (queries, labels).
    """

    episode: Episode
    truth: BoolArray
    scores: FloatArray
    predicted: BoolArray

    def measure(self) -> dict[str, float]:
        """Returns macro ROC-AUC, macro average precision and macro F1, see `METRICS`.

        Areas are means over the labels that have queries with and without them; F1 is over all
        labels, 0 for one that no query has and none is predicted to have, as scikit-learn has it.
        """
        found = self.resample(np.ones((len(self.truth), 1), np.int32))
        return {name: float(values[0]) for name, values in found.items()}

    def resample(self, counts: np.ndarray) -> dict[str, FloatArray]:
        """Returns the metrics where every query counts several times, or not at all.

        Args:
            counts: int32 (queries, resamples).

        Returns:
            Name -> float64 (resamples,); NaN where no label can be ranked, or no query is left.
        """
        ranking = make_ranking(self.truth, self.scores)
        areas = np.array(
            [
                compute_weighted_areas(ranking, column, counts)
                for column in range(self.truth.shape[1])
            ]
        )  # (labels, 2, resamples)
        is_defined = np.isfinite(areas[:, 0])
        num_defined = is_defined.sum(axis=0)
        divisor = np.where(num_defined > 0, num_defined, np.nan)
        roc, pr = (
            np.where(is_defined, areas[:, kind], 0.0).sum(axis=0) / divisor for kind in (0, 1)
        )
        weights = counts.astype(np.float64)
        both, truth, guess = (
            x.T.astype(np.float64) @ weights
            for x in (self.truth & self.predicted, self.truth, self.predicted)
        )
        f1 = (2 * both / np.maximum(truth + guess, 1)).mean(axis=0)
        return {
            "roc_auc": roc,
            "pr_auc": pr,
            "f1": np.where(weights.sum(axis=0) > 0, f1, np.nan),
        }


class EpisodeMean(NamedTuple):
    """The mean of a metric over episodes.

    Attributes:
        value: of all episodes and queries.
        interval: 95 %; NaN bounds where fewer than `MIN_EXAMPLES` groups are queries.
        resampled: float64 (resamples,), the mean in each; none where there is no interval.
    """

    value: float
    interval: Interval
    resampled: FloatArray


def average_episodes(
    episodes: Sequence[EpisodeScores],
    groups: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, EpisodeMean]:
    """Returns the mean of each metric over episodes, with its 95 % interval.

    Args:
        episodes: of one classifier.
        groups: (tracks,) of all tracks, whose rows the episodes number.
        num_resamples: number of resamples; 0 for no intervals.
        seed: of the draws; the same for classifiers that are compared, so that their resamples are.

    Returns:
        Metric -> its mean.
    """
    measured = [one.measure() for one in episodes]
    values = {name: _mean(np.array([row[name] for row in measured])) for name in METRICS}
    queried = np.unique(np.concatenate([one.episode.queries for one in episodes]))
    is_enough = make_units(len(queried), groups[queried]).count >= MIN_EXAMPLES
    nothing = float("nan"), float("nan")
    if not is_enough or not num_resamples:
        return {name: EpisodeMean(value, nothing, np.empty(0)) for name, value in values.items()}
    blocks = list(draw_resample_counts(len(groups), num_resamples, seed, groups))
    counts = np.concatenate(blocks, axis=1)
    drawn = np.random.default_rng(seed).multinomial(
        len(episodes), np.full(len(episodes), 1 / len(episodes)), size=num_resamples
    )
    per_episode = [one.resample(counts[one.episode.queries]) for one in episodes]
    found = {}
    for name, value in values.items():
        rows = np.stack([row[name] for row in per_episode])
        weights = np.where(np.isfinite(rows), drawn.T, 0)
        total = weights.sum(axis=0)
        means = np.sum(np.where(weights > 0, rows, 0.0) * weights, axis=0) / np.where(
            total > 0, total, np.nan
        )
        low, high = centered_interval(means, value)
        found[name] = EpisodeMean(value, (max(low, 0.0), min(high, 1.0)), means)
    return found


def predict_everything(episodes: Sequence[EpisodeScores]) -> list[EpisodeScores]:
    """Returns what predicting every label for every query gives, which needs no features.

    Args:
        episodes: of any classifier; their scores are not read.
    """
    return [
        dataclasses.replace(
            one, scores=np.zeros(one.scores.shape), predicted=np.ones_like(one.predicted)
        )
        for one in episodes
    ]


def average_random(episodes: Sequence[EpisodeScores]) -> dict[str, float]:
    """Returns what scores without any relation to the labels reach, in expectation.

    F1 is that of predicting each label as often as it occurs: its prevalence, nearly.

    Args:
        episodes: of any classifier; only their truth is read.
    """
    roc, pr, f1 = [], [], []
    for one in episodes:
        evaluable = metrics.is_evaluable(one.truth)
        expected = metrics.expected_random_average_precision(one.truth.sum(axis=0), len(one.truth))
        roc.append(0.5 if evaluable.any() else np.nan)
        pr.append(metrics.average_selected(expected, evaluable))
        f1.append(float(one.truth.mean()))
    return {
        name: _mean(np.array(values)) for name, values in zip(METRICS, (roc, pr, f1), strict=True)
    }


def _mean(values: FloatArray) -> float:
    """Returns the mean of what is defined, NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
