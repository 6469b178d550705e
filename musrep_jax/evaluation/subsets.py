"""Numbers of training tracks, and which tracks they are.

A size is a number of tracks, 0 for all of them, or text such as "10_per_class": of every label at
least so many tracks, and of rare labels all there are.
"""

import re
from collections.abc import Sequence

import numpy as np

Size = int | str

ALL = "all"
SIZE_WORDS = (
    "numbers of tracks such as 40, numbers per class such as 10_per_class, or 'all', separated by "
    "commas"
)
_NUMBER = re.compile("[1-9][0-9]{0,8}")
_PER_CLASS = re.compile("([1-9][0-9]{0,8})_per_class")


def parse_size(text: str) -> Size:
    """Returns the size that a text names.

    Args:
        text: a whole number above 0, a number with `_per_class` behind it, or "all".

    Raises:
        ValueError: if it is none of these.

    Example:
        >>> [parse_size(text) for text in ("40", "3_per_class", "all")]
        [40, '3_per_class', 0]
    """
    if text == ALL:
        return 0
    if _PER_CLASS.fullmatch(text):
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    raise ValueError(f"{text!r} is not one of: {SIZE_WORDS}")


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Returns the sizes of a text, separated by commas.

    Args:
        text: of a setting, see `parse_size`.

    Raises:
        ValueError: if a part names no size.

    Example:
        >>> parse_sizes("10, 3_per_class, all")
        (10, '3_per_class', 0)
    """
    return tuple(parse_size(part.strip()) for part in text.split(","))


def are_sizes(value: object) -> bool:
    """Returns whether a value is text with sizes, separated by commas.

    Args:
        value: of a setting.
    """
    try:
        return isinstance(value, str) and bool(parse_sizes(value))
    except ValueError:
        return False


def get_number_per_class(size: Size) -> int | None:
    """Returns how many tracks of every label a size asks for, None if it counts tracks.

    Args:
        size: see the module.
    """
    match = _PER_CLASS.fullmatch(size) if isinstance(size, str) else None
    return int(match[1]) if match else None


def rank_size(size: Size | None) -> tuple[int, int]:
    """Returns what puts sizes in order: numbers of tracks, numbers per class, all.

    Args:
        size: see the module; None, of older results, is all.
    """
    if not size:
        return (2, 0)
    per_class = get_number_per_class(size)
    return (0, int(size)) if per_class is None else (1, per_class)


def shorten_size(size: Size | None) -> str:
    """Returns a size for a column of a table or a tick of an axis.

    Args:
        size: see the module; None, of older results, is all.

    Example:
        >>> [shorten_size(size) for size in (40, "3_per_class", 0)]
        ['40', '3 per class', 'all']
    """
    return str(size).replace("_", " ") if size else ALL


def describe_size(size: Size | None) -> str:
    """Returns a size in words.

    Args:
        size: see the module; None, of older results, is all.

    Example:
        >>> [describe_size(size) for size in (40, "3_per_class", 0)]
        ['40 training tracks', '3 training tracks per class', 'all training tracks']
    """
    per_class = get_number_per_class(size) if size else None
    noun = "training track" if (per_class or size) == 1 else "training tracks"
    return f"{size or ALL} {noun}" if per_class is None else f"{per_class} {noun} per class"


def draw_subset(
    label_matrix: np.ndarray, size: Size, seed: int, track_ids: Sequence[str] | None = None
) -> np.ndarray:
    """Returns which tracks a size takes; of one seed, a smaller size lies within every larger one.

    A number of tracks is a random one, except that the first tracks cover the labels. A number per
    class is drawn in rounds: round k takes tracks until every label that has k of them is k times
    there. Each track taken is the one that brings the most labels still missing, of equals the
    first of a random order. Where every track has one label, these are exactly so many of each;
    with several labels per track, frequent labels come along more often. Tracks without any label
    are in no size per class.

    Args:
        label_matrix: (tracks, classes), positive where the label holds.
        size: see the module.
        seed: of the random order.
        track_ids: one per track; the order depends on them and not on that of the rows. None takes
            the rows as they are.

    Returns:
        int64 (tracks taken,), rising.

    Raises:
        ValueError: if more tracks than there are are asked for, or no track has a label.
    """
    count = len(label_matrix)
    if not size:
        return np.arange(count)
    per_class = get_number_per_class(size)
    if per_class is not None:
        order = _shuffle(count, seed, track_ids)
        return np.sort(order[_draw_rounds(label_matrix[order] > 0, per_class)])
    if not isinstance(size, int) or not 1 <= size <= count:
        raise ValueError(f"{size} of {count} tracks were asked for; ask for 1 to {count}, or all.")
    return np.sort(covering_order(label_matrix, track_ids, seed)[:size])


def covering_order(
    label_matrix: np.ndarray, track_ids: Sequence[str] | None, seed: int
) -> np.ndarray:
    """Returns an order of the tracks whose beginning covers every label, random otherwise.

    Args:
        label_matrix: see `draw_subset`.
        track_ids: see `draw_subset`.
        seed: of the order.

    Returns:
        int64 (tracks,).
    """
    order = _shuffle(len(label_matrix), seed, track_ids)
    first = _draw_rounds(label_matrix[order] > 0, 1)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return order[np.concatenate([first, rest])]


def _shuffle(count: int, seed: int, track_ids: Sequence[str] | None) -> np.ndarray:
    """Returns the tracks in a random order that follows from their names and the seed."""
    rows = range(count) if track_ids is None else sorted(range(count), key=track_ids.__getitem__)
    return np.array(rows, np.int64)[np.random.default_rng(seed).permutation(count)]


def _draw_rounds(positive: np.ndarray, num_rounds: int) -> np.ndarray:
    """Returns rows in the order in which rounds take them, see `draw_subset`.

    Args:
        positive: bool (tracks, classes).
        num_rounds: tracks per class.
    """
    matrix = positive.astype(np.float32)
    left = np.ones(len(matrix), bool)
    available, counts = positive.sum(axis=0), np.zeros(positive.shape[1], np.int64)
    taken = []
    for wanted in range(1, num_rounds + 1):
        while (missing := counts < np.minimum(wanted, available)).any():
            gains = np.where(left, matrix @ missing.astype(np.float32), -1)
            best = int(np.argmax(gains))
            taken.append(best)
            left[best] = False
            counts += positive[best]
    return np.array(taken, np.int64)
