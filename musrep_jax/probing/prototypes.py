"""Prototype classifiers for labels of which a recording may have several.

`label` has a prototype for each label: the mean of the support examples that have it. `combination`
has one for each set of labels that examples share: whatever set of labels is asked about, its
prototype is the mean of the examples that have all of them. Sets with the same examples have the
same prototype, and of equally near ones the largest set is the answer: so only the largest of them
is kept, which is an intersection of the examples' own sets of labels. That gives the answers of all
sets, of which there are exponentially many.

A score is larger the more likely a label is: of `label` the similarity to its prototype, of
`combination` the similarity to the nearest prototype with the label minus that to the nearest
without it, which is above 0 where the nearest of all has the label.

Source: Snell, Swersky, Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017;
Papaioannou, Benetos, Potamianos, "LC-Protonets: multi-label few-shot learning for world music audio
tagging", IEEE OJSP 2025, and the public code pxaris/LC-Protonets, from which this differs: there
`label` predicts what has a cosine above 0, which after a ReLU is everything; thresholds may here be
fitted to the support set, see `episodes.fit_threshold`.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from musrep_jax.config import choose
from musrep_jax.evaluation.metrics import BoolArray, EvaluationError, FloatArray
from musrep_jax.probing.classifiers import Classifier, Scorer

LABEL, COMBINATION = "label", "combination"
PROTOTYPES = (LABEL, COMBINATION)
DISTANCES = ("cosine", "l2")
MAX_COMBINATIONS = 20_000
"""Prototypes of one support set; more than these are no few examples."""
_LEAST = 1e-12
_OUT_OF_RANGE = 4.0
"""Stands for infinity in scores, which are differences of two similarities at most."""


@dataclasses.dataclass(frozen=True)
class Prototypes(Classifier):
    """The nearest prototype: the mean of the training examples of a class.

    Attributes:
        prototypes: `label` or `combination`, for examples with several classes.
        distance: `cosine` or `l2`.
    """

    prototypes: str = LABEL
    distance: str = "cosine"

    def __post_init__(self) -> None:
        """Checks the settings."""
        choose(self.prototypes, PROTOTYPES, "prototypes of the classifier prototypes")
        choose(self.distance, DISTANCES, "distance of the classifier prototypes")

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        if not targets.any():  # no example has a class: none can be near to one
            return lambda queries: np.full((len(queries), targets.shape[1]), -_OUT_OF_RANGE)

        def score(queries: FloatArray) -> FloatArray:
            found = score_by_prototypes(
                features, targets > 0, queries, self.prototypes, self.distance, weights
            )
            return np.clip(found, -_OUT_OF_RANGE, _OUT_OF_RANGE)

        return score


def score_by_prototypes(
    support: FloatArray,
    targets: BoolArray,
    queries: FloatArray,
    prototypes: str = LABEL,
    distance: str = "cosine",
    weights: FloatArray | None = None,
) -> FloatArray:
    """Returns the scores of queries.

    Args:
        support: (examples, width).
        targets: bool (examples, labels).
        queries: (queries, width).
        prototypes: `label` or `combination`.
        distance: `cosine`, or `l2`, whose distances of a query are mapped onto [-1, 1] from the
            farthest to the nearest prototype, as in the public code.
        weights: (examples,), how much each counts in the means; None counts all alike.

    Returns:
        float64 (queries, labels); -inf for a label that no example has, inf for one that each has.

    Raises:
        EvaluationError: if there is no example, too many combinations, or no such classifier.
    """
    for value, allowed in ((prototypes, PROTOTYPES), (distance, DISTANCES)):
        if value not in allowed:
            raise EvaluationError(f"{value!r} is not known; choose {' or '.join(allowed)}.")
    if not targets.any():
        raise EvaluationError("no support example has one of the labels; draw some that have.")
    if prototypes == LABEL:
        sets = np.eye(targets.shape[1], dtype=bool)[targets.any(axis=0)]
    else:
        sets = list_combinations(targets)
    has_all = (sets[:, None, :] <= targets[None, :, :]).all(axis=2).astype(np.float64)
    if weights is not None:
        has_all = has_all * weights
    means = has_all @ support / has_all.sum(axis=1, keepdims=True)
    similarity = measure_similarity(queries, means, distance)
    scores = np.full((len(queries), targets.shape[1]), -np.inf)
    for column in np.flatnonzero(targets.any(axis=0)):
        has = sets[:, column]
        scores[:, column] = similarity[:, has].max(axis=1)
        if prototypes == COMBINATION:
            scores[:, column] -= similarity[:, ~has].max(axis=1, initial=-np.inf)
    return scores


def list_combinations(targets: BoolArray) -> BoolArray:
    """Returns the sets of labels that prototypes are of, the largest first.

    They are the intersections of the sets of one or more examples, each once, none empty.

    >>> list_combinations(np.array([[1, 1, 0], [1, 0, 1]], bool)).astype(int).tolist()
    [[1, 1, 0], [1, 0, 1], [1, 0, 0]]

    Args:
        targets: bool (examples, labels).

    Returns:
        bool (sets, labels).

    Raises:
        EvaluationError: if there are more than `MAX_COMBINATIONS`.
    """
    own = dict.fromkeys(_pack(row) for row in targets if row.any())
    found = dict(own)
    for one in own:
        found |= dict.fromkeys(one & other for other in list(found))
        found.pop(0, None)
        if len(found) > MAX_COMBINATIONS:
            raise EvaluationError(
                f"the support examples share more than {MAX_COMBINATIONS:,} sets of labels; take "
                "fewer labels or examples."
            )
    num_labels = targets.shape[1]
    rows = sorted(found, key=lambda one: (-one.bit_count(), one))
    return np.array([[one >> column & 1 for column in range(num_labels)] for one in rows], bool)


def measure_similarity(queries: FloatArray, means: FloatArray, distance: str) -> FloatArray:
    """Returns how near queries are to prototypes, (queries, prototypes), larger is nearer.

    Args:
        queries: (queries, width).
        means: (prototypes, width).
        distance: see `score_by_prototypes`.
    """
    if distance == "cosine":
        return _normalize(queries) @ _normalize(means).T
    square = np.sum(queries**2, axis=1)[:, None] - 2 * queries @ means.T + np.sum(means**2, axis=1)
    far = np.sqrt(np.maximum(square, 0))
    low, high = far.min(axis=1, keepdims=True), far.max(axis=1, keepdims=True)
    return 1 - 2 * (far - low) / np.maximum(high - low, _LEAST)


def _normalize(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST)


def _pack(row: Iterable[bool]) -> int:
    """Returns a set of labels as the bits of a number."""
    return sum(1 << column for column, holds in enumerate(row) if holds)
