"""ROC-AUC and average precision of weighted tracks: many weightings of one ranking at once.

With counts as weights they equal the metrics of the data in which every track occurs as often as
its count says, ties included, so that the tracks are sorted once.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from musrep_jax.evaluation.metrics import FloatArray, IntArray, Ranking


@dataclasses.dataclass(frozen=True)
class TiedRuns:
    """The runs of tied scores of one label that hold a positive: only these change the areas.

    Attributes:
        order: int64 (tracks,), row of the track at each rank.
        hits: int64 (positives,), ranks of the positives.
        start: int64 (runs,), first rank of each run.
        end: int64 (runs,), last rank.
        first_hit: int64 (runs,), number of positives before the run.
        after_last_hit: int64 (runs,), number of positives to the end of the run.
    """

    order: IntArray
    hits: IntArray
    start: IntArray
    end: IntArray
    first_hit: IntArray
    after_last_hit: IntArray

    @classmethod
    def of(cls, ranking: Ranking, column: int) -> "TiedRuns":
        """Returns the runs of one label.

        Args:
            ranking: of the data.
            column: which label; it has positives.
        """
        hits = np.flatnonzero(ranking.is_positive[:, column])
        start, first_hit = np.unique(ranking.start[hits, column], return_index=True)
        return cls(
            order=ranking.order[:, column],
            hits=hits,
            start=start,
            end=ranking.end[start, column],
            first_hit=first_hit,
            after_last_hit=np.append(first_hit[1:], len(hits)),
        )

    def accumulate(self, counts: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns how many tracks, and how many positives, lie before each rank.

        Args:
            counts: int32 (tracks, resamples).

        Returns:
            int32 (tracks + 1, resamples) and int32 (positives + 1, resamples).
        """
        ranked = counts[self.order]
        return _cumulative(ranked), _cumulative(ranked[self.hits])

    def areas(
        self, drawn: NDArray[np.int32], positives: NDArray[np.int32]
    ) -> tuple[FloatArray, FloatArray]:
        """Returns ROC-AUC and average precision, NaN without positives or negatives.

        Args:
            drawn: int32 (tracks + 1, resamples), tracks before each rank.
            positives: int32 (positives + 1, resamples), positives before each positive.

        Returns:
            Two float64 (resamples,).
        """
        num_positives = positives[-1].astype(np.float64)
        num_negatives = drawn[-1] - num_positives
        positives_to_end = positives[self.after_last_hit].astype(np.float64)
        positives_before = positives[self.first_hit].astype(np.float64)
        gained = positives_to_end - positives_before
        drawn_to_end = drawn[self.end + 1].astype(np.float64)
        precision = positives_to_end / np.maximum(drawn_to_end, 1)
        negatives_counted = (drawn_to_end - positives_to_end) + (
            drawn[self.start] - positives_before
        )
        twice_won = gained * (2 * num_negatives - negatives_counted)
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = twice_won.sum(axis=0) / (2 * num_positives * num_negatives)
            precision_mean = (gained * precision).sum(axis=0) / num_positives
        return roc, np.where(num_negatives > 0, precision_mean, np.nan)


def compute_weighted_areas(
    ranking: Ranking, column: int, counts: NDArray[np.int32]
) -> tuple[FloatArray, FloatArray]:
    """Returns ROC-AUC and average precision of one label in every resample.

    Args:
        ranking: of the full data.
        column: which label.
        counts: int32 (tracks, resamples).

    Returns:
        Two float64 (resamples,), NaN without positives or without negatives.
    """
    if not ranking.is_positive[:, column].any():
        return np.full(counts.shape[1], np.nan), np.full(counts.shape[1], np.nan)
    runs = TiedRuns.of(ranking, column)
    return runs.areas(*runs.accumulate(counts))


def _cumulative(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns running sums down the rows with a row of zeros before them."""
    sums = np.zeros((len(counts) + 1, counts.shape[1]), dtype=np.int32)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums
