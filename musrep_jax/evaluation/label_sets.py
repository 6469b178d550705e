"""Structure within a vocabulary: groups by prefix, sets of exclusive labels, identical labels."""

from collections.abc import Mapping, Sequence

import numpy as np

from musrep_jax.evaluation.metrics import BoolArray

ALL_LABELS = "all labels"
GROUP_SEPARATOR = "--"
# Weaker marks, believed only where the labels behind them exclude each other.
SET_SEPARATORS = ("--", "_", ":", "/")


def group_by_prefix(names: Sequence[str]) -> dict[str, list[str]]:
    """Groups label names by the prefix before `--`, the convention of the real data sets.

    >>> group_by_prefix(["makam--rast", "instrument--ney", "makam--saba", "rock"])
    {'makam': ['makam--rast', 'makam--saba'], 'instrument': ['instrument--ney']}

    Args:
        names: of the labels; those without the mark belong to no group.

    Returns:
        prefix -> names, in order of first occurrence. MTG-Jamendo's `genre---rock` works too.
    """
    return _by_prefix(names, GROUP_SEPARATOR)


def find_label_groups(is_positive: BoolArray, names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the groups of labels that names with a common beginning make.

    `--` is believed as it is, see `group_by_prefix`. A weaker mark, as in `makam_rast`, makes a
    group where the labels behind it exclude each other, or where every label has that mark;
    `slow_dance` and `slow_song` elsewhere are no group.

    >>> import numpy as np
    >>> find_label_groups(np.eye(3, dtype=bool), ["makam_rast", "makam_saba", "slow_song"])
    {'makam': ['makam_rast', 'makam_saba']}

    Args:
        is_positive: bool (tracks, classes).
        names: of the classes.

    Returns:
        prefix -> at least two names, or any number behind `--`; a label is in one group at most.
    """
    groups = group_by_prefix(names)
    taken = {name for members in groups.values() for name in members}
    for mark in SET_SEPARATORS[1:]:
        is_custom = all(mark in name for name in names)
        rest = [name for name in names if name not in taken]
        for prefix, members in _by_prefix(rest, mark).items():
            part = is_positive[:, [list(names).index(name) for name in members]]
            if len(members) > 1 and (is_custom or _exclude_each_other(part)):
                groups.setdefault(prefix, members)
                taken.update(members)
    return groups


def find_exclusive_groups(is_positive: BoolArray, names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the groups of labels of which a track has one at most: a makam, a rhythmic cycle.

    Unlike `find_label_groups` it believes no mark: labels that occur together are no such group.

    >>> import numpy as np
    >>> labels = np.array([[1, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 0]], bool)
    >>> find_exclusive_groups(labels, ["makam--rast", "makam--saba", "inst--ney", "inst--oud"])
    {'makam': ['makam--rast', 'makam--saba']}

    Args:
        is_positive: bool (tracks, classes), of as many tracks as there are.
        names: of the classes.

    Returns:
        prefix -> at least two names, or `ALL_LABELS` -> all names where every track has exactly
        one; a label is in one group at most.
    """
    if len(names) > 1 and np.all(is_positive.sum(axis=1) == 1):
        return {ALL_LABELS: list(names)}
    groups: dict[str, list[str]] = {}
    for mark in SET_SEPARATORS:
        taken = {name for members in groups.values() for name in members}
        rest = [name for name in names if name not in taken]
        for prefix, members in _by_prefix(rest, mark).items():
            part = is_positive[:, [list(names).index(name) for name in members]]
            if len(members) > 1 and _exclude_each_other(part):
                groups.setdefault(prefix, members)
    return groups


def _exclude_each_other(is_positive: BoolArray) -> bool:
    """Returns whether no track has two of the labels, and two of them occur."""
    is_alone = is_positive.sum(axis=1).max(initial=0) <= 1
    return bool(is_alone and np.count_nonzero(is_positive.any(axis=0)) > 1)


def find_exclusive_label_sets(
    is_positive: BoolArray, names: Sequence[str], groups: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Returns the sets of labels of which every track has exactly one, so that accuracy applies.

    Looked at are the whole vocabulary without the labels that every track has, the given groups,
    and names with a common beginning such as `stroke_cha`, `stroke_thi`.

    Args:
        is_positive: bool (tracks, classes).
        names: of the classes.
        groups: name -> columns.

    Returns:
        set name -> columns; a set of columns appears once, and has at least two that occur.
    """
    candidates = {ALL_LABELS: [int(i) for i in np.flatnonzero(~is_positive.all(axis=0))]}
    candidates.update({group: list(columns) for group, columns in groups.items()})
    for mark in SET_SEPARATORS:
        for prefix, members in _by_prefix(names, mark).items():
            candidates.setdefault(prefix, [list(names).index(member) for member in members])
    found: dict[str, list[int]] = {}
    for set_name, columns in candidates.items():
        part = is_positive[:, columns]
        is_exclusive = bool(np.all(part.sum(axis=1) == 1))
        if (
            is_exclusive
            and np.count_nonzero(part.any(axis=0)) > 1
            and columns not in found.values()
        ):
            found[set_name] = columns
    return found


def duplicate_labels(is_positive: BoolArray, is_used: BoolArray) -> list[list[int]]:
    """Returns groups of labels that are the same on all tracks, for which a mean counts twice.

    Five genre and place labels of the Greek data set Lyra are such pairs. On few tracks labels can
    also coincide by accident.

    Args:
        is_positive: bool (tracks, classes).
        is_used: bool (classes,), the labels to look at.

    Returns:
        Lists of at least two columns each.
    """
    by_content: dict[bytes, list[int]] = {}
    for column in np.flatnonzero(is_used):
        by_content.setdefault(is_positive[:, column].tobytes(), []).append(int(column))
    return [columns for columns in by_content.values() if len(columns) > 1]


def _by_prefix(names: Sequence[str], mark: str) -> dict[str, list[str]]:
    """Groups the names that contain the mark by the prefix before its first occurrence."""
    groups: dict[str, list[str]] = {}
    for name in names:
        prefix, found, rest = name.partition(mark)
        if found and prefix and rest:
            groups.setdefault(prefix, []).append(name)
    return groups
