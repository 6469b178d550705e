"""The labeled tracks of a data set, of all its splits, as a probe sees them."""

import dataclasses
import fnmatch
from collections.abc import Sequence

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import SPLITS
from musrep_jax.evaluation.decisions import has_one_label_per_track
from musrep_jax.evaluation.support import choose_groups


@dataclasses.dataclass(frozen=True)
class LabeledTracks:
    """Tracks of all splits, one after the other.

    Attributes:
        splits: the tracks of each split, whole.
        kept: which of them, numbered over all splits, are probed, ascending.
        track_ids: of those that are kept, str (tracks,).
        split_names: the split of each, str (tracks,).
        groups: performer, recording or artist of each; None if each is a track of its own.
        targets: float32 (tracks, classes), 0 or 1.
        label_names: of the classes.
        is_exclusive: whether every track has exactly one class.
    """

    splits: tuple[Tracks, ...]
    kept: np.ndarray
    track_ids: np.ndarray
    split_names: np.ndarray
    groups: np.ndarray | None
    targets: np.ndarray
    label_names: tuple[str, ...]
    is_exclusive: bool


def list_labeled_tracks(dataset: Dataset, patterns: Sequence[str] = ()) -> LabeledTracks:
    """Returns the tracks of a data set with the labels that are asked for.

    Args:
        dataset: with training, validation and test tracks.
        patterns: names of labels, with `*` and `?`; tracks with none of these labels are left out.
            Without any, all labels and all tracks are there.

    Raises:
        ConfigError: if a pattern fits no label, fewer than two tracks have one, or no label tells
            tracks apart, as all have it.
    """
    splits = tuple(dataset.tracks(name) for name in SPLITS)
    names = tuple(dataset.spec.label_names)
    targets = (np.concatenate([tracks.label_matrix for tracks in splits]) > 0).astype(np.float32)
    kept = np.arange(len(targets))
    if patterns:
        columns = match_labels(names, patterns, dataset.spec.name, "probe.labels")
        targets, names = targets[:, columns], tuple(names[column] for column in columns)
        kept = np.flatnonzero(targets.any(axis=1))
        targets = targets[kept]
        if len(kept) < 2:
            raise ConfigError(
                f"probe.labels is {','.join(patterns)!r}, and {len(kept)} tracks of "
                f"{dataset.spec.name} have such a label: choose more labels."
            )
    occurs = targets.any(axis=0)
    targets, names = targets[:, occurs], tuple(np.array(names)[occurs].tolist())
    if targets.all():
        raise ConfigError(
            f"All {len(targets)} tracks of {dataset.spec.name} that are probed have the same "
            f"labels, {', '.join(map(repr, names)) or 'none'}, so there is nothing to tell apart: "
            "choose more labels by --config.probe.labels, or add tracks without them."
        )
    ids = np.array([name for tracks in splits for name in tracks.track_ids])
    owners = np.array([name for tracks in splits for name in tracks.groups])
    of_split = np.repeat([tracks.split for tracks in splits], list(map(len, splits)))
    return LabeledTracks(
        splits=splits,
        kept=kept,
        track_ids=ids[kept],
        split_names=of_split[kept],
        groups=choose_groups(owners[kept]),
        targets=targets,
        label_names=names,
        is_exclusive=has_one_label_per_track(targets),
    )


def match_labels(
    names: Sequence[str], patterns: Sequence[str], dataset: str, setting: str
) -> list[int]:
    """Returns the columns of labels whose names fit a pattern, ascending.

    Args:
        names: of the labels.
        patterns: names, with `*` and `?`.
        dataset: name of the data set, for the message.
        setting: that holds the patterns, for the message.

    Raises:
        ConfigError: if a pattern fits no label.
    """
    chosen = set()
    for pattern in patterns:
        found = [i for i, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(
                f"{setting} names {pattern!r}, and no label of {dataset} is called so: it has "
                f"{', '.join(names)}."
            )
        chosen |= set(found)
    return sorted(chosen)
