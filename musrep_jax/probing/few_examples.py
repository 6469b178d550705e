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
from musrep_jax.probing.protocol import Examples

PROTOTYPE, LOGISTIC = "prototype", "logistic"
KINDS = (PROTOTYPE, LOGISTIC)
LOGISTIC_STRENGTHS = (10.0, 1.0, 0.1, 0.01)
THRESHOLD = 0.5
"""Probability above which a label is said to be there: examples with it and without weigh alike."""
MAX_FOLDS, MAX_INNER_FOLDS = 20, 5
"""Of labels with more groups than these, several are left out at once."""
_MIN_PROBABILITY = 1e-6


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


def learn_output_layer(
    examples: Examples, kinds: Sequence[str] = KINDS, aggregate: str = "probability"
) -> OutputLayer:
    """Returns the best output layer for the labels of examples.

    Args:
        examples: of at least two groups; layers are fitted to the means of their windows.
        kinds: of `KINDS`, the candidates.
        aggregate: how the windows of a recording are joined, "probability" or "logit".

    Returns:
        The layer, with scores of examples that it was not fitted to.
    """
    trial = _Trial(examples, examples.pool().features, kinds, aggregate)
    everything = np.arange(len(examples.targets))
    folds = deal_folds(trial.groups, trial.targets, MAX_FOLDS)
    scores = np.zeros(trial.targets.shape)
    for fold in folds:
        scores[fold.test] = trial.score(trial.learn(fold.train), fold.test)
    return OutputLayer(trial.learn(everything), scores, len(folds))


@dataclasses.dataclass(frozen=True)
class _Trial:
    """The choice between candidates on parts of the examples.

    Attributes:
        examples: all of them.
        means: float64 (examples, width).
        kinds: of the candidates.
        aggregate: how windows are joined.
    """

    examples: Examples
    means: FloatArray
    kinds: Sequence[str]
    aggregate: str

    @property
    def targets(self) -> BoolArray:
        """The labels, bool (examples, labels)."""
        return np.asarray(self.examples.targets) > 0

    @property
    def groups(self) -> np.ndarray:
        """What is left out together, (examples,)."""
        groups = self.examples.groups
        return np.arange(len(self.means)) if groups is None else np.asarray(groups)

    def fit(self, rows: IntArray) -> list[Linear]:
        """Returns all candidates, fitted to some examples."""
        return fit_candidates(self.means[rows], self.targets[rows], self.kinds)

    def score(self, linear: Linear, rows: IntArray) -> FloatArray:
        """Returns the probabilities of some examples, float64 (rows, labels)."""
        features, owner = self.examples.take(rows)
        return aggregate_tracks(linear.logits(features), owner, None, len(rows), self.aggregate)

    def learn(self, rows: IntArray) -> Linear:
        """Returns the candidate with the lowest loss on what is left out of some examples.

        Of equals it is the first, also where there is a single group and nothing can be left out.
        """
        targets = self.targets[rows]
        scores: list[FloatArray] = []
        for fold in deal_folds(self.groups[rows], targets, MAX_INNER_FOLDS):
            for number, linear in enumerate(self.fit(rows[fold.train])):
                if number == len(scores):
                    scores.append(np.zeros(targets.shape))
                scores[number][fold.test] = self.score(linear, rows[fold.test])
        losses = [balanced_loss(targets, values) for values in scores]
        return self.fit(rows)[int(np.argmin(losses)) if losses else 0]


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
