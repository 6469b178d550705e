"""The support of a number: the tracks or groups that are resampled, and whether they suffice.

Tracks of one performer, recording or artist resemble each other. Where groups are known, a whole
group is one observation, in intervals and in tests alike.

A label is judged when enough tracks with it and without it, from enough groups, were tested. Below
that, no interval is trustworthy and no test can succeed: even if two systems differed the same way
on each of five observations, a sign test would give p = 2 / 2**5 > 0.05.

Source: Field and Welsh, "Bootstrapping clustered data", 2007 (whole groups are resampled).
"""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.metrics import BoolArray, EvaluationError, FloatArray, IntArray

MIN_EXAMPLES = 6
"""Positives and negatives, and groups with each, below which one label is not judged; also tracks
or groups in all below which nothing is."""
MIN_GROUPS_OF_MEAN = 3
"""Groups with positives, and with negatives, that at least one label of a mean over labels needs:
the other labels bring groups of their own."""

TOO_FEW_POSITIVES = "too_few_positives"
TOO_FEW_NEGATIVES = "too_few_negatives"
TOO_FEW_TRACKS = "too_few_tracks"
TOO_FEW_GROUPS = "too_few_groups"
REASON_TEXTS = {
    TOO_FEW_POSITIVES: "too few tracks",
    TOO_FEW_NEGATIVES: "too few tracks",
    TOO_FEW_TRACKS: "too few tracks",
    TOO_FEW_GROUPS: "too few groups",
}
"""Reason for which there is neither an interval nor a test -> as a person reads it."""

BY_GROUPS, BY_TRACKS = "groups", "tracks"
RESAMPLE_BY = (BY_GROUPS, BY_TRACKS)
"""Units of resampling; `groups` means tracks where no groups are known."""


@dataclasses.dataclass(frozen=True)
class Units:
    """The resampling units.

    Attributes:
        index: int64 (tracks,), number of each track's unit.
        count: number of units.
        are_groups: whether a unit is a named group; otherwise every track is one.
    """

    index: IntArray
    count: int
    are_groups: bool

    @property
    def resampled(self) -> str:
        """`groups` or `tracks`."""
        return BY_GROUPS if self.are_groups else BY_TRACKS


def make_units(num_tracks: int, track_groups: ArrayLike | None = None) -> Units:
    """Returns the resampling units: groups or single tracks.

    A track whose group has no name is its own unit.

    Args:
        num_tracks: number of tracks.
        track_groups: (tracks,) names or numbers of groups, or None for tracks.

    Raises:
        EvaluationError: when there is not one group for each track.
    """
    if track_groups is None:
        return Units(np.arange(num_tracks), num_tracks, False)
    names = np.asarray(track_groups)
    if names.shape != (num_tracks,):
        raise EvaluationError(
            f"there are {names.size} track groups for {num_tracks} tracks; give one for each."
        )
    index = np.unique(names, return_inverse=True)[1].reshape(-1)
    if names.dtype.kind in "US":
        nameless = np.flatnonzero(names == names.dtype.type(""))
        index[nameless] = index.max(initial=0) + 1 + np.arange(len(nameless))
        index = np.unique(index, return_inverse=True)[1].reshape(-1)
    return Units(index.astype(np.int64), int(index.max()) + 1, True)


def choose_groups(track_groups: ArrayLike | None, resample: str = BY_GROUPS) -> np.ndarray | None:
    """Returns the groups to resample as a whole, or None where tracks are resampled.

    >>> choose_groups(["a", "a", "b"]), choose_groups(["a", "b", "c"])
    (array(['a', 'a', 'b'], dtype='<U1'), None)

    Args:
        track_groups: (tracks,) names of groups, or None where they are not known.
        resample: `groups` or `tracks`.

    Returns:
        (tracks,), or None when there are no groups, each track is one of its own, or tracks are
        asked for.

    Raises:
        EvaluationError: when `resample` is another word.
    """
    if resample not in RESAMPLE_BY:
        raise EvaluationError(
            f"resample is {resample!r}; choose {' or '.join(repr(name) for name in RESAMPLE_BY)}."
        )
    if track_groups is None or resample == BY_TRACKS:
        return None
    groups = np.asarray(track_groups)
    return None if make_units(len(groups), groups).count == len(groups) else groups


@dataclasses.dataclass(frozen=True)
class Support:
    """The number of observations behind a metric.

    Attributes:
        size: effective number of observations, at least 1: of a label the rarer of positives and
            negatives, counted in units; of a mean over labels at most the number of units.
        reason: why it is not judged, a key of `REASON_TEXTS`, or None when it is.
        label_size: the harmonic mean of the sizes of its labels.
    """

    size: float
    reason: str | None
    label_size: float = math.inf


def support_labels(is_positive: BoolArray, units: Units) -> list[Support]:
    """Returns the support of every label.

    Args:
        is_positive: bool (tracks, classes).
        units: of the tracks.
    """
    tracks, groups = _count_tracks(is_positive), _count_units(is_positive, units)
    found = []
    for (positives, negatives), spread in zip(tracks.T, groups, strict=True):
        reason = None
        if positives < MIN_EXAMPLES:
            reason = TOO_FEW_POSITIVES
        elif negatives < MIN_EXAMPLES:
            reason = TOO_FEW_NEGATIVES
        elif spread < MIN_EXAMPLES:
            reason = TOO_FEW_GROUPS
        found.append(Support(float(max(1, min(positives, negatives, spread))), reason))
    return found


def support_mean(is_positive: BoolArray, units: Units) -> Support:
    """Returns the support of a mean over labels.

    Labels add up, as their positives are other tracks, up to the number of units: the mean over
    K labels of sizes n has the size K**2 / sum(1 / n), as a mean of independent parts would.

    Args:
        is_positive: bool (tracks, classes), of the labels of the mean.
        units: of the tracks.
    """
    tracks = _count_tracks(is_positive).min(axis=0)
    groups = _count_units(is_positive, units)
    if not len(tracks):
        return Support(1.0, TOO_FEW_POSITIVES)
    sizes = np.maximum(np.minimum(tracks, groups), 1)
    label_size = len(sizes) / float(np.sum(1 / sizes))
    size = min(float(units.count), len(sizes) * label_size)
    reason = None
    if not (tracks >= MIN_EXAMPLES).any():
        reason = TOO_FEW_POSITIVES
    elif (
        units.count < MIN_EXAMPLES
        or not ((tracks >= MIN_EXAMPLES) & (groups >= MIN_GROUPS_OF_MEAN)).any()
    ):
        reason = TOO_FEW_GROUPS if units.are_groups else TOO_FEW_TRACKS
    return Support(size, reason, label_size)


def support_tracks(units: Units) -> Support:
    """Returns the support of a mean over tracks, such as an accuracy or a loss.

    Args:
        units: of the tracks.
    """
    few = TOO_FEW_GROUPS if units.are_groups else TOO_FEW_TRACKS
    return Support(float(units.count), few if units.count < MIN_EXAMPLES else None)


SMALL_VALIDATION_UNITS = 20
"""Validation tracks, or groups where there are any, below which weights, thresholds and calibration
are chosen on too few."""


def describe_validation(labels: ArrayLike, track_groups: ArrayLike | None) -> dict[str, Any]:
    """Returns the support of a choice on validation data.

    Args:
        labels: (tracks, classes), 0 or 1, of the validation split.
        track_groups: (tracks,) names of groups, or None.

    Returns:
        `num_tracks`, `num_groups` (None where each track is its own), and `is_small`: whether there
        are fewer than `SMALL_VALIDATION_UNITS` tracks or groups, or no label has `MIN_EXAMPLES`
        positives and negatives.
    """
    is_positive = np.asarray(labels) > 0
    units = make_units(len(is_positive), choose_groups(track_groups))
    return {
        "num_tracks": len(is_positive),
        "num_groups": units.count if units.are_groups else None,
        "is_small": units.count < SMALL_VALIDATION_UNITS
        or support_mean(is_positive, units).reason is not None,
    }


def t_quantile(degrees: float) -> float:
    """Returns the two-sided 95 % quantile of Student's t, to 0.2 % from 5 degrees on.

    >>> round(t_quantile(20), 3)
    2.086

    Args:
        degrees: of freedom; below 2 it is taken as 2.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5.
    """
    z, n = 1.959963984540054, max(degrees, 2.0)
    powers = z ** np.arange(1, 8, 2)
    terms: FloatArray = np.array(
        [
            powers @ [1, 1, 0, 0] / 4 / n,
            powers @ [3, 16, 5, 0] / 96 / n**2,
            powers @ [-15, 17, 19, 3] / 384 / n**3,
        ]
    )
    return float(z + terms.sum())


def _count_tracks(is_positive: BoolArray) -> IntArray:
    """Returns positives and negatives of every label, int64 (2, classes)."""
    positives = is_positive.sum(axis=0)
    return np.stack([positives, len(is_positive) - positives])


def _count_units(is_positive: BoolArray, units: Units) -> IntArray:
    """Returns how many units have positives, or negatives if fewer, int64 (classes,)."""
    shape = (units.count, is_positive.shape[1])
    has = np.zeros((2, *shape), dtype=bool)
    for kind, holds in enumerate((is_positive, ~is_positive)):
        row, column = np.nonzero(holds)
        has[kind, units.index[row], column] = True
    return has.sum(axis=1).min(axis=0)
