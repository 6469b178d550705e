"""A probe: a classifier on windows of tracks, its settings chosen inside the training tracks.

Settings and thresholds are chosen on validation tracks or on folds of the training tracks; test
tracks are scored once, by what was chosen.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.config import choose
from musrep_jax.evaluation.decisions import fit_thresholds
from musrep_jax.evaluation.metrics import EvaluationError, FloatArray, IntArray
from musrep_jax.probing.classifiers import Classifier, Fitted
from musrep_jax.probing.folds import Fold, make_folds
from musrep_jax.probing.measures import measure

POOLED, MEAN, MAJORITY = "pooled", "mean", "majority"
WINDOWS = (POOLED, MEAN, MAJORITY)
"""What becomes of the windows of a track: their features are averaged before there is a classifier;
their scores are averaged; or each votes for its best class."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Tracks with their windows.

    Attributes:
        features: (windows, features), finite.
        owner: (windows,), the track of each, ascending; every track has one at least.
        targets: (tracks, classes), 0 or 1.
        is_exclusive: whether every track has exactly one class.
        groups: (tracks,), performer, recording or artist of each; None where they are not known.
    """

    features: np.ndarray
    owner: IntArray
    targets: np.ndarray
    is_exclusive: bool
    groups: np.ndarray | None = None

    def pool(self) -> "Examples":
        """Returns the tracks with one window each, the mean of its windows."""
        count = len(self.targets)
        starts = np.searchsorted(self.owner, np.arange(count))
        sums = np.add.reduceat(np.asarray(self.features, np.float64), starts, axis=0)
        means = sums / np.bincount(self.owner, minlength=count)[:, None]
        return dataclasses.replace(self, features=means, owner=np.arange(count))

    def take(self, tracks: IntArray) -> tuple[np.ndarray, IntArray]:
        """Returns the windows of some tracks, and to which of these tracks each belongs.

        Args:
            tracks: rows of tracks.
        """
        starts = np.searchsorted(self.owner, tracks)
        counts = np.searchsorted(self.owner, tracks, side="right") - starts
        owner = np.repeat(np.arange(len(tracks)), counts)
        first = np.cumsum(counts) - counts
        rows = np.arange(len(owner)) - first[owner] + starts[owner]
        return self.features[rows], owner


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """What came of one fold.

    Attributes:
        scores: of the test tracks, float64 (tracks, classes).
        classifier: with the settings that were chosen.
        thresholds: (classes,) of decisions; None for exclusive classes.
        was_chosen: whether there were enough training tracks to choose on.
    """

    scores: FloatArray
    classifier: Classifier
    thresholds: FloatArray | None
    was_chosen: bool


def list_choices(classifier: Classifier, given: Sequence[str] = ()) -> list[Classifier]:
    """Returns the classifier with every combination of the settings that are to be chosen.

    Args:
        classifier: whose other settings stay.
        given: settings that are not chosen.
    """
    open_ = {name: values for name, values in classifier.choices.items() if name not in given}
    return [
        dataclasses.replace(classifier, **dict(zip(open_, values, strict=True)))
        for values in itertools.product(*open_.values())
    ]


def probe_fold(
    choices: Sequence[Classifier],
    examples: Examples,
    fold: Fold,
    *,
    windows: str = POOLED,
    validation: IntArray | None = None,
    num_inner_folds: int = 3,
    default: Classifier | None = None,
    select_by: str = "",
    seed: int = 0,
) -> FoldResult:
    """Returns the scores of the test tracks by the best of several settings of a classifier.

    Args:
        choices: of one class of classifiers, with one standardization; of equals the first is best.
        examples: all tracks.
        fold: which of them are for training and which for test.
        windows: one of `WINDOWS`; with `POOLED` every track has one window already.
        validation: rows of tracks to choose on; None chooses on folds of the training tracks.
        num_inner_folds: of the training tracks; by group where there are enough groups.
        default: what is taken where there are too few tracks to choose on; None is the middle one.
        select_by: the measure to choose by; "" is accuracy for exclusive classes, else ROC-AUC.
        seed: of the inner folds and of the training.

    Raises:
        EvaluationError: if windows vote, but classes are not exclusive.
    """
    choose(windows, WINDOWS, "windows")
    if windows == MAJORITY and not examples.is_exclusive:
        raise EvaluationError(
            "a majority of windows needs tracks with exactly one label; average their scores, or "
            "pool their features."
        )
    needs_thresholds = not examples.is_exclusive
    middle = 0.5 if choices[0].gives_probabilities else 0.0
    thresholds = np.full(examples.targets.shape[1], middle) if needs_thresholds else None
    chosen = default or choices[len(choices) // 2]
    inner: list[Fold] = []
    if len(choices) > 1 or needs_thresholds:
        inner = (
            _make_inner_folds(examples, fold.train, num_inner_folds, seed)
            if validation is None
            else [Fold(fold.train, validation)]
        )
    if inner:
        held_out = np.concatenate([part.test for part in inner])
        found = [
            _score_all(choices, examples, part.train, part.test, windows, seed) for part in inner
        ]
        scores = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        truth = examples.targets[held_out]
        if len(choices) > 1:
            ranks = [
                _rank(truth, one, examples.is_exclusive, select_by, choices[0]) for one in scores
            ]
            best = max(range(len(ranks)), key=ranks.__getitem__)
        else:
            best = 0
        chosen = choices[best]
        if needs_thresholds:
            thresholds = fit_thresholds(truth, scores[best], default=middle)
    elif len(choices) == 1:
        chosen = choices[0]
    (tested,) = _score_all([chosen], examples, fold.train, fold.test, windows, seed)
    return FoldResult(tested, chosen, thresholds, bool(inner) or len(choices) == 1)


def describe_choice(classifier: Classifier) -> dict[str, Any]:
    """Returns the settings of a classifier as plain values."""
    return dataclasses.asdict(classifier)


def _make_inner_folds(examples: Examples, train: IntArray, num_folds: int, seed: int) -> list[Fold]:
    """Returns folds of training tracks, by group if possible; none of too few tracks."""
    targets = examples.targets[train]
    groups = None if examples.groups is None else examples.groups[train]
    if groups is not None and len(np.unique(groups)) < num_folds:
        groups = None
    counts = targets.sum(axis=0)
    # Of a class with one example none can be left out; half of the classes are enough to choose.
    num_folds = min(num_folds, int(np.median(counts[counts > 0])) if counts.any() else 0)
    if num_folds < 2:
        return []
    folds = make_folds(targets, num_folds, seed=seed, groups=groups)
    return [Fold(train[fold.train], train[fold.test]) for fold in folds]


def _score_all(
    classifiers: Sequence[Classifier],
    examples: Examples,
    train: IntArray,
    test: IntArray,
    windows: str,
    seed: int,
) -> list[FloatArray]:
    """Returns the scores of test tracks by each classifier, fitted to the training tracks."""
    features, owner = examples.take(train)
    weights = 1.0 / np.bincount(owner)[owner]
    fitted = classifiers[0].fit_all(
        classifiers, features, examples.targets[train][owner], seed=seed, weights=weights,
        is_exclusive=examples.is_exclusive,
    )  # fmt: skip
    heard, of_track = examples.take(test)
    return [join_windows(one, heard, of_track, windows) for one in fitted]


def join_windows(fitted: Fitted, features: np.ndarray, owner: IntArray, windows: str) -> FloatArray:
    """Returns the scores of tracks from those of their windows, float64 (tracks, classes).

    Args:
        fitted: the classifier.
        features: (windows, features).
        owner: (windows,), the track of each, ascending from 0 without gaps.
        windows: one of `WINDOWS`.
    """
    scores = fitted.scores(features)
    if windows == MAJORITY:
        scores = np.eye(scores.shape[1])[scores.argmax(axis=1)]
    starts = np.searchsorted(owner, np.arange(owner[-1] + 1))
    return np.add.reduceat(scores, starts, axis=0) / np.bincount(owner)[:, None]


def _rank(
    truth: np.ndarray,
    scores: FloatArray,
    is_exclusive: bool,
    select_by: str,
    kind: Classifier,
) -> tuple[float, float]:
    """Returns what puts settings in order: the measure, then ROC-AUC; NaN is the lowest."""
    found: Mapping[str, float] = measure(
        truth, scores, is_exclusive=is_exclusive, are_probabilities=kind.gives_probabilities
    )
    name = select_by or ("accuracy" if is_exclusive else "roc_auc")
    sign = -1 if name == "log_loss" else 1
    first, second = (
        -np.inf if np.isnan(value) else value for value in (sign * found[name], found["roc_auc"])
    )
    return float(first), float(second)
