"""Samplers: which tracks a training batch is made of.

A sampler is a small function `(step, rng) -> role -> track indices`. Roles are the streams of the
batch, such as `anchor`, `positive` and `negative`; the single role `ONE_STREAM` is a batch that is
one stream. `rng` belongs to the step, and so a batch depends on the seed and its number only.
Samplers hold plain numbers and arrays, because they travel to the processes that prepare batches.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Sampler = Callable[[int, np.random.Generator], Mapping[str, np.ndarray]]
"""`(step, rng) -> role -> int64 (examples,)`. Roles and sizes may change from step to step; each
new combination is compiled once."""

ONE_STREAM = ""
"""The role of a sampler whose batch is one stream, without a name."""


class SamplingError(ValueError):
    """Tracks of which no batch can be made in this way; the message is one sentence."""


@functools.lru_cache(maxsize=4)
def _epoch_order(num_tracks: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the tracks in the order of an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(num_tracks)


def draw_tracks(step: int, batch_size: int, num_tracks: int, seed: int) -> np.ndarray:
    """Returns the tracks of a training batch, each once per epoch, in a new order in every epoch.

    Grain's own `shuffle` gives every index by itself, in 50 microseconds of many tracks and in 3
    milliseconds of ten; an epoch's order is drawn at once here.

    Args:
        step: number of the batch, from 0; it may span two epochs or more.
        batch_size: tracks per batch.
        num_tracks: that there are.
        seed: of the order.

    Returns:
        int64 (batch_size,), 0 to `num_tracks - 1`.

    Example:
        >>> sorted(np.concatenate([draw_tracks(step, 2, 6, seed=0) for step in range(3)]).tolist())
        [0, 1, 2, 3, 4, 5]
    """
    epochs, places = np.divmod(step * batch_size + np.arange(batch_size), num_tracks)
    parts = [
        _epoch_order(num_tracks, seed, epoch)[places[epochs == epoch]]
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
    ]
    return np.concatenate(parts)


def check_batch_size(batch_size: int) -> None:
    """Raises SamplingError unless a batch has at least one example."""
    if batch_size < 1:
        raise SamplingError(f"batch_size is {batch_size}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True)
class EpochOrder:
    """Every track once per epoch, in a new order in every epoch; see `draw_tracks`.

    Attributes:
        num_tracks: that there are.
        batch_size: tracks per batch.
        seed: of the order.
    """

    num_tracks: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if self.num_tracks < 1:
            raise SamplingError("there are no tracks to make batches of.")

    def __call__(self, step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Returns the tracks of a batch."""
        return {ONE_STREAM: draw_tracks(step, self.batch_size, self.num_tracks, self.seed)}


class LabelBalanced:
    """A label, each equally likely, and then one of its tracks, each equally likely.

    Labels without tracks are not drawn; neither are tracks without labels.
    """

    def __init__(self, label_matrix: np.ndarray, batch_size: int) -> None:
        """Looks up the tracks of every label.

        Args:
            label_matrix: (tracks, classes), positive where the label holds.
            batch_size: tracks per batch.

        Raises:
            SamplingError: if no track has a label.
        """
        check_batch_size(batch_size)
        self.batch_size = batch_size
        self._tracks = [rows for rows in _rows_by_label(label_matrix) if len(rows)]
        if not self._tracks:
            raise SamplingError("no track has a label, so batches cannot be balanced over labels.")

    def __call__(self, step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Returns the tracks of a batch."""
        labels = rng.integers(len(self._tracks), size=self.batch_size)
        counts = np.array([len(self._tracks[label]) for label in labels])
        chosen = rng.integers(counts)
        pairs = zip(labels, chosen, strict=True)
        return {ONE_STREAM: np.array([self._tracks[label][row] for label, row in pairs])}


class Triplets:
    """Roles `anchor`, `positive` and `negative`: two tracks with a label and one without it.

    The label is drawn first, each equally likely; the two tracks that have it are different ones.
    Labels that fewer than two tracks have, or all, are not drawn. For groups (artists, recordings)
    give a matrix with one column per group.
    """

    def __init__(self, label_matrix: np.ndarray, batch_size: int) -> None:
        """Looks up the tracks of every label.

        Args:
            label_matrix: (tracks, classes), positive where the label holds.
            batch_size: triplets per batch.

        Raises:
            SamplingError: if no label can be drawn.
        """
        check_batch_size(batch_size)
        self.batch_size, self._num_tracks = batch_size, len(label_matrix)
        self._tracks = [
            rows for rows in _rows_by_label(label_matrix) if 2 <= len(rows) < len(label_matrix)
        ]
        if not self._tracks:
            raise SamplingError(
                "no label is held by two tracks and lacking in a third, so there are no triplets."
            )

    def __call__(self, step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Returns the tracks of a batch, row by row a triplet."""
        labels = rng.integers(len(self._tracks), size=self.batch_size)
        with_label = [self._tracks[label] for label in labels]
        counts = np.array([len(rows) for rows in with_label])
        first = rng.integers(counts)
        second = (first + 1 + rng.integers(counts - 1)) % counts
        other = rng.integers(self._num_tracks - counts)
        return {
            "anchor": np.array([rows[i] for rows, i in zip(with_label, first, strict=True)]),
            "positive": np.array([rows[i] for rows, i in zip(with_label, second, strict=True)]),
            "negative": np.array(
                [_outside(rows, i) for rows, i in zip(with_label, other, strict=True)]
            ),
        }


class InTurn:
    """One data set after the other, in a fixed order: batch i is of data set `i % number`.

    The batch has one stream with the name of the data set whose turn it is, so that the loss can
    tell; each data set counts its own steps.
    """

    def __init__(self, samplers: Mapping[str, Sampler]) -> None:
        """Takes the samplers of the data sets.

        Args:
            samplers: name of a data set -> sampler of one stream.

        Raises:
            SamplingError: if there is no sampler.
        """
        if not samplers:
            raise SamplingError("there is no data set to take batches of in turn.")
        self.samplers = dict(samplers)

    def __call__(self, step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Returns the tracks of a batch."""
        round_, turn = divmod(step, len(self.samplers))
        name, sampler = list(self.samplers.items())[turn]
        return {name: sampler(round_, rng)[ONE_STREAM]}


def _rows_by_label(label_matrix: np.ndarray) -> Sequence[np.ndarray]:
    """Returns the tracks that have each label, in order."""
    return [np.flatnonzero(column > 0) for column in np.asarray(label_matrix).T]


def _outside(rows: np.ndarray, number: int) -> int:
    """Returns the track with the given number among those that are not in the sorted `rows`.

    >>> [_outside(np.array([1, 2, 5]), number) for number in range(4)]
    [0, 3, 4, 6]
    """
    before = np.searchsorted(rows - np.arange(len(rows)), number, side="right")
    return int(number + before)
