"""Labels inside features: columns of a table that say what is to be learned."""

import dataclasses

import numpy as np

from musrep_jax.evaluation.metrics import IntArray

MIN_TRACKS = 8
"""Below which a feature may be a label by chance."""
_SAME = 1 - 1e-6
"""Correlation from which two columns are the same."""


@dataclasses.dataclass(frozen=True)
class LabelColumn:
    """A feature that says a label.

    Attributes:
        feature: its column.
        label: its column among the targets; -1 for all of them, of a feature that numbers classes.
        is_same: whether it is the label but for a factor and an offset; else it only ranks all
            tracks with the label above, or below, all others.
    """

    feature: int
    label: int
    is_same: bool


def find_label_columns(features: np.ndarray, targets: np.ndarray) -> list[LabelColumn]:
    """Returns the features that are a label, number the classes, or rank a label without error.

    The first two are refused elsewhere, as no recording gives them. The last may be right: it is
    said.

    Args:
        features: (tracks, features), finite.
        targets: (tracks, classes), 0 or 1.
    """
    count, held = len(features), np.asarray(targets) > 0
    if count < MIN_TRACKS:
        return []
    values = np.asarray(features, np.float64)
    deviation, spread = values.std(axis=0), held.std(axis=0)
    varies = deviation > 1e-7 * np.abs(values.mean(axis=0))
    scaled = (values - values.mean(axis=0)) / np.where(varies, deviation, np.inf)
    labels = (held - held.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    is_same = np.abs(scaled.T @ labels / count) > _SAME
    found = [LabelColumn(int(f), int(k), True) for f, k in np.argwhere(is_same)]
    found += [LabelColumn(f, -1, True) for f in _find_class_numbers(values, held)]
    named = {(one.feature, one.label) for one in found} | {
        (one.feature, k) for one in found if one.label < 0 for k in range(held.shape[1])
    }
    number = held.sum(axis=0)
    pairs = number * (count - number)
    from scipy.stats import rankdata

    above = rankdata(values, axis=0).T @ held - number * (number + 1) / 2
    enough = (number >= MIN_TRACKS) & (count - number >= MIN_TRACKS)
    perfect = enough & ((above == pairs) | (above == 0))
    found += [
        LabelColumn(int(f), int(k), False)
        for f, k in np.argwhere(perfect)
        if (int(f), int(k)) not in named
    ]
    return found


def _find_class_numbers(values: np.ndarray, held: np.ndarray) -> list[int]:
    """Returns the features with one value for every class, of classes that exclude each other."""
    if not (held.sum(axis=1) == 1).all() or held.any(axis=0).sum() < 3:
        return []
    classes: IntArray = held.argmax(axis=1)
    found = []
    for column in range(values.shape[1]):
        number = len(np.unique(values[:, column]))
        if number == len(np.unique(classes)):
            pairs = np.unique(np.stack([values[:, column], classes]), axis=1)
            if pairs.shape[1] == number:
                found.append(column)
    return found
