"""`audio_folder`: a TFDS data set made of anyone's recordings and a table of their labels."""

import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import itertools
import json
import os
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from musrep_jax.tfds_builders.audio_folder.folder_splits import (
    abbreviate_names,
    check_label_coverage,
    complete_splits,
    describe_splits,
    make_label_matrix,
)
from musrep_jax.tfds_builders.audio_folder.label_table import (
    ALL_UNLABELED,
    NO_UNLABELED,
    TABLE_NAME,
    UNLABELED_CHOICES,
    Row,
    TableError,
    find_unlisted_files,
    list_rows,
)

from musrep_jax.data.audio.audio_files import lies_outside
from musrep_jax.data.audio.reading import AudioError, measure_length, open_audio, read_audio
from musrep_jax.data.build.builder import BuildError, RefusedTrack, TrackBuilder, TrackRecord
from musrep_jax.data.doctor.quarantine import quarantine_path, read_quarantine
from musrep_jax.data.specs import SPLITS, UNLABELED, DatasetSpec
from musrep_jax.data.splits import content_hash, find_leakage, merge_groups, missing_labels
from musrep_jax.runtime.names import find_path, normalize_name, split_labels

_NUM_DECODERS = 2
_PROBE_FRAMES = 1024
_NUM_SAMPLED = 5
_MIN_BYTES_PER_SECOND = 500.0
"""Of audio: a header that claims more seconds is not believed."""
_MAX_LICENCES = 5


@dataclasses.dataclass(frozen=True)
class Recording:
    """A planned track.

    Attributes:
        track_id: path of the file in its folder, as the table has it.
        labels: those in use.
        group: as in the table; recordings with identical audio, and what is grouped with either,
            have one.
        refused: why it cannot be used, if that is known already.
    """

    track_id: str
    labels: tuple[str, ...] = ()
    group: str = ""
    refused: str = ""


@dataclasses.dataclass(frozen=True)
class RecordingDecoder:
    """Decodes planned tracks.

    Attributes:
        folder: that holds the recordings.
        sample_rate: in Hz, that they are resampled to.
    """

    folder: pathlib.Path
    sample_rate: int

    def __call__(self, track: Recording) -> TrackRecord | RefusedTrack:
        """Returns the decoded recording, or why it cannot be used."""
        path = track.track_id
        if track.refused:
            return RefusedTrack(path, track.refused)
        try:
            audio, _ = read_audio(
                find_path(self.folder, path), sample_rate=self.sample_rate, name=path
            )
        except AudioError as error:
            return RefusedTrack(path, error.reason)
        except PermissionError as error:
            return RefusedTrack(path, f"cannot be read: {error.strerror}.")
        return TrackRecord(path, track.group, track.labels, audio)


class Builder(TrackBuilder):
    """Decodes a folder of recordings to 16-bit mono at the model's rate.

    The table is described in README.md; splits that it does not give are made so that no group
    lies in two of them, and files with identical content count as one group. They are made of all
    recordings and all labels of the table, whichever labels are chosen: what one choice trains on,
    no other tests.
    """

    VERSION = tfds.core.Version("2.0.0")

    def __init__(
        self,
        *,
        data_dir: str | pathlib.Path,
        folder: str | pathlib.Path = "",
        sample_rate: int | None = None,
        seed: int | None = None,
        labels: Sequence[str] | str = (),
        label_prefix: str = "",
        min_positives: int = 1,
        unlabeled: str = NO_UNLABELED,
    ) -> None:
        """Reads the table; no audio is touched yet.

        Args:
            data_dir: root folder of the built data sets.
            folder: that holds the recordings and `labels.tsv`.
            sample_rate: in Hz, that the recordings are resampled to.
            seed: of the splits that are made.
            labels: to use, as a list or comma separated (see `split_labels`), also as patterns such
                as `stroke_*`; none for all. Recordings without any of them stay in their split, as
                examples of none.
            label_prefix: use only the labels that begin so.
            min_positives: use only the labels that at least so many recordings have.
            unlabeled: which recordings make up a further split of music without labels, see
                `UNLABELED_CHOICES`.

        Raises:
            TableError: if the folder or its table is not as it should be.
        """
        if not str(folder):
            raise TableError("audio_folder needs a folder: write audio_folder:FOLDER.")
        if unlabeled not in UNLABELED_CHOICES:
            raise TableError(
                f"audio_folder has the option unlabeled={unlabeled!r}; it must be one of "
                f"{', '.join(UNLABELED_CHOICES)}."
            )
        self.folder = pathlib.Path(folder).expanduser().resolve()
        self.unlabeled = unlabeled
        self.rows = list_rows(self.folder, unlabeled)
        wanted = split_labels(labels) if isinstance(labels, str) else map(normalize_name, labels)
        self.options = {
            "labels": sorted({name for name in wanted if name}),
            "label_prefix": unicodedata.normalize("NFC", label_prefix),
            "min_positives": int(min_positives),
        }
        self.label_names = ()
        if unlabeled != ALL_UNLABELED:
            self.label_names = _choose_labels(self.folder / TABLE_NAME, self.rows, **self.options)
        if unlabeled != NO_UNLABELED:
            self.options["unlabeled"] = unlabeled
        self._quarantined = _find_quarantined_paths(
            self.folder, self.rows, read_quarantine(quarantine_path(data_dir, self.folder))
        )
        self._planned: dict[str, list[Recording]] = {}
        self._facts: dict[str, Any] = {}
        rate = int(sample_rate or self.DEFAULT_SAMPLE_RATE)
        seed = self.DEFAULT_SEED if seed is None else int(seed)
        variant = _digest([str(self.folder), rate, seed, self.options])[:8]
        slug = re.sub(r"[^A-Za-z0-9_]+", "_", self.folder.name) or "folder"
        super().__init__(
            data_dir=data_dir,
            config=tfds.core.BuilderConfig(name=f"{slug}-{variant}"),
            sample_rate=rate,
            seed=seed,
        )

    def spec(self) -> DatasetSpec:
        """Returns the facts about the folder; the fingerprint covers table, files and options."""
        licences = sorted({row.licence for row in self.rows if row.licence})
        more = (
            f"; and {len(licences) - _MAX_LICENCES} more" if len(licences) > _MAX_LICENCES else ""
        )
        return DatasetSpec(
            name=f"audio_folder:{unicodedata.normalize('NFC', self.folder.name)}",
            label_names=self.label_names,
            sample_rate=self.sample_rate,
            stored_form="pcm16",
            split_sizes={},
            licence="; ".join(licences[:_MAX_LICENCES]) + more or "not stated in the table",
            citation=f"Recordings in the folder {self.folder.name}.",
            description=f"{len(self.rows)} recordings {self._describe_labels()}.",
            fingerprint=self._fingerprint(),
        )

    def _describe_labels(self) -> str:
        return "without labels" if not self.label_names else f"with labels from {TABLE_NAME}"

    def _fingerprint(self) -> str:
        files = []
        for row in self.rows:
            path = find_path(self.folder, row.path)
            if os.path.isfile(path):
                stat = path.stat()
                files.append([row.path, stat.st_size, stat.st_mtime_ns])
        path = self.folder / TABLE_NAME
        table = path.read_bytes() if path.is_file() else b""
        content = [str(self.VERSION), hashlib.sha256(table).hexdigest(), files]
        content += [self.sample_rate, self.seed, self.options]
        return _digest([*content, self._quarantined] if self._quarantined else content)

    def split_names(self) -> tuple[str, ...]:
        """Returns the splits; on the first call the files are looked at and the splits made."""
        if not self._planned:
            self._make_recordings()
        return tuple(self._planned)

    def list_tracks(self, split: str) -> Sequence["Recording"]:
        """Returns the recordings of a split; the first also has those that cannot be opened."""
        self.split_names()
        return self._planned[split]

    def track_loader(self) -> "RecordingDecoder":
        """Returns what decodes a recording."""
        return RecordingDecoder(self.folder, self.sample_rate)

    def estimate_bytes(self) -> int:
        """Returns about how large the data set will be, going by a few files of each format."""
        formats: dict[str, list[tuple[pathlib.Path, int]]] = {}
        for row in self.rows:
            path = find_path(self.folder, row.path)
            if os.path.isfile(path):
                found = formats.setdefault(path.suffix.lower(), [])
                found.append((path, path.stat().st_size))
        seconds = 0.0
        for found in formats.values():
            few = found[:: -(-len(found) // _NUM_SAMPLED)]
            share = sum(size for _, size in few) / max(1, sum(size for _, size in found))
            seconds += sum(_seconds(path, size) for path, size in few) / max(share, 1e-9)
        return int(2 * self.sample_rate * seconds)

    def extra_report_fields(self) -> dict[str, Any]:
        """Returns leakage between splits, labels missing from one, and notes in words."""
        self.split_names()
        return self._facts

    def _make_recordings(self) -> None:
        """Sets aside what cannot be opened, makes the splits that are not given, and reports."""
        rows, hashes, unreadable = [], [], []
        with concurrent.futures.ThreadPoolExecutor(_NUM_DECODERS) as pool:
            for row, found in zip(self.rows, pool.map(self._probe, self.rows), strict=True):
                if isinstance(found, RefusedTrack):
                    unreadable.append(Recording(row.path, refused=found.reason))
                else:
                    rows.append(row)
                    hashes.append(found)
        if not rows:
            raise BuildError(
                f"none of the {len(self.rows)} files that {self.folder / TABLE_NAME} lists can be "
                f"read; {unreadable[0].track_id}, for one, {unreadable[0].refused}"
            )
        groups = merge_groups([row.group for row in rows], hashes)
        is_labeled = [
            self.unlabeled == NO_UNLABELED or (self.label_names and row.labels) for row in rows
        ]
        self._planned, self._facts = {}, {"notes": []}
        if any(is_labeled):
            self._split_labeled(*(
                list(itertools.compress(column, is_labeled)) for column in (rows, groups, hashes)
            ))  # fmt: skip
        free = [
            Recording(row.path, (), group)
            for row, group, has_label in zip(rows, groups, is_labeled, strict=True)
            if not has_label and (not self.label_names or row.split in (None, "train"))
        ]
        if free:
            self._planned[UNLABELED] = free
        next(iter(self._planned.values())).extend(unreadable)
        notes = self._facts["notes"]
        outside = [
            row.path for row in rows if lies_outside(self.folder, find_path(self.folder, row.path))
        ]
        if outside:
            notes.append(
                f"listed files outside the folder, by their paths or behind links: {len(outside)} "
                f"({abbreviate_names(outside)})."
            )
        unlisted = find_unlisted_files(self.folder, self.rows)
        if unlisted:
            notes.append(
                f"audio files that {TABLE_NAME} does not list: {len(unlisted)} "
                f"({abbreviate_names(unlisted)})."
            )
            if any("\ufffd" in name for name in unlisted):
                notes.append("file names that are not UTF-8 cannot be listed: rename those files.")

    def _split_labeled(
        self, rows: Sequence[Row], groups: Sequence[str], hashes: Sequence[str]
    ) -> None:
        """Makes the splits of recordings with labels that are not given, and reports on them.

        Args:
            rows: of readable recordings.
            groups: of each, see `merge_groups`.
            hashes: of each file.
        """
        used = set(self.label_names)
        matrix = make_label_matrix(rows, self.label_names)
        # Of all labels, in an order of its own: the choice of labels must not move a recording.
        every = sorted({name for row in rows for name in row.labels})
        splits, notes = complete_splits(rows, groups, make_label_matrix(rows, every), self.seed)
        check_label_coverage(self.folder / TABLE_NAME, matrix, splits, bool(notes))
        self._planned = {
            split: [
                Recording(row.path, tuple(name for name in row.labels if name in used), group)
                for row, group, name in zip(rows, groups, splits, strict=True)
                if name == split
            ]
            for split in SPLITS
            if split in splits
        }
        leakage = find_leakage(
            [row.path for row in rows], [row.group for row in rows], hashes, splits
        )
        missing = missing_labels(matrix, self.label_names, splits)
        notes += describe_splits(leakage, missing, matrix, self.label_names, splits)
        self._facts = {"leakage": leakage, "missing_labels": missing, "notes": notes}

    def _probe(self, row: Row) -> str | RefusedTrack:
        """Returns the hash of a file's content, or why it cannot be opened."""
        if row.path in self._quarantined:
            return RefusedTrack(row.path, self._quarantined[row.path])
        path = find_path(self.folder, row.path)
        try:
            audio, _ = read_audio(path, name=row.path, num_frames=_PROBE_FRAMES)
            if not len(audio):
                return RefusedTrack(row.path, "cannot be used: it holds no audio.")
            return content_hash(path)
        except AudioError as error:
            return RefusedTrack(row.path, error.reason)
        except OSError as error:
            return RefusedTrack(row.path, f"cannot be read: {error.strerror}.")


def _find_quarantined_paths(
    folder: pathlib.Path, rows: Sequence[Row], listed: Mapping[str, str]
) -> dict[str, str]:
    """Returns the paths of the table that a quarantine list has, and why they are refused."""
    found = {}
    for row in rows if listed else ():
        path = os.path.relpath(find_path(folder, row.path), folder)
        if path in listed:
            found[row.path] = f"is quarantined by musrep doctor: {listed[path]}"
    return found


def _seconds(path: pathlib.Path, num_bytes: int) -> float:
    """Returns how long a file says it is, within reason; 0 if it cannot be opened."""
    try:
        seconds = measure_length(path)
        if seconds is None:
            with open_audio(path, path.name) as file:
                seconds = file.frames / file.samplerate
    except AudioError:
        return 0.0
    return min(seconds, num_bytes / _MIN_BYTES_PER_SECOND)


def _choose_labels(
    table: pathlib.Path,
    rows: Sequence[Row],
    labels: Sequence[str],
    label_prefix: str,
    min_positives: int,
) -> tuple[str, ...]:
    """Returns the labels in use, the most frequent first, equals in order of code points."""
    counts = Counter(name for row in rows for name in row.labels)
    for pattern in labels:
        if not fnmatch.filter(counts, pattern) and pattern not in counts:
            raise TableError(
                f"{table} has no label {pattern!r}; it has {abbreviate_names(sorted(counts), 10)}."
            )
    chosen = [
        name
        for name, count in counts.items()
        if (not labels or any(name == p or fnmatch.fnmatchcase(name, p) for p in labels))
        and name.startswith(label_prefix)
        and count >= min_positives
    ]
    if not chosen:
        raise TableError(
            f"no label of {table} begins with {label_prefix!r} and is held by {min_positives} "
            f"recordings or more; it has {abbreviate_names(sorted(counts), 10)}."
        )
    return tuple(sorted(chosen, key=lambda name: (-counts[name], name)))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()
