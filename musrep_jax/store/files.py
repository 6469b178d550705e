"""The files next to a store's arrays: JSON, JSON lines, and events of files."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

FORMAT = 1
STORE_METADATA_FILE, TRACKS_FILE, LOCATIONS_FILE = "store.json", "tracks.jsonl", "places.jsonl"


class StoreError(ValueError):
    """A store cannot be opened or does not fit; the message is one sentence."""


def read_store_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Returns `store.json` of a store.

    Args:
        path: of the store.

    Raises:
        StoreError: if it is none, or of a later format.
    """
    try:
        about = json.loads((path / STORE_METADATA_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{path} is no store: make one with `musrep embed MODEL FOLDER --store {path}`."
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path / STORE_METADATA_FILE} is damaged: {error}.") from error
    if not isinstance(about, dict):
        raise StoreError(f"{path / STORE_METADATA_FILE} is damaged: it holds no JSON object.")
    if about.get("format") != FORMAT:
        raise StoreError(
            f"{path} has format {about.get('format')!r}; this version of musrep_jax reads {FORMAT}."
        )
    labels = about.get("labels")
    are_labels = isinstance(labels, list) and all(isinstance(x, str) and x for x in labels)
    for field, is_right, words in (
        ("model", isinstance(about.get("model"), str), "text"),
        ("width", _is_count(about.get("width"), 1_000_000), "a whole number"),
        ("labels", are_labels and len(set(labels)) == len(labels), "a list of different texts"),
        ("per_chunk", isinstance(about.get("per_chunk"), bool), "true or false"),
    ):
        if not is_right:
            raise StoreError(
                f"{path / STORE_METADATA_FILE} is damaged: {field} is {about.get(field)!r:.80}; it "
                f"must be {words}."
            )
    return about


def parse_track(line: bytes, where: str) -> dict[str, Any]:
    """Returns what a line says of a track.

    Args:
        line: of `tracks.jsonl`.
        where: file and line, for messages.

    Raises:
        StoreError: if it is no track.
    """
    track = _parse_object(line, where)
    seconds = track.get("seconds")
    is_right = (
        all(isinstance(track.get(key), str) for key in ("path", "sha256"))
        and all(_is_count(track.get(key)) for key in ("size", "chunks", "first_chunk"))
        and type(track.get("mtime_ns")) is int
        and type(seconds) in (int, float) and 0 <= seconds < 1e9
    )  # fmt: skip
    if not is_right:
        raise StoreError(f"{where} is damaged: it does not say of a track what it should.")
    return track


def _parse_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error}.") from error
    if not isinstance(found, dict):
        raise StoreError(f"{where} is damaged: it is no JSON object.")
    return found


def _is_count(value: Any, most: int = 2**62) -> bool:
    return type(value) is int and 0 <= value <= most


def get_array_layouts(about: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns the name of every array of a store, with the shape of its rows and their type."""
    width, num_labels = int(about["width"]), len(about["labels"])
    rows = {"embeddings": ((width,), "<f4"), "probabilities": ((num_labels,), "<f4")}
    if about["per_chunk"]:
        rows["chunk_spans"] = ((2,), "<f8")
        rows |= {f"chunk_{name}": row for name, row in rows.items() if name != "chunk_spans"}
    return rows


def format_json_line(value: Any) -> str:
    """Returns a value as the JSON of a line; `Store.find` relies on there being one form only."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_complete_lines(path: pathlib.Path) -> list[bytes]:
    """Returns the lines of a file without what follows the last line break; [] without a file."""
    if not path.exists():
        return []
    return path.read_bytes().split(b"\n")[:-1]


class LineIndex:
    """The complete lines of a file, read at once and searchable; none without a file."""

    def __init__(self, path: pathlib.Path, most: int) -> None:
        """Reads the file.

        Args:
            path: of the file.
            most: lines after which it is not read.
        """
        self._text = path.read_bytes() if path.exists() else b""
        breaks = np.flatnonzero(np.frombuffer(self._text, np.uint8) == ord("\n"))[:most]
        self._starts = np.concatenate([[0], breaks + 1])

    def __len__(self) -> int:
        """Returns the number of lines."""
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> bytes:
        """Returns a line without its line break."""
        return self._text[self._starts[row] : self._starts[row + 1] - 1]

    def find_containing(self, text: bytes) -> Iterator[int]:
        """Yields the numbers of the lines that contain a text without line breaks, in order."""
        position, end = 0, int(self._starts[-1])
        while position < end and (position := self._text.find(text, position, end)) >= 0:
            row = int(np.searchsorted(self._starts, position, "right")) - 1
            yield row
            position = int(self._starts[row + 1])

    def find_starting_with(self, text: bytes) -> Iterator[int]:
        """Yields the numbers of the lines that begin with a text."""
        return (row for row in self.find_containing(text) if self[row].startswith(text))


def truncate_lines(path: pathlib.Path, lines: Sequence[bytes]) -> None:
    """Truncates a file after its first lines; creates the file if it does not exist.

    Args:
        path: of the file.
        lines: that stay.
    """
    with open(path, "ab") as file:
        file.truncate(sum(map(len, lines)) + len(lines))


@dataclasses.dataclass(frozen=True)
class FileIdentity:
    """The identity of a file.

    Attributes:
        sha256: of its content.
        size: in bytes.
        mtime_ns: its modification time.
    """

    sha256: str
    size: int
    mtime_ns: int


def identify_file(path: str) -> FileIdentity:
    """Returns the identity of a file; raises OSError if it cannot be read.

    Args:
        path: of the file.
    """
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        return FileIdentity(
            hashlib.file_digest(file, "sha256").hexdigest(), stat.st_size, stat.st_mtime_ns
        )


class FileLocations:
    """The current locations of tracks' files, from events that follow their lines, in order."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the events of a store.

        Args:
            path: of the store.
        """
        self.added: dict[int, dict[str, tuple[int, int]]] = {}
        self.gone: dict[int, set[str]] = {}
        file = path / LOCATIONS_FILE
        for number, line in enumerate(read_complete_lines(file), start=1):
            event = _parse_object(line, where := f"line {number} of {file}")
            row, place = event.get("row"), event.get("gone", event.get("path"))
            is_right = _is_count(row) and isinstance(place, str) and (
                "gone" in event
                or all(type(event.get(key)) is int for key in ("size", "mtime_ns"))
            )  # fmt: skip
            if not is_right:
                raise StoreError(f"{where} is damaged: it does not say where a file is.")
            if "gone" in event:
                self.gone.setdefault(row, set()).add(event["gone"])
                self.added.get(row, {}).pop(event["gone"], None)
            else:
                self.gone.get(row, set()).discard(event["path"])
                found = (event["size"], event["mtime_ns"])
                self.added.setdefault(row, {})[event["path"]] = found

    def of(self, row: int, first: str) -> list[str]:
        """Returns the locations of a row's file; none if other content has replaced it.

        Args:
            row: of the track.
            first: the path in its line.
        """
        gone = self.gone.get(row, ())
        return [p for p in dict.fromkeys((first, *self.added.get(row, ()))) if p not in gone]
