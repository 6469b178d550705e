"""Division of examples into training and test: folds, by class and by group.

Few examples of every class are drawn by `musrep_jax.evaluation.subsets`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.metrics import EvaluationError, IntArray


@dataclasses.dataclass(frozen=True)
class Fold:
    """One division of examples.

    Attributes:
        train: rows of the training examples, ascending.
        test: rows of the test examples, ascending; none is in both.
        name: of what is tested, such as a performer; "" for one among equals.
    """

    train: IntArray
    test: IntArray
    name: str = ""


def make_folds(
    targets: ArrayLike, num_folds: int, *, seed: int, groups: ArrayLike | None = None
) -> list[Fold]:
    """Returns folds that hold about the same share of every class.

    An example with several classes counts as one of the rarest of them; classes with fewer examples
    than folds are one. With groups, no group lies
    in two folds, as with `StratifiedGroupKFold` of scikit-learn; without, the folds are those of
    its `StratifiedKFold`.

    Args:
        targets: (examples, classes), 0 or 1.
        num_folds: at least 2; every example is tested once.
        seed: of the order.
        groups: (examples,), performer, recording or artist of each.

    Raises:
        EvaluationError: if there are fewer examples or groups than folds.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    classes = name_classes(targets)
    units = len(classes) if groups is None else len(np.unique(np.asarray(groups)))
    _check_count(num_folds, units, "examples" if groups is None else "groups")
    counts = np.unique(classes, return_counts=True)[1]
    if counts.min() < num_folds:
        classes = _join_rare(classes, num_folds)
    if groups is not None:
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    elif counts.max() >= num_folds:
        splitter = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    else:
        splitter = KFold(num_folds, shuffle=True, random_state=seed)
    return _list_folds(splitter.split(classes, classes, groups))


def make_plain_folds(num_examples: int, num_folds: int, *, seed: int) -> list[Fold]:
    """Returns folds of examples in random order, those of `KFold` of scikit-learn.

    Args:
        num_examples: number of examples.
        num_folds: at least 2; every example is tested once.
        seed: of the order.

    Raises:
        EvaluationError: if there are fewer examples than folds.
    """
    from sklearn.model_selection import KFold

    _check_count(num_folds, num_examples, "examples")
    splitter = KFold(num_folds, shuffle=True, random_state=seed)
    return _list_folds(splitter.split(np.arange(num_examples)))


def leave_one_group_out(groups: ArrayLike) -> list[Fold]:
    """Returns one fold for every group, in the order of their names, which tests it alone.

    Args:
        groups: (examples,), performer, recording or artist of each.

    Raises:
        EvaluationError: if there is only one group.
    """
    names = np.asarray(groups)
    unique = np.unique(names)
    _check_count(2, len(unique), "groups")
    return [
        Fold(np.flatnonzero(names != name), np.flatnonzero(names == name), str(name))
        for name in unique
    ]


def find_shared_groups(folds: Sequence[Fold], groups: ArrayLike) -> list[str]:
    """Returns the groups that lie in training and in test of one fold, by name.

    Args:
        folds: of the examples.
        groups: (examples,), performer, recording or artist of each.
    """
    names = np.asarray(groups)
    shared: set[str] = set()
    for fold in folds:
        shared |= set(map(str, np.intersect1d(names[fold.train], names[fold.test])))
    return sorted(shared)


def name_classes(targets: ArrayLike) -> IntArray:
    """Returns one class of every example: the rarest of those it has, or their number for none.

    Args:
        targets: (examples, classes), 0 or 1.

    Returns:
        int64 (examples,).
    """
    held = np.asarray(targets) > 0
    by_rarity = np.argsort(held.sum(axis=0), kind="stable")
    ranked = held[:, by_rarity]
    return np.where(ranked.any(axis=1), by_rarity[ranked.argmax(axis=1)], held.shape[1])


def _join_rare(classes: IntArray, num_folds: int) -> IntArray:
    """Returns classes in which those with fewer examples than folds are one, or all are."""
    counts = np.bincount(classes)
    if counts.max() < num_folds:
        return np.zeros_like(classes)
    joined = np.where(counts[classes] < num_folds, len(counts), classes)
    if 0 < (joined == len(counts)).sum() < num_folds:  # still too few: with the largest
        joined[joined == len(counts)] = int(np.argmax(counts))
    return joined


def _check_count(num_folds: int, units: int, noun: str) -> None:
    if num_folds < 2 or units < num_folds:
        raise EvaluationError(
            f"{units} {noun} cannot make {num_folds} folds; choose a number of folds from 2 to the "
            f"number of {noun}."
        )


def _list_folds(splits) -> list[Fold]:
    return [Fold(np.sort(train), np.sort(test)) for train, test in splits]
