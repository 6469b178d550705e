"""The tracks of a split, deformed when they are first read."""

import dataclasses
import hashlib
import json
import pathlib
import sys

import numpy as np

from musrep_jax.data.deformed.deformations import (
    VERSION,
    Deformation,
    DeformationError,
    deform,
)
from musrep_jax.data.input.tracks import TrackStore
from musrep_jax.runtime.files import replace_file

FOLDER = "deformed"
"""In the folder of a data set: `KEY/SPLIT/ROW.npy`, float32 (samples,)."""


class DeformedStore(TrackStore):
    """A split whose tracks are deformed as wholes, at the rate at which they are read.

    Lengths are those after the deformation, so that chunks are cut from what there is: a track that
    has become shorter than a chunk is one chunk, followed by zeros, like any short track.

    Args:
        store: of the split as it is, with audio.
        deformation: of every track.
        seed: of noise; each track draws its own.
        keeps: whether deformed tracks are also kept in a folder beside the data, for later runs.
    """

    def __init__(
        self, store: TrackStore, deformation: Deformation, seed: int = 0, *, keeps: bool = False
    ) -> None:
        self.base, self.deformation, self.seed, self.keeps = store, deformation, seed, keeps
        self.directory, self.split = store.directory, store.split
        self.spec = dataclasses.replace(store.spec, stored_form="encoded")
        self.cache_megabytes = store.cache_megabytes
        self.track_ids, self.groups = store.track_ids, store.groups
        self.num_samples = deformation.change_length(store.num_samples)
        self.label_matrix, self.targets, self.texts = store.label_matrix, store.targets, store.texts
        self._open()

    def hash_content(self) -> dict[str, str]:
        """See `TrackStore.hash_content`: the hash of the records covers how they are deformed."""
        found = self.base.hash_content()
        facts = [found["records"], self.deformation.name, self.seed, VERSION]
        return {**found, "records": _hash(facts)}

    def identify_audio(self, row: int) -> str:
        """See `TrackStore.identify_audio`: of the recording before it was deformed."""
        return self.base.identify_audio(row)

    def _load(self, row: int) -> np.ndarray:
        path = self._make_path(row) if self.keeps else None
        track = None if path is None else _read(path)
        if track is None:
            track = self._deform(row)
            if path is not None:
                _write(path, track)
        return track

    def _deform(self, row: int) -> np.ndarray:
        length = int(self.base.num_samples[row])
        name, rate = self.track_ids[row], self.spec.sample_rate
        seed = int(_hash([self.seed, name]), 16)
        try:
            return deform(self.base.crop(row, 0, length, whole=True), rate, self.deformation, seed)
        except DeformationError as error:
            raise DeformationError(f"track {name!r} of {self.spec.name!r}: {error}") from error

    def _read_excerpt(self, row: int, start: int, length: int, whole: bool) -> np.ndarray:
        return self.read(row)[start : start + length]

    def _make_path(self, row: int) -> pathlib.Path:
        """Returns where a deformed track is kept; the name says all that it follows from."""
        if not hasattr(self, "_key"):
            self._key = _hash([self.hash_content()["records"], self.spec.sample_rate])
        return self.directory / FOLDER / self._key / self.split / f"{row}.npy"


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()[:16]


def _read(path: pathlib.Path) -> np.ndarray | None:
    """Returns a track that is kept; of a file that is not there or damaged, None."""
    try:
        track = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, OSError, EOFError) as error:
        print(f"{path} is damaged ({error}): its track is deformed again", file=sys.stderr)
        return None
    return track if track.ndim == 1 and track.dtype == np.float32 else None


def _write(path: pathlib.Path, track: np.ndarray) -> None:
    """Keeps a track, unless the folder takes none."""
    try:
        with replace_file(path, is_synced=False) as temporary, temporary.open("wb") as file:
            np.save(file, track)
    except OSError as error:  # a data set for reading only, a full disk: work goes on without
        print(f"deformed tracks are not kept in {path.parent}: {error.strerror}", file=sys.stderr)
