"""Splits that share no performer or recording, and what leaks between the splits one is given."""

import hashlib
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.specs import ALL_SPLITS

FRACTIONS = {"train": 0.6, "validation": 0.15, "test": 0.25}
"""Of the tracks. The test split is the larger of the two held out: intervals on small data sets are
wide, and model selection needs less than the final figure."""
_ATTEMPTS = 12
_MAX_GROUPS_FOR_ATTEMPTS = 3000
_ORDER_NOISE = 0.3
_CAPACITY_FACTOR = 1.25
"""A split may be filled this far beyond its share for the sake of a rare label."""


class SplitError(ValueError):
    """Splits cannot be made; the message is one sentence that says why."""


def make_splits(
    groups: Sequence[str],
    label_matrix: np.ndarray,
    *,
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
) -> list[str]:
    """Returns the split of each track; no group lies in two, and labels are spread evenly.

    Iterative stratification (Sechidis et al., 2011), by groups instead of tracks: the label with
    the fewest groups left is served first, and goes to the split that lacks it or, if none does, to
    the one that wants most of it. The best of a dozen random orders is kept: most labels in both
    the first split and the last (so that they can be learned and measured), then most labels in the
    first, then in all, then the nearest to the fractions.

    Args:
        groups: of each track.
        label_matrix: (tracks, classes), positive where the label holds.
        seed: of the order in which groups are tried.
        fractions: split -> share of the tracks; made to sum to 1.

    Returns:
        A name from `fractions` per track.

    Raises:
        SplitError: if there are fewer groups than splits.
    """
    names = list(fractions)
    shares = np.array([fractions[name] for name in names], np.float64)
    shares /= shares.sum()
    unique = sorted(set(groups))
    if len(unique) < len(names):
        raise SplitError(
            f"{len(groups)} tracks in {len(unique)} group(s) cannot be divided into "
            f"{', '.join(names)} without sharing a group: give the table finer groups or a split "
            "column, or add recordings."
        )
    number = {group: index for index, group in enumerate(unique)}
    member = np.array([number[group] for group in groups])
    sizes = np.bincount(member, minlength=len(unique)).astype(np.float64)
    counts = np.zeros((len(unique), label_matrix.shape[1]), np.float64)
    np.add.at(counts, member, np.asarray(label_matrix) > 0)
    best, best_score = None, None
    for attempt in range(_ATTEMPTS if len(unique) <= _MAX_GROUPS_FOR_ATTEMPTS else 1):
        rng = np.random.default_rng([seed, attempt])
        assigned = _assign(sizes, counts, shares, rng)
        score = _score(assigned, sizes, counts, shares)
        if best_score is None or score < best_score:
            best, best_score = assigned, score
    return [names[best[index]] for index in member]


def _assign(
    sizes: np.ndarray, counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns the split index of each group; see `make_splits`."""
    num_groups, num_labels = counts.shape
    # Large groups first, as they are hard to place later; with some noise, for the attempts.
    order = np.argsort(-sizes * rng.lognormal(sigma=_ORDER_NOISE, size=num_groups))
    holders = [order[counts[order, label] > 0].tolist()[::-1] for label in range(num_labels)]
    groups_left = (counts > 0).sum(axis=0)
    # A label that one group holds alone cannot be divided: it must not decide where groups go.
    drives = groups_left > 1
    wanted_labels = shares[:, None] * counts.sum(axis=0)
    wanted_tracks = shares * sizes.sum()
    limits = np.ceil(np.round(_CAPACITY_FACTOR * wanted_tracks, 6))
    has_label = np.zeros(wanted_labels.shape, bool)
    filled = np.zeros(len(shares))
    assigned = np.full(num_groups, -1)
    # Who gets the first groups of a rare label: training, then the later of the held-out splits.
    priority = np.concatenate([[0], np.arange(len(shares) - 1, 0, -1)])
    rest = order.tolist()[::-1]
    for _ in range(num_groups):
        driving = np.where(drives & (groups_left > 0), groups_left, num_groups + 1)
        label = int(np.argmin(driving)) if num_labels else -1
        queue = holders[label] if label >= 0 and driving[label] <= num_groups else rest
        while assigned[queue[-1]] >= 0:
            queue.pop()
        group = queue.pop()
        split = -1
        if queue is not rest:
            room = filled + sizes[group] <= limits
            lacks = ~has_label[:, label] & (room | (filled == 0))
            lacking = [split for split in priority if lacks[split]]
            if lacking and groups_left[label] <= len(lacking):
                split = lacking[0]
            else:
                wish = np.where(room, wanted_labels[:, label], -np.inf)
                if np.isfinite(wish).any():
                    split = _argmax(wish, wanted_tracks, rng)
        if split < 0:
            split = _argmax(wanted_tracks, -filled, rng)
        assigned[group] = split
        groups_left -= counts[group] > 0
        wanted_labels[split] -= counts[group]
        wanted_tracks[split] -= sizes[group]
        has_label[split] |= counts[group] > 0
        filled[split] += sizes[group]
    _fill_empty_splits(assigned, sizes, len(shares))
    return assigned


def _fill_empty_splits(assigned: np.ndarray, sizes: np.ndarray, num_splits: int) -> None:
    """Moves the smallest group of the fullest split into each split that got none."""
    for split in range(num_splits):
        if not (assigned == split).any():
            groups_in = np.bincount(assigned, minlength=num_splits)
            donor = np.flatnonzero(assigned == int(np.argmax(groups_in)))
            assigned[donor[np.argmin(sizes[donor])]] = split


def _argmax(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> int:
    """Returns the index of the greatest `first`; among equals of the greatest `second`."""
    return int(np.lexsort((rng.random(len(first)), second, first))[-1])


def _score(
    assigned: np.ndarray, sizes: np.ndarray, counts: np.ndarray, shares: np.ndarray
) -> tuple[int, int, int, float]:
    """Returns what is wrong with an assignment, the gravest first; see `make_splits`."""
    member = np.equal(assigned, np.arange(len(shares))[:, None]).astype(np.float64)
    per_split = member @ counts
    missing = per_split == 0
    totals = np.maximum(counts.sum(axis=0), 1)
    deviation = np.abs(member @ sizes / sizes.sum() - shares).sum()
    if counts.shape[1]:
        deviation += np.abs(per_split / totals - shares[:, None]).sum(axis=0).mean()
    unusable = int((missing[0] | missing[-1]).sum())
    return unusable, int(missing[0].sum()), int(missing.sum()), float(deviation)


def merge_groups(groups: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Returns groups in which tracks with identical audio belong together.

    Args:
        groups: of each track.
        hashes: of each track's audio file; "" for an unknown one.

    Returns:
        The name of the first group, in order of code points, of each connected set.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for group, digest in zip(groups, hashes, strict=True):
        if digest:
            first, second = sorted((root("g" + group), root("h" + digest)))
            parent[second] = first  # "g" sorts before "h": a set is named after a group.
    return [root("g" + group)[1:] for group in groups]


def find_leakage(
    track_ids: Sequence[str],
    groups: Sequence[str],
    hashes: Sequence[str],
    splits: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Returns what two splits share: groups, and files with identical content.

    Args:
        track_ids: of each track.
        groups: performer, recording or artist of each track.
        hashes: of each track's file; "" for an unknown one.
        splits: of each track.

    Returns:
        `shared_groups`: list of {group, splits}; `identical_audio`: list of {tracks, splits}.
    """
    by_group, by_hash = defaultdict(set), defaultdict(list)
    for track_id, group, digest, split in zip(track_ids, groups, hashes, splits, strict=True):
        by_group[group].add(split)
        if digest:
            by_hash[digest].append((track_id, split))
    shared = [
        {"group": group, "splits": sorted(names, key=ALL_SPLITS.index)}
        for group, names in sorted(by_group.items())
        if len(names) > 1
    ]
    identical = []
    for tracks in by_hash.values():
        names = sorted({split for _, split in tracks}, key=ALL_SPLITS.index)
        if len(names) > 1:
            identical.append({"tracks": sorted(name for name, _ in tracks), "splits": names})
    return {
        "shared_groups": shared,
        "identical_audio": sorted(identical, key=lambda row: row["tracks"]),
    }


def missing_labels(
    label_matrix: np.ndarray, label_names: Sequence[str], splits: Sequence[str]
) -> dict[str, list[str]]:
    """Returns, for each split, the labels that none of its tracks has.

    Args:
        label_matrix: (tracks, classes), positive where the label holds.
        label_names: of the columns.
        splits: of each track.
    """
    missing = {}
    for split in sorted(set(splits), key=ALL_SPLITS.index):
        rows = np.array([name == split for name in splits])
        absent = ~(np.asarray(label_matrix)[rows] > 0).any(axis=0)
        missing[split] = [name for name, gone in zip(label_names, absent, strict=True) if gone]
    return missing


def content_hash(path: pathlib.Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
