"""Which tracks are most worth labeling next: uncertain ones that differ from each other.

Source: Zhdanov, "Diverse mini-batch active learning", 2019 (of the most uncertain, those that are
spread out); Sener, Savarese, "Active learning for convolutional neural networks: a core-set
approach", ICLR 2018 (spread out: each is the farthest from those that were taken before).
"""

import numpy as np

POOL_FACTORS = 2, 10
"""Suggested are some of the most uncertain tenth of all tracks: at least and at most so many times
the number that is asked for."""


def suggest_tracks(
    embeddings: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    count: int,
    is_free: np.ndarray,
) -> np.ndarray:
    """Returns the rows that are most worth labeling, the most uncertain first.

    A track is the more uncertain, the nearer its logit is to that of the threshold. Of the most
    uncertain ones, see `POOL_FACTORS`, the first is taken, then each time the one whose nearest
    among those taken, by cosine, is farthest.

    Args:
        embeddings: float (tracks, width), perhaps mapped.
        probabilities: (tracks,), of the label.
        threshold: probability above which the label is said to be there.
        count: of tracks; fewer are returned if there are not that many.
        is_free: bool (tracks,), those that may be suggested.

    Returns:
        int (count,), rows.
    """
    distance = np.abs(_logit(probabilities) - _logit(np.array(threshold)))
    rows = np.flatnonzero(is_free)
    least, most = (factor * count for factor in POOL_FACTORS)
    num_uncertain = min(max(len(rows) // 10, least), most)
    rows = rows[np.argsort(distance[rows], kind="stable")][:num_uncertain]
    if not len(rows):
        return rows
    vectors = np.asarray(embeddings[np.sort(rows)], np.float64)[np.argsort(np.argsort(rows))]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    taken = [0]
    nearest = vectors @ vectors[0]
    while len(taken) < min(count, len(rows)):
        nearest[taken[-1]] = np.inf
        taken.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[taken[-1]])
    return rows[taken]


def _logit(probabilities: np.ndarray) -> np.ndarray:
    values = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.log(values) - np.log1p(-values)
