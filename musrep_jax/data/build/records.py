"""Tracks during a build: as a builder creates them, and as they are stored.

| feature     | stored as                                                                      |
|-------------|--------------------------------------------------------------------------------|
| track_id    | text                                                                           |
| group       | text: performer, recording or artist; splits must not share one                |
| audio       | `pcm16`: int16 (samples,); `encoded`: the file's bytes; `log_mel`: float16     |
|             | (frames, n_mels) in dB                                                         |
| num_samples | int64: samples at the stored rate, or frames of a `log_mel` data set           |
| labels      | sequence of class indices                                                      |
| targets     | where the spec has further target sets: name -> float32 (columns,)             |
| text        | where the spec has texts: text, "" of a track without one                      |
"""

import dataclasses
import errno
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from musrep_jax.data.build.shards import Piece
from musrep_jax.data.dataset_files import to_pcm16
from musrep_jax.data.specs import DatasetSpec


class BuildError(ValueError):
    """A data set cannot be built from its files; the message is one sentence that says why."""


@dataclasses.dataclass(frozen=True)
class TrackRecord:
    """One track as a builder yields it.

    Attributes:
        track_id: unique in the data set.
        group: performer, recording or artist; tracks of one group stay in one split.
        labels: names from the spec's `label_names`; may be empty.
        audio: float waveform (samples,) for `pcm16`, the file's bytes for `encoded`, float array
            (frames, n_mels) in dB for `log_mel`.
        num_samples: needed for `encoded` only: decoded length at the spec's sample rate.
        targets: one entry for each of the spec's `target_sets`: the names of the columns that hold,
            or a value for each column, float (columns,).
        text: of a data set that has texts; "" where this track has none.
    """

    track_id: str
    group: str
    labels: Sequence[str]
    audio: np.ndarray | bytes
    num_samples: int | None = None
    targets: Mapping[str, Sequence[str] | np.ndarray] = dataclasses.field(default_factory=dict)
    text: str = ""


@dataclasses.dataclass(frozen=True)
class RefusedTrack:
    """A track that is left out of the data set; it is listed in the build report.

    Attributes:
        path: the file, as the user knows it.
        reason: one sentence.
    """

    path: str
    reason: str


class TrackCodec:
    """How tracks become records, and records a file that TFDS reads; picklable."""

    def __init__(self, spec: DatasetSpec) -> None:
        """Takes the spec of the data set."""
        self.spec = spec

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what is made on use."""
        return {"spec": self.spec}

    @functools.cached_property
    def _features(self) -> tfds.features.FeaturesDict:
        return track_features(self.spec)

    @functools.cached_property
    def _serializer(self) -> tfds.core.example_serializer.ExampleSerializer:
        info = self._features.get_serialized_info()
        return tfds.core.example_serializer.ExampleSerializer(info)

    def encode(self, track_id: str, made: TrackRecord | RefusedTrack) -> Piece:
        """Loads a planned track and returns it in its stored form.

        Args:
            track_id: of the planned track.
            made: by the loader.

        Raises:
            BuildError: if the loader made another track, or gave it an unknown label.
        """
        if isinstance(made, RefusedTrack):
            return Piece(track_id, refused=made.path, reason=made.reason)
        if made.track_id != track_id:
            raise BuildError(
                f"the loader of data set {self.spec.name!r} made the track {made.track_id!r} where "
                f"{track_id!r} was planned."
            )
        example, factor, reason = make_example(made, self.spec)
        if reason:
            return Piece(track_id, refused=track_id, reason=reason)
        encoded = self._serializer.get_tf_example(self._features.encode_example(example))
        # Else the order of the features would differ from one process to the next.
        return Piece(track_id, encoded.SerializeToString(deterministic=True), factor)

    def write(self, path: pathlib.Path, records: Iterable[bytes]) -> None:
        """Writes a file of records.

        Args:
            path: of the file.
            records: serialized examples.

        Raises:
            OSError: if it cannot be written.
        """
        # As TFDS does, but uncompressed: a crop can then be read where it lies, and waveforms
        # hardly shrink.
        options = "group_size:1,uncompressed"
        try:
            writer = array_record_module.ArrayRecordWriter(str(path), options)
            for record in records:
                writer.write(record)
            writer.close()
        except RuntimeError as error:
            # The library's only error; it says "No space left on device" in words.
            full = os.strerror(errno.ENOSPC) in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error


def track_features(spec: DatasetSpec) -> tfds.features.FeaturesDict:
    """Returns the TFDS features of a data set; see the table at the head of this file."""
    if spec.stored_form == "encoded":
        audio = tfds.features.Scalar(np.object_)
    elif spec.stored_form == "pcm16":
        audio = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    else:
        n_mels = int(spec.front_end["n_mels"])
        audio = tfds.features.Tensor(shape=(None, n_mels), dtype=np.float16, encoding="bytes")
    optional: dict[str, Any] = {}
    if spec.target_sets:
        optional["targets"] = {
            name: tfds.features.Tensor(shape=(len(columns),), dtype=np.float32)
            for name, columns in spec.target_sets.items()
        }
    if spec.has_texts:
        optional["text"] = tfds.features.Text()
    return tfds.features.FeaturesDict(
        {
            "track_id": tfds.features.Text(),
            "group": tfds.features.Text(),
            "audio": audio,
            "num_samples": tfds.features.Scalar(np.int64),
            "labels": tfds.features.Sequence(
                tfds.features.ClassLabel(names=list(spec.label_names))
            ),
            **optional,
        }
    )


def make_example(track: TrackRecord, spec: DatasetSpec) -> tuple[dict[str, Any], float, str]:
    """Returns (example, factor the waveform was scaled by, reason for refusing it or "")."""
    factor = 1.0
    if spec.stored_form == "encoded":
        audio, num_samples = track.audio, track.num_samples
        if not audio or not num_samples:
            return {}, factor, "it holds no audio."
    else:
        audio = np.asarray(track.audio, np.float32)
        num_samples = len(audio)
        if not num_samples:
            return {}, factor, "it holds no audio."
        if not np.isfinite(audio).all():
            return {}, factor, "it holds values that are not finite."
        if spec.stored_form == "log_mel":
            audio = audio.astype(np.float16)
        else:
            audio, factor = to_pcm16(audio)
    unknown = sorted(set(track.labels) - set(spec.label_names))
    if unknown:
        raise BuildError(
            f"track {track.track_id!r} of data set {spec.name!r} has the label {unknown[0]!r}, "
            "which is not among the label names of the spec."
        )
    example = {
        "track_id": track.track_id,
        "group": track.group,
        "audio": audio,
        "num_samples": int(num_samples),
        "labels": list(track.labels),
    }
    if spec.target_sets:
        example["targets"] = {name: _target_row(track, name, spec) for name in spec.target_sets}
    if spec.has_texts:
        example["text"] = track.text
    return example, factor, ""


def _target_row(track: TrackRecord, name: str, spec: DatasetSpec) -> np.ndarray:
    """Returns a track's row of a target set, float32 (columns,)."""
    columns, given = spec.target_names(name), track.targets.get(name)
    where = f"track {track.track_id!r} of data set {spec.name!r}"
    if given is None:
        raise BuildError(f"{where} has nothing for the target set {name!r}; give a row for each.")
    if not isinstance(given, np.ndarray):
        unknown = sorted(set(given) - set(columns))
        if unknown:
            raise BuildError(
                f"{where} has {unknown[0]!r} in the target set {name!r}, which is not among its "
                "columns."
            )
        return np.array([column in given for column in columns], np.float32)
    row = np.asarray(given, np.float32)
    if row.shape != (len(columns),) or not np.isfinite(row).all():
        raise BuildError(
            f"{where} has a row of shape {row.shape} for the target set {name!r}; expected "
            f"{len(columns)} finite values."
        )
    return row
