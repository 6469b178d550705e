"""What windows are worth: accuracy by folds and examples per class, precision of neighbors."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from musrep_jax.evaluation.bootstrap import bootstrap_mean
from musrep_jax.evaluation.subsets import draw_subset
from musrep_jax.evaluation.support import choose_groups
from musrep_jax.probing.classifiers import Classifier
from musrep_jax.probing.folds import Fold, make_folds
from musrep_jax.probing.neighbors import find_nearest, measure_precision
from musrep_jax.probing.protocol import MEAN, Examples, probe_fold

TRACKS, GROUPS = FOLDS_BY = ("tracks", "groups")
"""What folds divide: tracks, as published, or whole groups of them (performers, recordings)."""


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Accuracy at a number of training examples of every class.

    Attributes:
        count: examples of every class; 0 is all there are.
        accuracies: float64 (folds,).
    """

    count: int
    accuracies: np.ndarray

    @property
    def mean(self) -> float:
        """Accuracy, the mean over folds."""
        return float(self.accuracies.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over folds."""
        return float(self.accuracies.std(ddof=1) / np.sqrt(len(self.accuracies)))

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % interval of the mean, by Student's t, within 0 and 1."""
        from scipy.stats import t

        reach = float(t.ppf(0.975, len(self.accuracies) - 1)) * self.standard_error
        return max(0.0, self.mean - reach), min(1.0, self.mean + reach)


def divide_tracks(tracks: Examples, num_folds: int, folds_by: str, seed: int) -> list[Fold]:
    """Returns folds of tracks, at most as many as there are groups.

    Args:
        tracks: to be divided.
        num_folds: that are asked for.
        folds_by: one of `FOLDS_BY`.
        seed: of the order.

    Raises:
        EvaluationError: if there is only one group or track.
    """
    groups = tracks.groups if folds_by == GROUPS else None
    units = len(tracks.targets) if groups is None else len(np.unique(groups))
    return make_folds(tracks.targets, min(num_folds, units), seed=seed, groups=groups)


def trace_curve(
    tracks: Examples,
    folds: Sequence[Fold],
    counts: Iterable[int],
    classifiers: Sequence[Classifier],
    seed: int,
) -> list[CurvePoint]:
    """Returns the accuracy at each number of training examples of every class.

    Every window is an example of the regression and has the label of its track; tracks count alike,
    however many windows they have. The output of a track is the mean over its windows, and right if
    its largest value is of a label that holds.

    Args:
        tracks: of the data set; every one has a label.
        folds: of the tracks.
        counts: training tracks of every class; 0 takes all.
        classifiers: of windows; of several the best on folds of the training tracks is taken.
        seed: of the draws; each fold has one of its own.
    """
    held = tracks.targets > 0
    points = []
    for count in counts:
        accuracies = []
        for number, fold in enumerate(folds):
            if count:
                size = f"{count}_per_class"
                drawn = draw_subset(tracks.targets[fold.train], size, seed + number)
                fold = dataclasses.replace(fold, train=fold.train[drawn])
            found = probe_fold(classifiers, tracks, fold, windows=MEAN, seed=seed)
            best = found.scores.argmax(axis=1)
            accuracies.append(held[fold.test, best].mean())
        points.append(CurvePoint(count, np.array(accuracies)))
    return points


def measure_similarity(
    tracks: Examples, num_neighbors: int, distance: str, *, across_groups: bool = False
) -> tuple[float, tuple[float, float] | None]:
    """Returns the mean precision of the nearest tracks, and its 95 % interval over groups.

    A track is the mean of its windows.

    Args:
        tracks: of the data set; every one has a label.
        num_neighbors: nearest tracks that are looked at.
        distance: "l1", "l2" or "cosine".
        across_groups: whether tracks of the same group, recording or performer, are no neighbors.
    """
    left_out = tracks.groups if across_groups else None
    found = measure_precision(
        tracks.pool().features, tracks.targets, num_neighbors, distance, groups=left_out
    )
    known = np.flatnonzero(np.isfinite(found))
    groups = None if tracks.groups is None else tracks.groups[known]
    return bootstrap_mean(found[known], choose_groups(groups))


def measure_chance(targets: np.ndarray) -> float:
    """Returns the accuracy of always the most frequent label.

    Args:
        targets: (tracks, labels), 0 or 1.
    """
    return float((targets > 0).mean(axis=0).max())


def find_label_neighbors(
    vectors: np.ndarray, datasets: Sequence[str], names: Sequence[str], count: int = 5
) -> list[dict[str, object]]:
    """Returns the nearest labels of each label by L1, whatever data set they are of.

    Args:
        vectors: (labels, width).
        datasets: of each label.
        names: of each label.
        count: how many.
    """
    rows, distances = find_nearest(vectors, vectors, count, "l1", without_self=True)
    return [
        {
            "dataset": datasets[row],
            "label": names[row],
            "nearest": [
                {"dataset": datasets[other], "label": names[other], "distance": float(distance)}
                for other, distance in zip(near, far, strict=True)
            ],
        }
        for row, (near, far) in enumerate(zip(rows, distances, strict=True))
    ]


def count_same_names(
    vectors: np.ndarray, datasets: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """Returns how often the nearest label of the other data sets has the same name.

    Args:
        vectors: (labels, width).
        datasets: of each label.
        names: of each label.

    Returns:
        `found` of `count` labels whose name stands in another data set, and `chance`, the number to
        be found at random.
    """
    sets, words = np.asarray(datasets), np.asarray([name.casefold() for name in names])
    found = count = 0
    chance = 0.0
    for row, vector in enumerate(vectors):
        others = np.flatnonzero(sets != sets[row])
        is_same = words[others] == words[row]
        if is_same.any():
            count += 1
            chance += float(is_same.mean())
            distances = np.abs(vectors[others] - vector).sum(axis=1)
            found += int(is_same[distances.argmin()])
    return {"found": found, "count": count, "chance": chance}
