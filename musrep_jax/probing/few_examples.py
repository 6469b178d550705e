"""New labels from a few examples: an output layer on frozen features, chosen by leaving out.

Candidates are the prototype classifier (nearer to the mean of the examples with the label, or to
that of those without it), with six sharpnesses, and logistic regressions with four strengths of
penalty. All are linear in the features, which are centered and divided by one number: of a few
examples no scale of each feature can be told. Examples with a label weigh as much as those without
it, however many these are, so a probability says what holds where half of all recordings have it.

The candidate with the lowest loss on examples that were left out is the best one. The score of an
example is that of a layer which was not only fitted but also chosen without it. One example of each
label is left out at a time, together with its share of the others: to leave out a single one would
move the means of five examples away from it, and make its score too low.

Source: Snell, Swersky, Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017 (means as
prototypes; squared distances make a linear classifier); Chen et al., "A closer look at few-shot
classification", ICLR 2019 (logistic regression on frozen features as the baseline); Varma, Simon,
"Bias in error estimation when using cross-validation for model selection", 2006 (nested folds).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musrep_jax.evaluation.aggregation import aggregate_tracks
from musrep_jax.evaluation.linear import SHARPNESS, Linear, fit_logistic
from musrep_jax.evaluation.metrics import BoolArray, FloatArray, IntArray
from musrep_jax.probing.folds import Fold, name_classes

PROTOTYPE, LOGISTIC = "prototype", "logistic"
KINDS = (PROTOTYPE, LOGISTIC)
LOGISTIC_STRENGTHS = (10.0, 1.0, 0.1, 0.01)
THRESHOLD = 0.5
"""Probability above which a label is said to be there: examples with it and without weigh alike."""
MAX_FOLDS, MAX_INNER_FOLDS = 20, 5
"""Of labels with more groups than these, several are left out at once."""
_MIN_PROBABILITY = 1e-6


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labeled recordings, as features of their chunks.

    Attributes:
        rows: float (rows, width), the features of chunks, or of whole recordings.
        owner: int (rows,), the example of each, from 0; each has at least one.
        targets: bool (examples, labels).
        groups: (examples,), such as performers; those of one group are left out together.
        aggregate: how the chunks of a recording are joined, "probability" or "logit".
    """

    rows: FloatArray
    owner: IntArray
    targets: BoolArray
    groups: np.ndarray
    aggregate: str = "probability"

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.targets)

    def average(self) -> FloatArray:
        """Returns the mean features of every example, float64 (examples, width)."""
        total = np.zeros((len(self), self.rows.shape[1]))
        np.add.at(total, self.owner, self.rows)
        return total / np.bincount(self.owner, minlength=len(self))[:, None]

    def take(self, chosen: IntArray) -> "Examples":
        """Returns some examples.

        Args:
            chosen: their numbers, ascending.
        """
        number = np.full(len(self), -1)
        number[chosen] = np.arange(len(chosen))
        rows = number[self.owner] >= 0
        return dataclasses.replace(
            self, rows=self.rows[rows], owner=number[self.owner[rows]],
            targets=self.targets[chosen], groups=self.groups[chosen],
        )  # fmt: skip

    def score(self, linear: Linear) -> FloatArray:
        """Returns the probabilities that an output layer gives, float64 (examples, labels)."""
        logits = linear.logits(self.rows)
        return aggregate_tracks(logits, self.owner, None, len(self), self.aggregate)


@dataclasses.dataclass(frozen=True)
class OutputLayer:
    """An output layer for new labels, and what it is worth.

    Attributes:
        linear: weights and bias, on features as they are.
        scores: float64 (examples, labels), the probability of each label for each example, by a
            layer that was fitted and chosen without the example's group.
        num_folds: how many such layers there were.
    """

    linear: Linear
    scores: FloatArray
    num_folds: int


def learn_output_layer(examples: Examples, kinds: Sequence[str] = KINDS) -> OutputLayer:
    """Returns the best output layer for the labels of examples.

    Args:
        examples: at least two groups.
        kinds: of `KINDS`, the candidates.

    Returns:
        The layer, with scores of examples that it was not fitted to.
    """
    folds = deal_folds(examples.groups, examples.targets, MAX_FOLDS)
    scores = np.zeros(examples.targets.shape)
    for fold in folds:
        part = examples.take(fold.train)
        linear = _fit(part, kinds)[_choose(part, kinds)]
        scores[fold.test] = examples.take(fold.test).score(linear)
    linear = _fit(examples, kinds)[_choose(examples, kinds)]
    return OutputLayer(linear, scores, len(folds))


def deal_folds(groups: np.ndarray, targets: BoolArray, limit: int) -> list[Fold]:
    """Returns folds that test one group with each label at a time, where there are that many folds.

    There are as many folds as the label with most groups has, or groups without it if these are
    fewer. The groups are dealt out label by label, those without any last.

    >>> [fold.test.tolist() for fold in deal_folds(np.arange(5), np.arange(5)[:, None] < 2, 9)]
    [[0, 2, 4], [1, 3]]

    Args:
        groups: (examples,).
        targets: bool (examples, labels).
        limit: number of folds at most.

    Returns:
        At least two folds; none if there is a single group.
    """
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < 2:
        return []
    has = np.zeros((2, len(first), targets.shape[1]), bool)
    for side, holds in zip(has, (targets, ~targets), strict=True):
        np.logical_or.at(side, index, holds)
    num_folds = min(limit, max(2, int(has.sum(axis=1).min(axis=0).max())))
    number = np.empty(len(first), int)
    number[np.lexsort((first, name_classes(has[0])))] = np.arange(len(first)) % num_folds
    tested = number[index]
    return [
        Fold(np.flatnonzero(tested != fold), np.flatnonzero(tested == fold))
        for fold in range(num_folds)
    ]


def fit_candidates(
    features: FloatArray, targets: BoolArray, kinds: Sequence[str] = KINDS
) -> list[Linear]:
    """Returns the candidates for an output layer, fitted to whole recordings.

    A label that no example has, or every one, cannot be learned: its logit is 0.

    Args:
        features: (examples, width).
        targets: bool (examples, labels).
        kinds: of `KINDS`.

    Returns:
        One for each sharpness and strength, on features as they are; always in the same order.
    """
    center = features.mean(axis=0)
    scale = float(np.sqrt(np.mean((features - center) ** 2))) or 1.0
    scaled = (features - center) / scale
    is_known = targets.any(axis=0) & ~targets.all(axis=0)
    shares = np.stack([targets, ~targets]).astype(np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    found: list[Linear] = []
    if PROTOTYPE in kinds:
        with_label, without = (share.T @ scaled for share in shares)
        gap = np.sum((with_label - without) ** 2, axis=1)
        gap = np.where(is_known & (gap > 0), gap, np.inf)
        weights = 2 * ((with_label - without) / gap[:, None]).T
        bias = np.sum(without**2 - with_label**2, axis=1) / gap
        plain = Linear(PROTOTYPE, 1.0, weights, bias)
        found += [dataclasses.replace(plain.scale(factor), strength=factor) for factor in SHARPNESS]
    if LOGISTIC in kinds:
        # A penalized regression lies in the span of the examples: few numbers instead of many.
        _, _, axes = np.linalg.svd(scaled, full_matrices=False)
        balanced = np.where(is_known, shares.sum(axis=0) / 2, 0.0)
        for linear in fit_logistic(scaled @ axes.T, targets, balanced, LOGISTIC_STRENGTHS):
            weights = np.where(is_known, axes.T @ linear.weights, 0.0)
            bias = np.where(is_known, linear.bias, 0.0)
            found.append(dataclasses.replace(linear, weights=weights, bias=bias))
    return [
        dataclasses.replace(
            one, weights=one.weights / scale, bias=one.bias - center @ one.weights / scale
        )
        for one in found
    ]


def balanced_loss(targets: BoolArray, scores: FloatArray) -> float:
    """Returns the mean log-loss over labels, those with a label weighing as much as the others.

    Args:
        targets: bool (examples, labels).
        scores: (examples, labels), probabilities.
    """
    values = np.clip(scores, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    losses = -np.log(np.where(targets, values, 1 - values))
    sides = [
        np.sum(np.where(side, losses, 0.0), axis=0) / np.maximum(side.sum(axis=0), 1)
        for side in (targets, ~targets)
    ]
    return float(np.mean(sides))


def _fit(examples: Examples, kinds: Sequence[str]) -> list[Linear]:
    return fit_candidates(examples.average(), examples.targets, kinds)


def _choose(examples: Examples, kinds: Sequence[str]) -> int:
    """Returns the number of the best candidate on examples that are left out; of equals the first.

    Of a single group nothing can be left out, and the first is taken.
    """
    folds = deal_folds(examples.groups, examples.targets, MAX_INNER_FOLDS)
    scores: list[FloatArray] = []
    for fold in folds:
        held = examples.take(fold.test)
        for number, linear in enumerate(_fit(examples.take(fold.train), kinds)):
            if number == len(scores):
                scores.append(np.zeros(examples.targets.shape))
            scores[number][fold.test] = held.score(linear)
    losses = [balanced_loss(examples.targets, values) for values in scores]
    return int(np.argmin(losses)) if losses else 0
