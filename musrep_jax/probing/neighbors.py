"""Nearest neighbors by L1, L2 and cosine distance, in blocks: never all distances in memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from musrep_jax.config import choose
from musrep_jax.evaluation.metrics import EvaluationError, FloatArray, IntArray
from musrep_jax.probing.classifiers import Classifier, Scorer, require

DISTANCES = ("l1", "l2", "cosine")
MAX_BLOCK = 1 << 22
"""Distances that are in memory at once, at most; at least those of one query."""
_UNROLLED = 16
"""Features of one pass over a block of L1 distances, which otherwise waits for memory."""
_SPARE = 16
"""Neighbors by rounded distances that are measured again beyond those asked for."""
_FEW = 1 << 30
"""Differences of features, below which distances are measured without compiling anything."""


@dataclasses.dataclass(frozen=True)
class Neighbors(Classifier):
    """The share of the nearest training examples, by weight, that have a class.

    Attributes:
        num_neighbors: how many vote; all of them where there are fewer. Of one example per class
            one must vote, or all classes have the same score.
        distance: one of `DISTANCES`.
    """

    num_neighbors: int = 1
    distance: str = "l2"

    choices: ClassVar = {"num_neighbors": (1, 3, 5, 10, 20, 50)}
    gives_probabilities: ClassVar = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        is_count = type(self.num_neighbors) is int and self.num_neighbors > 0
        require(is_count, "num_neighbors", self.num_neighbors, "a whole number from 1 on")
        choose(self.distance, DISTANCES, "distance of the classifier neighbors")

    @classmethod
    def _solve_all(
        cls,
        classifiers: Sequence[Any],
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> list[Scorer]:
        largest = max(one.num_neighbors for one in classifiers)
        searches = {one.distance: _Search(features, largest, one.distance) for one in classifiers}

        def make_scorer(classifier: "Neighbors") -> Scorer:
            def score(queries: FloatArray) -> FloatArray:
                found = searches[classifier.distance].find(queries)
                nearest = found[:, : classifier.num_neighbors]
                votes = weights[nearest]
                total = votes.sum(axis=1, keepdims=True)
                return np.einsum("qn,qnc->qc", votes / total, targets[nearest])

            return score

        return [make_scorer(one) for one in classifiers]


class _Search:
    """The nearest of some references; the last answer is kept for others who ask the same."""

    def __init__(self, references: FloatArray, count: int, distance: str) -> None:
        self._references, self._count, self._distance = references, count, distance
        self._last: tuple[FloatArray, IntArray] | None = None

    def find(self, queries: FloatArray) -> IntArray:
        """Returns rows of references, (queries, count), the nearest first."""
        if self._last is None or not np.array_equal(self._last[0], queries):
            found, _ = find_nearest(queries, self._references, self._count, self._distance)
            self._last = queries, found
        return self._last[1]


def find_nearest(
    queries: np.ndarray,
    references: np.ndarray,
    count: int,
    distance: str = "l2",
    *,
    without_self: bool = False,
    groups: np.ndarray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Returns the nearest references of every query, the nearest first.

    Args:
        queries: (queries, features).
        references: (references, features).
        count: how many, at most all.
        distance: one of `DISTANCES`.
        without_self: whether query i is reference i, which is no neighbor of itself.
        groups: (references,), where query i is reference i: those of its group are no neighbors.
            If too few others are there, some are found at an infinite distance.

    Returns:
        Their rows and distances, both (queries, count).

    Raises:
        EvaluationError: if there is no reference to be found.
    """
    count = min(count, len(references) - without_self)
    if count < 1:
        raise EvaluationError("there is no other example to be a neighbor; give at least two.")
    queries, references = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
    is_rounded = distance == "l1" and queries.size * len(references) > _FEW
    wanted = min(count + _SPARE, len(references)) if is_rounded else count
    measure = _measure_rounded if is_rounded else measure_blocks
    rows, found = [], []
    for start, block in measure(queries, references, distance):
        if without_self:
            own = np.arange(len(block))
            block[own, start + own] = np.inf
        if groups is not None:
            block[groups[start : start + len(block), None] == groups] = np.inf
        nearest = np.argpartition(block, wanted - 1, axis=1)[:, :wanted]
        values = np.take_along_axis(block, nearest, axis=1)
        if is_rounded:
            exact = np.abs(queries[start : start + len(block), None] - references[nearest])
            values = np.where(np.isfinite(values), exact.sum(axis=2), np.inf)
        order = np.lexsort((nearest, values), axis=1)[:, :count]
        rows.append(np.take_along_axis(nearest, order, axis=1))
        found.append(np.take_along_axis(values, order, axis=1))
    return np.concatenate(rows), np.concatenate(found)


def measure_precision(
    features: np.ndarray,
    targets: np.ndarray,
    count: int = 10,
    distance: str = "l1",
    *,
    groups: np.ndarray | None = None,
) -> FloatArray:
    """Returns, for every example, the share of its nearest others that have a class in common.

    Args:
        features: (examples, features).
        targets: (examples, classes), 0 or 1.
        count: how many neighbors are looked at, at most all others.
        distance: one of `DISTANCES`.
        groups: (examples,), performers or recordings; those of an example's own group are left out,
            so that it is not its room or its voice that is found again. None looks at all.

    Returns:
        float64 (examples,), in [0, 1]; NaN for an example without a class or without a neighbor.

    Source: Hamel et al., "Transfer learning in MIR", ISMIR 2013, section 6.4 (count 10, L1).
    """
    held = np.asarray(targets) > 0
    nearest, distances = find_nearest(
        features, features, count, distance, without_self=True, groups=groups
    )
    is_alike = np.stack(
        [(held[near] & held).any(axis=1) for near in nearest.T], axis=1
    ) & np.isfinite(distances)
    num_found = np.isfinite(distances).sum(axis=1)
    is_judged = held.any(axis=1) & (num_found > 0)
    return np.where(is_judged, is_alike.sum(axis=1) / np.maximum(num_found, 1), np.nan)


def measure_chance_precision(targets: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Returns the precision of neighbors that are drawn at random, in expectation.

    Args:
        targets: (examples, classes), 0 or 1.
        groups: (examples,), see `measure_precision`: those of the own group are not drawn.
    """
    held = np.asarray(targets) > 0
    kinds, kind, counts = np.unique(held, axis=0, return_inverse=True, return_counts=True)
    kind = kind.reshape(len(held))
    alike = np.array([(kinds & one).any(axis=1) @ counts for one in kinds])[kind]
    own = np.arange(len(held)) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = np.argsort(own, kind="stable")
    left_out, number = np.zeros(len(held)), np.zeros(len(held))
    for rows in np.split(order, np.flatnonzero(np.diff(own[order])) + 1):
        left_out[rows] = [(held[rows] & held[row]).any(axis=1).sum() for row in rows]
        number[rows] = len(rows)
    others = len(held) - number
    is_judged = held.any(axis=1) & (others > 0)
    shares = (alike - left_out)[is_judged] / others[is_judged]
    return float(shares.mean()) if len(shares) else float("nan")


def measure_blocks(
    queries: np.ndarray, references: np.ndarray, distance: str
) -> Iterator[tuple[int, FloatArray]]:
    """Yields distances block by block, see `MAX_BLOCK`.

    Args:
        queries: (queries, features).
        references: (references, features).
        distance: one of `DISTANCES`.

    Yields:
        Row of the first query, and float64 (queries of the block, references).
    """
    choose(distance, DISTANCES, "distance")
    queries, references = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    if distance == "cosine":
        queries, references = _normalize(queries), _normalize(references)
    size = max(1, MAX_BLOCK // max(1, len(references)))
    for start in range(0, len(queries), size):
        yield start, _measure(queries[start : start + size], references, distance)


def _measure_rounded(
    queries: FloatArray, references: FloatArray, distance: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields L1 distances in single precision block by block, eight times as fast as in double."""
    import jax
    import jax.numpy as jnp

    center = references.mean(axis=0)
    padding = -queries.shape[1] % _UNROLLED

    def turn(rows: FloatArray) -> np.ndarray:
        """Returns features in passes, float32 (passes, features of one, rows)."""
        found = np.pad((rows - center).astype(np.float32).T, ((0, padding), (0, 0)))
        return found.reshape(-1, _UNROLLED, len(rows))

    @jax.jit
    def measure(ours: jax.Array, theirs: jax.Array) -> jax.Array:
        def add(total: jax.Array, both: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            for mine, other in zip(*both, strict=True):
                total += jnp.abs(mine[:, None] - other[None, :])
            return total, None

        nothing = jnp.zeros((ours.shape[2], theirs.shape[2]), jnp.float32)
        return jax.lax.scan(add, nothing, (ours, theirs))[0]

    theirs = jnp.asarray(turn(references))
    size = max(1, min(64, MAX_BLOCK // len(references), len(queries)))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        padded = np.pad(block, ((0, size - len(block)), (0, 0)))
        yield start, np.array(measure(turn(padded), theirs))[: len(block)]


def _measure(queries: FloatArray, references: FloatArray, distance: str) -> FloatArray:
    from scipy.spatial.distance import cdist

    if distance == "cosine":
        return 1 - queries @ references.T
    return cdist(queries, references, {"l1": "cityblock", "l2": "euclidean"}[distance])


def _normalize(features: FloatArray) -> FloatArray:
    """Returns features of length 1; those of length 0 stay, at the distance 1 of all."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
