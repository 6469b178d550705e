"""The store: a folder of embeddings and tags, appended to track by track.

    store.json           what all rows share: the model and its fingerprint, labels, widths
    tracks.jsonl         a line per track: path, sha256 of the file, size, mtime_ns, seconds,
                         chunks, first_chunk (its row in the arrays of chunks)
    embeddings.npy       float32 (tracks, width), the mean over a track's chunks
    probabilities.npy    float32 (tracks, labels), as the network gives them, not calibrated
    places.jsonl         what became of files later: {"row", "path", ...} it is also there,
                         {"row", "gone": path} it is there no more
    chunk_spans.npy      float64 (chunks, 2), start and end in seconds    } only with
    chunk_embeddings.npy, chunk_probabilities.npy                         } per_chunk

A track exists once its line does: rows are written first, the line last. Data beyond the last
complete line belong to a killed append; readers ignore them, and the next writer truncates them.
Appended tracks survive the death of the process immediately, and a power failure once the writer
has been closed. One process writes at a time (the caller ensures that), any number read.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from musrep_jax.runtime.closing import Closing
from musrep_jax.runtime.files import sync_folder, write_json
from musrep_jax.runtime.names import list_forms
from musrep_jax.store.arrays import ArrayFileError, GrowingArray, open_array
from musrep_jax.store.files import (
    FORMAT,
    LOCATIONS_FILE,
    STORE_METADATA_FILE,
    TRACKS_FILE,
    FileLocations,
    LineIndex,
    StoreError,
    format_json_line,
    get_array_layouts,
    parse_track,
    read_complete_lines,
    read_store_metadata,
    truncate_lines,
)


class Store:
    """A store, for reading; only the lines of tracks are loaded.

    Attributes:
        path: the folder.
        about: what all rows share, as in `store.json`.
        embeddings: float32 (tracks, width), mapped.
        probabilities: float32 (tracks, labels), mapped.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Opens a store.

        Args:
            path: of the folder.

        Raises:
            StoreError: if it is none, or of a later format.
        """
        self.path = pathlib.Path(path)
        self.about = read_store_metadata(self.path)
        arrays = self._open_arrays()
        num_lines = len(LineIndex(self.path / TRACKS_FILE, _ALL))
        if num_lines > _count_tracks(arrays):  # another process appends, or a file was replaced
            arrays = self._open_arrays()
        if num_lines > _count_tracks(arrays):
            raise StoreError(
                f"{self.path} is a damaged store: {TRACKS_FILE} has {num_lines} tracks, and the "
                f"arrays have {_count_tracks(arrays)} rows; copy it again, or embed again."
            )
        self._lines = LineIndex(self.path / TRACKS_FILE, _count_tracks(arrays))
        self.embeddings = arrays["embeddings"][: len(self)]
        self.probabilities = arrays["probabilities"][: len(self)]
        self._chunks = arrays
        self._places = FileLocations(self.path)

    def _open_arrays(self) -> dict[str, np.ndarray]:
        try:
            return {
                name: open_array(self.path / f"{name}.npy", row, dtype)
                for name, (row, dtype) in get_array_layouts(self.about).items()
            }
        except (ArrayFileError, FileNotFoundError) as error:
            raise StoreError(f"{self.path} is a damaged store: {error}.") from error

    def _parse(self, row: int) -> dict[str, Any]:
        """Returns what the line of a track says."""
        return parse_track(self._lines[row], f"line {row + 1} of {self.path / TRACKS_FILE}")

    def __len__(self) -> int:
        """Returns the number of rows, those of files that are gone included."""
        return len(self._lines)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the columns of `probabilities`."""
        return tuple(self.about["labels"])

    def line(self, row: int) -> bytes:
        """Returns the line of a track as it was written; it never changes.

        Args:
            row: of the track.
        """
        return self._lines[row]

    def track(self, row: int) -> dict[str, Any]:
        """Returns the metadata of a track: its line, with the current `path`.

        Args:
            row: of the track.
        """
        track = self._parse(row)
        places = self._places.of(row, track["path"]) or [track["path"]]
        return {**track, "path": places[0], "also": places[1:]}

    def tracks(self) -> Iterator[dict[str, Any]]:
        """Yields all tracks, as `track` does."""
        return map(self.track, range(len(self)))

    def find(self, path: str) -> int | None:
        """Returns the row of a path, or None.

        Args:
            path: as it was given to `StoreWriter.add`, or in another Unicode form.
        """
        rows = (self._find_as_written(form) for form in list_forms(path))
        return next((row for row in rows if row is not None), None)

    def _find_as_written(self, path: str) -> int | None:
        for row, places in self._places.added.items():
            if path in places and row < len(self):
                return row
        start = f'{{"path": {format_json_line(path)}, '.encode()
        row = max(self._lines.find_starting_with(start), default=None)
        return row if row is not None and path in self._places.of(row, path) else None

    def find_by_content(self, sha256: str) -> int | None:
        """Returns the row of a file with this content, or None.

        Args:
            sha256: of the content.
        """
        key = f'"sha256": "{sha256}"'.encode()
        return next(self._lines.find_containing(key), None)

    def find_by_suffix(self, ending: str) -> list[int]:
        """Returns the rows whose path ends in some names, such as "ney/taksim_01.flac".

        Args:
            ending: whole names, with or without the folders before and the suffix after; in any
                Unicode form.
        """
        return sorted({row for form in list_forms(ending) for row in self._find_ending(form)})

    def _find_ending(self, ending: str) -> list[int]:
        asked = format_json_line(ending)[1:-1].encode()
        likely = set(self._lines.find_containing(asked))
        likely |= {row for row in self._places.added if row < len(self)}
        found = []
        for row in sorted(likely):
            paths = self._places.of(row, self._parse(row)["path"])
            if any(f"/{ending}" in (p[-len(ending) - 1 :], _stem(p)[-len(ending) - 1 :])
                   for p in paths):  # fmt: skip
                found.append(row)
        return found

    def is_present(self) -> np.ndarray:
        """Returns for every row whether its file exists somewhere: bool (tracks,)."""
        present = np.ones(len(self), bool)
        for row in self._places.gone:
            if row < len(self):
                present[row] = bool(self._places.of(row, self._parse(row)["path"]))
        return present

    def chunks(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the chunks of a track: spans in seconds, embeddings, probabilities.

        Args:
            row: of the track.

        Raises:
            StoreError: if the store has none.
        """
        if not self.about["per_chunk"]:
            raise StoreError(f"{self.path} holds no chunks: it was made without --per-chunk.")
        track = self._parse(row)
        part = slice(track["first_chunk"], track["first_chunk"] + track["chunks"])
        names = ("chunk_spans", "chunk_embeddings", "chunk_probabilities")
        if any(len(self._chunks[name]) < part.stop for name in names):
            raise StoreError(
                f"{self.path} is a damaged store: the chunks of line {row + 1} of {TRACKS_FILE} "
                "are not all there; copy it again."
            )
        spans, embeddings, probabilities = (self._chunks[name][part] for name in names)
        return spans, embeddings, probabilities


class StoreWriter(Closing):
    """Appends tracks to a store, which it creates if needed.

    Attributes:
        about: what all rows share.
    """

    def __init__(self, path: str | os.PathLike, about: Mapping[str, Any]) -> None:
        """Opens a store for appending; the leftovers of a killed append are truncated.

        Args:
            path: of the folder.
            about: `model` (its fingerprint), `labels`, `width` (of embeddings), `per_chunk`, and
                whatever else is worth telling, as JSON values.

        Raises:
            StoreError: if the folder holds something else, or a store of another model.
        """
        self.path = pathlib.Path(path)
        self.about = {"format": FORMAT, **about}
        self._create()
        arrays = get_array_layouts(self.about)
        try:
            self._arrays = {
                name: GrowingArray(self.path / f"{name}.npy", row, dtype)
                for name, (row, dtype) in arrays.items()
            }
        except ArrayFileError as error:
            raise StoreError(str(error)) from error
        self._recover()
        self._tracks = open(self.path / TRACKS_FILE, "ab")  # noqa: SIM115
        self._locations = open(self.path / LOCATIONS_FILE, "ab")  # noqa: SIM115

    def _create(self) -> None:
        if (self.path / STORE_METADATA_FILE).exists():
            found = read_store_metadata(self.path)
            for key, what in (("model", "was made with another model"),
                              ("per_chunk", "was made with another --per-chunk")):  # fmt: skip
                if found.get(key) != self.about[key]:
                    name = f" ({found['name']})" if key == "model" and "name" in found else ""
                    raise StoreError(
                        f"the store {self.path} {what}{name}: give the same, or another --store."
                    )
            self.about = found
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise StoreError(f"{self.path} exists and is no store: choose another place.")
        self.path.mkdir(parents=True, exist_ok=True)
        # Written last, so that only a complete folder counts as a store.
        write_json(self.path / STORE_METADATA_FILE, self.about)

    def _recover(self) -> None:
        """Truncates lines and rows to the same number."""
        lines = read_complete_lines(self.path / TRACKS_FILE)
        per_track = [a for name, a in self._arrays.items() if not name.startswith("chunk_")]
        per_chunk = [a for name, a in self._arrays.items() if name.startswith("chunk_")]
        num = min(len(lines), *(array.num_rows for array in per_track))
        file = self.path / TRACKS_FILE
        tracks = [parse_track(line, f"line {number} of {file}")
                  for number, line in enumerate(lines[:num], start=1)]  # fmt: skip
        while per_chunk and num and _end(tracks[num - 1]) > min(a.num_rows for a in per_chunk):
            num -= 1
        del tracks[num:]
        self._num_chunks = _end(tracks[-1]) if tracks else 0
        for array in per_track:
            array.cut(num)
        for array in per_chunk:
            array.cut(self._num_chunks)
        truncate_lines(self.path / TRACKS_FILE, lines[:num])
        truncate_lines(self.path / LOCATIONS_FILE, read_complete_lines(self.path / LOCATIONS_FILE))
        places = FileLocations(self.path)
        self._by_sha256 = {track["sha256"]: row for row, track in enumerate(tracks)}
        self._by_path: dict[str, tuple[int, int, int]] = {}
        self._paths: dict[int, list[str]] = {}
        for row, track in enumerate(tracks):
            added = places.added.get(row, {})
            for path in places.of(row, track["path"]):
                size, mtime_ns = added.get(path, (track["size"], track["mtime_ns"]))
                self._take(path, row, size, mtime_ns)

    def _take(self, path: str, row: int, size: int, mtime_ns: int) -> None:
        self._by_path[path] = (row, size, mtime_ns)
        self._paths.setdefault(row, []).append(path)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._arrays["embeddings"].num_rows

    def has(self, path: str, size: int, mtime_ns: int) -> bool:
        """Returns whether this file is stored and unchanged, so that it need not be read."""
        known = self._by_path.get(path)
        return known is not None and known[1:] == (size, mtime_ns)

    def has_content(self, sha256: str) -> bool:
        """Returns whether a file with this content is stored, under any name."""
        return sha256 in self._by_sha256

    def record_location(
        self,
        path: str,
        sha256: str,
        size: int,
        mtime_ns: int,
        path_exists: Callable[[str], bool] = os.path.exists,
    ) -> None:
        """Records that stored content was found at a location, or moved to it.

        Args:
            path: of the file.
            sha256: of its content.
            size: in bytes.
            mtime_ns: when it was written.
            path_exists: whether a path still leads to a file; other places that do not are dropped.
        """
        row = self._by_sha256[sha256]
        self._record_removal(path)
        for place in list(self._paths.get(row, ())):
            if not path_exists(place):
                self._record_removal(place)
        self._take(path, row, size, mtime_ns)
        self._write_event({"row": row, "path": path, "size": size, "mtime_ns": mtime_ns})

    def add(
        self,
        *,
        path: str,
        sha256: str,
        size: int,
        mtime_ns: int,
        seconds: float,
        spans: np.ndarray,
        embedding: np.ndarray,
        probabilities: np.ndarray,
        chunk_embeddings: np.ndarray,
        chunk_probabilities: np.ndarray,
    ) -> None:
        """Appends a track; once this returns it survives the process.

        Args:
            path: of the file, text that UTF-8 can hold.
            sha256: of its content.
            size: in bytes.
            mtime_ns: when it was written.
            seconds: its length.
            spans: (chunks, 2), start and end in seconds.
            embedding: (width,).
            probabilities: (labels,).
            chunk_embeddings: (chunks, width); kept only with `per_chunk`.
            chunk_probabilities: (chunks, labels); likewise.
        """
        row = len(self)
        rows = {
            "embeddings": embedding[None],
            "probabilities": probabilities[None],
            "chunk_spans": spans,
            "chunk_embeddings": chunk_embeddings,
            "chunk_probabilities": chunk_probabilities,
        }
        for name, array in self._arrays.items():
            array.append(rows[name])
            array.count()
        track = {"path": path, "sha256": sha256, "size": size, "mtime_ns": mtime_ns}
        track |= {"seconds": seconds, "chunks": len(spans), "first_chunk": self._num_chunks}
        self._num_chunks += len(spans)
        self._record_removal(path)
        self._tracks.write(format_json_line(track).encode() + b"\n")
        self._tracks.flush()
        self._by_sha256[sha256] = row
        self._take(path, row, size, mtime_ns)

    def _record_removal(self, path: str) -> None:
        """Records that a path no longer has its earlier content."""
        if path in self._by_path:
            row = self._by_path.pop(path)[0]
            self._paths[row].remove(path)
            self._write_event({"row": row, "gone": path})

    def _write_event(self, event: Mapping[str, Any]) -> None:
        self._locations.write(format_json_line(event).encode() + b"\n")
        self._locations.flush()

    def close(self) -> None:
        """Syncs everything to disk, and closes the files."""
        for file in (self._tracks, self._locations):
            os.fsync(file.fileno())
            file.close()
        for array in self._arrays.values():
            array.close()
        sync_folder(self.path)


_ALL = 2**62


def _count_tracks(arrays: Mapping[str, np.ndarray]) -> int:
    return min(len(array) for name, array in arrays.items() if not name.startswith("chunk_"))


def _stem(path: str) -> str:
    """Returns a path without its suffix."""
    return os.path.splitext(path)[0]


def _end(track: Mapping[str, Any]) -> int:
    """Returns the row after the last chunk of a track."""
    return track["first_chunk"] + track["chunks"]
