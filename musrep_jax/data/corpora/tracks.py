"""The tracks of a corpus as its metadata describe them, and what decodes them."""

import dataclasses
import io
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.audio.log_mel import FRONT_END, log_mel
from musrep_jax.data.audio.reading import AudioError, read_audio
from musrep_jax.data.build.builder import RefusedTrack, TrackRecord
from musrep_jax.data.specs import ALL_SPLITS
from musrep_jax.data.splits import find_leakage
from musrep_jax.runtime.names import find_path, leads_outside

_LENGTH_TOLERANCE = 0.1
"""A track that decodes to less than this share under its expected length is refused."""


@dataclasses.dataclass(frozen=True)
class SplitCard:
    """The published facts about a split.

    Attributes:
        rule: how it was made, in a sentence.
        source: who published it: a paper or a public repository; "" for one that is made here.
        sizes: published number of tracks per part; empty where it depends on what is there.
        disjoint_by: kind of source (a key of `CorpusTrack.sources`) that no two parts share, or ""
            where the split promises nothing.
        labels: label sets that it goes with; empty for all.
    """

    rule: str
    source: str = ""
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    disjoint_by: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_generated(self) -> bool:
        """Whether the split is made here, by groups, and depends on the seed."""
        return not self.source


@dataclasses.dataclass(frozen=True)
class CorpusTrack:
    """A track as the metadata of a corpus describe it; its audio has not been touched.

    Attributes:
        track_id: unique in the corpus.
        path: of the file, relative to the corpus' folder, with forward slashes.
        labels: names; those that the chosen label set lacks are dropped.
        split: "train", "validation", "test" or "unlabelled"; "made" where it is made here.
        sources: kind -> identity, such as {"artist": "...", "album": "..."}: what two parts of a
            split should not share.
        seconds: expected length of the file, where the metadata tell.
    """

    track_id: str
    path: str
    labels: tuple[str, ...]
    split: str
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class CorpusLoader:
    """Decodes tracks of a corpus; plain data, so that a worker process can have it.

    Attributes:
        folder: of the corpus.
        stored_form: what to make of a track.
        is_log_mel: whether the corpus itself holds spectrograms.
        sample_rate: wanted, in Hz.
        max_seconds: seconds used of a recording; None for all.
        group: kind of source that becomes the track's group.
        refused: path -> reason for leaving a file out.
    """

    folder: pathlib.Path
    stored_form: str
    is_log_mel: bool
    sample_rate: int
    max_seconds: float | None
    group: str
    refused: Mapping[str, str]

    def __call__(self, track: CorpusTrack) -> TrackRecord | RefusedTrack:
        """Returns the track in its stored form, or why it cannot be used."""
        if track.path in self.refused:
            return RefusedTrack(track.path, self.refused[track.path])
        if leads_outside(track.path):
            return RefusedTrack(
                track.path, "leads out of the corpus' folder, as no file of it does."
            )
        path = find_path(self.folder, track.path)
        try:
            audio, num_samples, seconds = (
                self._load_mels(path) if self.is_log_mel else self._load(path)
            )
        except AudioError as error:
            return RefusedTrack(track.path, error.reason)
        expected = track.seconds
        if expected is not None and self.max_seconds is not None:
            expected = min(expected, self.max_seconds)
        if expected is not None and seconds < (1.0 - _LENGTH_TOLERANCE) * expected:
            return RefusedTrack(
                track.path, f"is cut short: {seconds:.1f} s of the {expected:.1f} s it should have."
            )
        group = track.sources.get(self.group, "") or track.track_id
        return TrackRecord(track.track_id, group, track.labels, audio, num_samples)

    def _load(self, path: pathlib.Path) -> tuple[np.ndarray | bytes, int, float]:
        """Returns (stored audio, length in samples, length in seconds)."""
        limit = None if self.max_seconds is None else int(self.max_seconds * self.sample_rate)
        audio, _ = read_audio(path, sample_rate=self.sample_rate, num_frames=limit, name=path.name)
        if not len(audio):
            raise AudioError(path.name, "cannot be used: it holds no audio.")
        num_samples, seconds = len(audio), len(audio) / self.sample_rate
        if self.stored_form == "encoded":
            return path.read_bytes(), num_samples, seconds
        return (log_mel(audio) if self.stored_form == "log_mel" else audio), num_samples, seconds

    def _load_mels(self, path: pathlib.Path) -> tuple[np.ndarray, int, float]:
        """Returns (frames, n_mels) in dB, their number, and the length in seconds."""
        n_mels, hop = FRONT_END["n_mels"], FRONT_END["hop_length"]
        try:
            mels = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        except FileNotFoundError as error:
            raise AudioError(path.name, "cannot be read: there is no such file.") from error
        except (OSError, ValueError, EOFError) as error:
            raise AudioError(path.name, f"cannot be read as a numpy array ({error}).") from error
        mels = np.squeeze(mels)
        if mels.ndim != 2 or n_mels not in mels.shape or not mels.size:
            raise AudioError(
                path.name,
                f"has the shape {mels.shape}, not ({n_mels}, frames): it is not one of the "
                f"spectrograms with {n_mels} mel bands.",
            )
        mels = mels.T if mels.shape[0] == n_mels else mels
        seconds = (len(mels) - 1) * hop / self.sample_rate
        if self.max_seconds is not None:
            mels = mels[: 1 + int(self.max_seconds * self.sample_rate / hop)]
        return np.asarray(mels, np.float32), len(mels), seconds


def label_matrix(tracks: Sequence[CorpusTrack], label_names: Sequence[str]) -> np.ndarray:
    """Returns float32 (tracks, classes), 1 where the label holds."""
    column = {name: index for index, name in enumerate(label_names)}
    matrix = np.zeros((len(tracks), len(column)), np.float32)
    for row, track in enumerate(tracks):
        matrix[row, [column[name] for name in track.labels]] = 1.0
    return matrix


def count_labels(
    tracks: Sequence[CorpusTrack], label_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Returns split -> label -> number of tracks, labels in order."""
    counts: dict[str, dict[str, int]] = {}
    for track in tracks:
        of_split = counts.setdefault(track.split, dict.fromkeys(label_names, 0))
        for name in track.labels:
            of_split[name] += 1
    return {split: counts[split] for split in ALL_SPLITS if split in counts}


def select_most_frequent_labels(
    labels_of_tracks: Iterable[Sequence[str]], number: int
) -> tuple[str, ...]:
    """Returns the labels that most tracks have, the most frequent first, equals by code point.

    Args:
        labels_of_tracks: of the training tracks, as published label sets count them.
        number: how many.

    Source: the rule of the cross-cultural tagging code (arXiv 2307.09795) for all its data sets but
    MagnaTagATune.

    Example:
        >>> select_most_frequent_labels([["lyra", "voice"], ["voice"], ["laouto"]], 2)
        ('voice', 'laouto')
    """
    counts = Counter(name for labels in labels_of_tracks for name in labels)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:number])


def find_shared_sources(tracks: Sequence[CorpusTrack]) -> dict[str, list[dict[str, Any]]]:
    """Returns kind of source -> list of {group, splits} for groups in more than one split.

    A track that does not state a source of a kind shares none of that kind.

    Args:
        tracks: of all splits.
    """
    kinds = sorted({kind for track in tracks for kind in track.sources})
    shared = {}
    for kind in kinds:
        stated = [track for track in tracks if track.sources.get(kind)]
        shared[kind] = find_leakage(
            [track.track_id for track in stated],
            [track.sources[kind] for track in stated],
            [""] * len(stated),
            [track.split for track in stated],
        )["shared_groups"]
    return shared
