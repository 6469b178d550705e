"""The splits of a folder of recordings: given by its table, or made; and what to know of them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from musrep_jax.tfds_builders.audio_folder.label_table import Row

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.specs import SPLITS
from musrep_jax.data.splits import FRACTIONS, make_splits

_MAX_LISTED_NAMES = 5


def make_label_matrix(rows: Sequence[Row], label_names: Sequence[str]) -> np.ndarray:
    """Returns float32 (recordings, classes), 1 where one of the labels holds.

    Args:
        rows: of the table.
        label_names: of the columns; other labels of the rows are passed.
    """
    column = {name: index for index, name in enumerate(label_names)}
    matrix = np.zeros((len(rows), len(column)), np.float32)
    for index, row in enumerate(rows):
        matrix[index, [column[name] for name in row.labels if name in column]] = 1.0
    return matrix


def complete_splits(
    rows: Sequence[Row], groups: Sequence[str], matrix: np.ndarray, seed: int
) -> tuple[list[str], list[str]]:
    """Returns the split of each row, given or made, and a note on what was made.

    Args:
        rows: of the table.
        groups: of each row, none of which a split that is made here divides.
        matrix: (recordings, classes) of all labels, so that no choice of labels moves a recording.
        seed: of the splits that are made.
    """
    given = {row.split for row in rows}
    if given >= set(SPLITS):
        return [row.split for row in rows], []
    if given <= {None, "train"}:
        note = f"splits were made here, by group ({len(set(groups))} groups, seed {seed})."
        return make_splits(groups, matrix, seed=seed), [note]
    # What is given is kept; the splits that lack are taken out of training, by group.
    lacking = [split for split in SPLITS if split not in given]
    fractions = {split: FRACTIONS[split] for split in ("train", *lacking)}
    inside = [index for index, row in enumerate(rows) if row.split == "train"]
    made = make_splits(
        [groups[index] for index in inside], matrix[inside], seed=seed, fractions=fractions
    )
    splits = [row.split for row in rows]
    for index, split in zip(inside, made, strict=True):
        splits[index] = split
    note = f"the table gives no {' or '.join(lacking)} split: taken out of train, by group."
    return splits, [note]


def check_label_coverage(
    table: pathlib.Path, matrix: np.ndarray, splits: Sequence[str], is_made: bool
) -> None:
    """Raises when nothing could be learned, chosen or measured on a split.

    Args:
        table: for the message.
        matrix: (recordings, classes) of the labels in use.
        splits: of each recording.
        is_made: whether splits were made here.

    Raises:
        BuildError: if a split has no recording with one of the labels in use.
    """
    fix = "label some of them, or drop the split column to have splits made"
    if is_made:
        fix = "choose more labels or another seed, or give a split column"
    for split in sorted(set(splits), key=SPLITS.index):
        members = matrix[np.array([name == split for name in splits])]
        if not members.any():
            raise BuildError(
                f"none of the {len(members)} readable recordings of {table} in split {split!r} has "
                f"one of the labels in use, so nothing can be learned or measured on it; {fix}."
            )


def describe_splits(
    leakage: Mapping[str, list[Any]],
    missing: Mapping[str, Sequence[str]],
    matrix: np.ndarray,
    label_names: Sequence[str],
    splits: Sequence[str],
) -> list[str]:
    """Returns what a user should know of the splits, in sentences.

    Args:
        leakage: from `find_leakage`.
        missing: split -> labels that it lacks.
        matrix: (recordings, classes) of the labels in use.
        label_names: of its columns.
        splits: of each recording.
    """
    notes = []
    shared, identical = leakage["shared_groups"], leakage["identical_audio"]
    if shared:
        names = abbreviate_names([row["group"] for row in shared])
        notes.append(f"LEAKAGE: groups that lie in more than one split: {len(shared)} ({names}).")
    if identical:
        names = abbreviate_names([" = ".join(row["tracks"]) for row in identical])
        notes.append(f"LEAKAGE: files with a copy in another split: {len(identical)} ({names}).")
    for split, names in missing.items():
        if names:
            notes.append(
                f"labels without a recording in {split}: {len(names)} ({abbreviate_names(names)})."
            )
    in_training = matrix[np.array([split == "train" for split in splits])].all(axis=0)
    everywhere = [name for name, on in zip(label_names, in_training, strict=True) if on]
    if everywhere:
        notes.append(
            f"labels on every training recording, from which nothing can be learned: "
            f"{len(everywhere)} ({abbreviate_names(everywhere)})."
        )
    unlabelled = int((~matrix.any(axis=1)).sum())
    if unlabelled:
        notes.append(f"recordings with none of the labels in use: {unlabelled}.")
    return notes


def abbreviate_names(names: Sequence[str], limit: int = _MAX_LISTED_NAMES) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
