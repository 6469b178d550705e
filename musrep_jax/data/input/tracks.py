"""The tracks of one split: labels and lengths in memory, audio read when it is asked for."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.dataset_files import PCM16_SCALE
from musrep_jax.data.input.record_files import RecordFile
from musrep_jax.data.input.track_table import load_or_scan_table
from musrep_jax.data.specs import LABELS, DatasetSpec
from musrep_jax.evaluation.subsets import Size, draw_subset

SILENCE_DECIBELS = -100.0
"""What a log-mel spectrogram is padded with; a waveform is padded with zeros."""
STORED_DTYPES = {"pcm16": np.int16, "encoded": np.float32, "log_mel": np.float16}
"""Stored form -> precision of a track as it is read."""


class TrackStore:
    """Reads one split of a built data set.

    Ids, groups, labels, lengths and where the audio lies are scanned once and kept as an `.npz`
    beside the data, so that opening a large data set later reads no audio. If the whole split fits
    into the memory allowed, decoded tracks are kept as they come by, and nothing is read after the
    first epoch. If not, an excerpt of a `pcm16` or `log_mel` data set is read where it lies,
    without the rest of its track.

    Attributes:
        spec: of the data set.
        track_ids, groups: lists of text, one per track.
        label_matrix: float32 (tracks, classes), 1 where the label holds.
        num_samples: int64 (tracks,), samples at `spec.sample_rate`, or frames.
        targets: further target sets, name -> float32 (tracks, columns).
        texts: one per track; empty if the data set has none.
    """

    def __init__(
        self, directory: pathlib.Path, split: str, spec: DatasetSpec, cache_megabytes: float
    ) -> None:
        """Opens the split.

        Args:
            directory: of the built data set.
            split: one of `spec.split_sizes`.
            spec: of the data set; an `encoded` one is resampled to its `sample_rate`.
            cache_megabytes: memory for decoded audio; 0 keeps none.
        """
        self.directory, self.split, self.spec = pathlib.Path(directory), split, spec
        self.cache_megabytes = cache_megabytes
        self._open()
        table = load_or_scan_table(self.directory, split, spec, lambda: self._source)
        self.track_ids, self.groups = table.track_ids, table.groups
        self.num_samples = table.num_samples
        self.label_matrix = np.zeros((len(self.track_ids), len(spec.label_names)), np.float32)
        self.label_matrix[table.label_rows, table.label_columns] = 1.0
        self.targets, self.texts = dict(table.targets), table.texts
        self._paths, self._places, self._sums = table.paths, table.places, table.sums

    def _open(self) -> None:
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = 0
        self._last: tuple[int, np.ndarray] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out open files and what is cached: a worker process opens its own."""
        state = self.__dict__.copy()
        for name in ("_source", "_files", "_cache", "_cache_bytes", "_last", "_lock"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @functools.cached_property
    def _source(self) -> Sequence[Mapping[str, Any]]:
        # Imported here: a data set with its table next to it can be read without TFDS.
        from musrep_jax.data.build.builder import open_record_source

        return open_record_source(self.directory, self.split)

    @functools.cached_property
    def _files(self) -> list[RecordFile]:
        return [RecordFile(*file) for file in zip(self._paths, self._sums, strict=True)]

    @functools.cached_property
    def is_cacheable(self) -> bool:
        """Whether the whole split, decoded, fits into the memory allowed."""
        width = self.spec.front_end["n_mels"] if self.spec.stored_form == "log_mel" else 1
        return int(self.num_samples.sum()) * 2 * width <= self.cache_megabytes * 1e6

    def hash_content(self) -> dict[str, str]:
        """Returns hashes of ids, labels and groups, of further target sets and texts where there
        are any, and of the records with their audio."""
        parts = {
            "tracks": json.dumps(self.track_ids).encode("utf-8"),
            "labels": np.ascontiguousarray(self.label_matrix, "<f4").tobytes(),
            "groups": json.dumps(self.groups).encode("utf-8"),
            "records": b"".join(np.asarray(sums, "<u4").tobytes() for sums in self._sums),
        }
        for name, rows in self.targets.items():
            parts[f"targets/{name}"] = np.ascontiguousarray(rows, "<f4").tobytes()
        if self.spec.has_texts:
            parts["texts"] = json.dumps(self.texts).encode("utf-8")
        return {name: hashlib.sha256(part).hexdigest()[:16] for name, part in parts.items()}

    def identify_audio(self, row: int) -> str:
        """Returns what tracks of the same audio have in common, in whatever data set they are.

        A hash of the length and of the first, middle and last 64 KiB of what is stored; "" for a
        track whose stored bytes there are all the same, as those of silence are.
        """
        length, size = int(self.num_samples[row]), 1 << 16
        width = 2 * (self.spec.front_end["n_mels"] if self.spec.stored_form == "log_mel" else 1)
        stored = width * length
        if self.spec.stored_form == "encoded":
            stored = int(self._places[row, 2])
        starts = dict.fromkeys((0, max(0, stored - size) // 2, max(0, stored - size)))
        parts = [self._read_stored(row, start, start + size) for start in starts]
        if len(set(b"".join(parts))) < 2:
            return ""
        facts = [self.spec.stored_form, stored, [hashlib.sha256(p).hexdigest() for p in parts]]
        return hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()[:16]

    def read(self, row: int) -> np.ndarray:
        """Returns a whole track in its stored precision: int16, float16, or float32 if decoded."""
        kept = self._cache.get(row)
        if kept is not None:
            return kept
        last = self._last
        if last is not None and last[0] == row:
            return last[1]
        track = self._load(row)
        self._last = (row, track)
        with self._lock:
            if self._cache_bytes + track.nbytes <= self.cache_megabytes * 1e6:
                self._cache_bytes += track.nbytes if row not in self._cache else 0
                self._cache[row] = track
        return track

    def _load(self, row: int) -> np.ndarray:
        """Returns a whole track that is not in memory."""
        stored = self._read_stored(row)
        encoded = self.spec.stored_form == "encoded"
        return self._decode(row, stored) if encoded else self._as_array(stored)

    def _read_stored(self, row: int, first: int = 0, end: int | None = None) -> bytes:
        """Returns bytes [first, end) of what is stored of a track, which may end before."""
        file, place, length = self._places[row].tolist()
        if place < 0:
            return self._source[row]["audio"][first:end]
        wanted = max(0, min(length, length if end is None else end) - first)
        stored = self._files[file].read(place + first, wanted)
        if len(stored) < wanted:
            raise OSError(
                f"{self._paths[file]} has become shorter than it was when it was opened: it does "
                f"not hold all of track {self.track_ids[row]!r} any more; build the data set again."
            )
        return stored

    def _as_array(self, stored: bytes) -> np.ndarray:
        dtype = STORED_DTYPES[self.spec.stored_form]
        if self.spec.stored_form == "log_mel":
            return np.frombuffer(stored, dtype).reshape(-1, self.spec.front_end["n_mels"])
        return np.frombuffer(stored, dtype)

    def _decode(self, row: int, stored: bytes, **crop: int) -> np.ndarray:
        from musrep_jax.data.audio.reading import read_audio

        name = self.track_ids[row]
        return read_audio(stored, sample_rate=self.spec.sample_rate, name=name, **crop)[0]

    def _read_excerpt(self, row: int, start: int, length: int, whole: bool) -> np.ndarray:
        """Returns what there is of an excerpt, in stored precision; see `crop`."""
        if self.is_cacheable or row in self._cache:
            return self.read(row)[start : start + length]
        if self.spec.stored_form == "encoded":
            if whole:
                return self.read(row)[start : start + length]
            return self._decode(row, self._read_stored(row), start=start, num_frames=length)
        if self._places[row, 1] < 0:
            return self.read(row)[start : start + length]
        width = self.spec.front_end["n_mels"] if self.spec.stored_form == "log_mel" else 1
        return self._as_array(
            self._read_stored(row, 2 * width * start, 2 * width * (start + length))
        )

    def crop(
        self,
        row: int,
        start: int,
        length: int,
        whole: bool = False,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns an excerpt, padded at its end where the track is over.

        Args:
            row: of the track.
            start: first sample (or frame).
            length: in samples (or frames).
            whole: decode the whole track of an `encoded` data set, because more crops follow.
            out: where to write it, (length,) or (length, n_mels), float32 or as it is stored; None
                for a new array.

        Returns:
            float32 (length,) or (length, n_mels), or `out`.
        """
        excerpt = self._read_excerpt(row, start, length, whole)
        crop = np.empty((length, *excerpt.shape[1:]), np.float32) if out is None else out
        if self.spec.stored_form == "pcm16" and crop.dtype != np.int16:
            np.multiply(excerpt, np.float32(1.0 / PCM16_SCALE), out=crop[: len(excerpt)])
        else:
            crop[: len(excerpt)] = excerpt
        crop[len(excerpt) :] = SILENCE_DECIBELS if self.spec.stored_form == "log_mel" else 0.0
        return crop


class Tracks(Sequence):
    """The tracks of a split, or some of them. `tracks[i]` is the track id.

    Attributes:
        spec: the `DatasetSpec`.
        split: the split they belong to.
        label_matrix: float32 (tracks, classes), what batches hold as `labels`: the rows of the
            target set that was chosen, see `with_targets`.
        track_ids: list of text.
        groups: list of text.
        num_samples: int64 (tracks,), at `spec.sample_rate`; frames of a `log_mel` data set.
    """

    def __init__(
        self,
        store: TrackStore,
        rows: np.ndarray | None = None,
        target_set: str = LABELS,
        columns: np.ndarray | None = None,
    ) -> None:
        """Takes the given rows of a store.

        Args:
            store: of the split.
            rows: int (tracks,); None takes all.
            target_set: whose rows are the labels.
            columns: int (labels,), those of the target set that are labels; None takes all.
        """
        self.store, self.spec, self.split = store, store.spec, store.split
        self.target_set = target_set
        self.rows = np.arange(len(store.track_ids)) if rows is None else np.asarray(rows, np.int64)
        self.columns = columns
        self.label_matrix = self.targets(target_set)
        names = store.spec.target_names(target_set)
        if columns is not None:
            self.label_matrix = self.label_matrix[:, columns]
            names = tuple(names[column] for column in columns)
        if names != store.spec.label_names:
            self.spec = dataclasses.replace(store.spec, label_names=names)
        self.num_samples = store.num_samples[self.rows]
        self.track_ids = [store.track_ids[row] for row in self.rows]
        self.groups = [store.groups[row] for row in self.rows]

    def targets(self, name: str = LABELS) -> np.ndarray:
        """Returns the rows of a target set, float32 (tracks, columns); they may be soft.

        Args:
            name: one of the spec's `target_sets`, or "labels".

        Raises:
            ValueError: if there is none of that name; the message lists those there are.
        """
        self.store.spec.target_names(name)  # raises
        matrix = self.store.label_matrix if name == LABELS else self.store.targets[name]
        return matrix[self.rows]

    @property
    def texts(self) -> list[str]:
        """The text of each track, "" where it has none.

        Raises:
            ValueError: if the data set has no texts.
        """
        if not self.spec.has_texts:
            raise ValueError(f"data set {self.spec.name!r} has no texts.")
        return [self.store.texts[row] for row in self.rows]

    def with_targets(self, name: str) -> "Tracks":
        """Returns the same tracks with another target set for labels, in batches too.

        Args:
            name: one of the spec's `target_sets`, or "labels".

        Raises:
            ValueError: if there is none of that name; the message lists those there are.
        """
        return self._take(self.rows, self.num_samples, name)

    def only_labels(self, columns: Sequence[int]) -> "Tracks":
        """Returns the tracks that have at least one of some labels, with these labels alone.

        Args:
            columns: of the labels in `label_matrix`.
        """
        chosen = np.asarray(columns, np.int64)
        kept = np.flatnonzero(self.label_matrix[:, chosen].any(axis=1))
        if self.columns is not None:
            chosen = self.columns[chosen]
        return self._take(self.rows[kept], self.num_samples[kept], self.target_set, chosen)

    def take(self, indices: np.ndarray) -> "Tracks":
        """Returns some of the tracks.

        Args:
            indices: int (taken,), of the tracks.
        """
        return self._take(self.rows[indices], self.num_samples[indices])

    def _take(
        self,
        rows: np.ndarray,
        num_samples: np.ndarray,
        target_set: str | None = None,
        columns: np.ndarray | None = None,
    ) -> "Tracks":
        """Returns tracks of the same store, with lengths of their own: they may be capped."""
        if target_set is None:
            target_set, columns = self.target_set, self.columns
        tracks = Tracks(self.store, rows, target_set, columns)
        tracks.num_samples = num_samples
        return tracks

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> str:
        return self.track_ids[index]

    def __repr__(self) -> str:
        return f"Tracks({self.spec.name}, {self.split}, {len(self)} tracks)"

    def crop(
        self,
        index: int,
        start: int,
        length: int,
        *,
        whole: bool = False,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns an excerpt of a track; only what is needed is decoded.

        Args:
            index: of the track, 0 to `len(self) - 1`.
            start: first sample (or frame) of the excerpt.
            length: of the excerpt. Past the end of the track follow zeros (or -100 dB).
            whole: a hint that more excerpts of this track follow.
            out: where to write it, such as a row of a batch; None for a new array.

        Returns:
            float32 (length,), or (length, n_mels) for a `log_mel` data set; or `out`.
        """
        return self.store.crop(int(self.rows[index]), int(start), int(length), whole, out)

    def empty_batch(self, batch_size: int, length: int, *, as_stored: bool = False) -> np.ndarray:
        """Returns room for crops.

        Args:
            batch_size: number of crops.
            length: of each, in samples (or frames).
            as_stored: in the precision of the data set: int16 if it is `pcm16`, float16 if it is
                `log_mel`.

        Returns:
            float32 (batch_size, length), or (batch_size, length, n_mels) for a `log_mel` data set;
            not filled.
        """
        dtype = STORED_DTYPES[self.spec.stored_form] if as_stored else np.float32
        width = (self.spec.front_end["n_mels"],) if self.spec.stored_form == "log_mel" else ()
        return np.empty((batch_size, length, *width), dtype)

    def capped(self, max_seconds: float | None) -> "Tracks":
        """Returns the same tracks as if they ended after `max_seconds`; None changes nothing.

        Args:
            max_seconds: what is used of a recording, from its start.
        """
        if max_seconds is None:
            return self
        per_second = float(self.spec.sample_rate)
        if self.spec.stored_form == "log_mel":
            per_second /= self.spec.front_end["hop_length"]
        longest = max(1, int(max_seconds * per_second))
        return self._take(self.rows, np.minimum(self.num_samples, longest))

    def subset(self, size: Size | None, seed: int = 0) -> "Tracks":
        """Returns some of the tracks; of one seed, a smaller subset lies within every larger one.

        Args:
            size: how many, or how many of every label, such as "10_per_class": see
                `musrep_jax.evaluation.subsets`; None and 0 are all.
            seed: of the order.

        Raises:
            ValueError: if more tracks than there are are asked for.
        """
        if not size:
            return self
        try:
            rows = draw_subset(self.label_matrix, size, seed, self.track_ids)
        except ValueError as error:
            raise ValueError(f"Split {self.split!r} of {self.spec.name!r}: {error}") from error
        return self._take(self.rows[rows], self.num_samples[rows])
