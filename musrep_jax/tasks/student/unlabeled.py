"""The music without labels that a student hears, and what it must not hear."""

import dataclasses
import hashlib
from collections import defaultdict
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input.joined_tracks import UnlabeledTracks
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import UNLABELED
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.settings import get_builder_name
from musrep_jax.tasks.task import OpenDataset

REST = "rest"
"""Instead of a data set: training tracks of the target whose labels are not used, and the part of
the target that has none."""
HELD_OUT = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """Music without labels.

    Attributes:
        dataset: that it is of.
        tracks: the recordings.
        num_held_out: that were left out, because they, their groups or their sound are in the
            validation or test split of the target.
    """

    dataset: Dataset
    tracks: UnlabeledTracks
    num_held_out: int


def find_unlabeled(
    config: ml_collections.ConfigDict,
    target: str,
    dataset: Dataset,
    labeled: Tracks,
    sample_rate: int,
    open_dataset: OpenDataset,
) -> Unlabeled:
    """Returns the tracks without labels that a config names; no label of them is read.

    Args:
        config: of the experiment, with `student.unlabeled`.
        target: name of the data set that is learned.
        dataset: the target.
        labeled: its training tracks whose labels are used.
        sample_rate: in Hz, that the tracks are read at.
        open_dataset: opens a data set.

    Raises:
        ConfigError: if no track is left.
    """
    name = config.student.unlabeled
    is_rest = name in (REST, target)
    if sample_rate != dataset.spec.sample_rate:
        dataset = open_dataset(target, sample_rate, **label_options(config, target))
    if is_rest:
        opened = dataset
        splits = [split for split in ("train", UNLABELED) if split in opened.spec.split_sizes]
    else:
        opened = open_dataset(name, sample_rate, **list_unlabeled_options(name))
        splits = list(opened.spec.split_sizes)
    parts, held_out = [], _HeldOut(dataset, is_same=is_rest)
    num_held_out, used = 0, set(labeled.track_ids)
    for split in splits:
        tracks = opened.tracks(split)
        is_free = np.array([not (is_rest and name in used) for name in tracks.track_ids], bool)
        is_held_out = np.array([held_out.has(tracks, row) for row in range(len(tracks))], bool)
        num_held_out += int((is_free & is_held_out).sum())
        parts.append(tracks.take(np.flatnonzero(is_free & ~is_held_out)))
    found = UnlabeledTracks([part.capped(config.train.max_seconds) for part in parts])
    if not len(found):
        raise ConfigError(_explain_none(name, target, len(labeled), num_held_out, is_rest=is_rest))
    return Unlabeled(opened, found, num_held_out)


def label_options(config: ml_collections.ConfigDict, target: str) -> dict[str, Any]:
    """Returns options of the target's builder: which labels of a folder are used.

    Args:
        config: of the experiment.
        target: name of the data set.
    """
    is_folder = get_builder_name(target) == "audio_folder"
    return {"labels": config.data.labels} if is_folder and config.data.labels else {}


def list_unlabeled_options(name: str) -> dict[str, Any]:
    """Returns options of the builder of music without labels: of a folder, every file is taken.

    Args:
        name: of the data set.
    """
    return {"unlabeled": "all"} if get_builder_name(name) == "audio_folder" else {}


class _HeldOut:
    """Which tracks belong to validation or test: by name, by group, and by sound."""

    def __init__(self, target: Dataset, *, is_same: bool) -> None:
        """Collects what is held out.

        Args:
            target: the data set with the splits, read as the tracks are.
            is_same: whether the tracks are of the target: then names say what they are. In another
                data set the same name says nothing, unless it is of a performer or an artist; the
                same recording is told by its sound.
        """
        self._names: set[str] = set()
        self._groups: set[str] = set()
        self._sounds: dict[int, set[str]] = defaultdict(set)
        for split in HELD_OUT:
            tracks = target.tracks(split)
            for row, (name, group) in enumerate(zip(tracks, tracks.groups, strict=True)):
                self._groups |= {group} if group and (is_same or group != name) else set()
                if is_same:
                    self._names.add(name)
                else:
                    length = int(tracks.num_samples[row])
                    self._sounds[length].add(_hash_sound(tracks, row))

    def has(self, tracks: Tracks, row: int) -> bool:
        """Returns whether a track is held out."""
        if tracks.track_ids[row] in self._names or tracks.groups[row] in self._groups:
            return True
        # Of another length it is another recording; only few have to be read.
        sounds = self._sounds.get(int(tracks.num_samples[row]), ())
        return bool(sounds) and _hash_sound(tracks, row) in sounds


_SOUND_SAMPLES = 8192


def _hash_sound(tracks: Tracks, row: int) -> str:
    """Returns what tells recordings of one length apart: some sound from their middle."""
    length = min(_SOUND_SAMPLES, int(tracks.num_samples[row]))
    start = (int(tracks.num_samples[row]) - length) // 2
    return hashlib.sha256(tracks.crop(row, start, length).tobytes()).hexdigest()


def _explain_none(
    name: str, target: str, num_labeled: int, num_held_out: int, *, is_rest: bool
) -> str:
    """Returns why there is no track without labels, and what to do."""
    shown = strip_parents(target)
    why = f"all {num_labeled} training tracks of {shown} are used with their labels"
    fix = "take fewer of them by --config.num_train_tracks, or name another data set or folder"
    if not is_rest:
        why = f"it has no track beside those of the validation and test splits of {shown}"
        fix = f"name another one, or {REST!r}"
    elif num_held_out:
        why += f" and {num_held_out} others are of groups in its validation or test split"
    return f"student.unlabeled is {name!r}, but {why}: {fix}."


def describe_unlabeled(found: Unlabeled) -> dict[str, Any]:
    """Returns the entries of a result about music without labels.

    Args:
        found: what a student heard.
    """
    return {
        "unlabeled": strip_parents(found.dataset.spec.name),
        "num_unlabeled": len(found.tracks),
        "num_held_out": found.num_held_out,
    }
