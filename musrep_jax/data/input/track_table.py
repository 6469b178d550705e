"""What is known of the tracks of a split without their audio, and where their audio lies.

It is scanned once and kept as `tracks-SPLIT.npz` beside the data.
"""

import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.input.record_files import BLOCK_BYTES, RecordFile
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.runtime.files import replace_file

_FORMAT = 3
"""Of the table; one of another format is scanned anew."""


@dataclasses.dataclass(frozen=True)
class TrackTable:
    """The tracks of a split, in the order of their records.

    Attributes:
        track_ids, groups: lists of text, one per track.
        num_samples: int64 (tracks,), samples, or frames of a `log_mel` data set.
        label_rows, label_columns: int64, the labels that hold.
        paths: the files of records.
        places: int64 (tracks, 3): index of the file, place of the first byte of the audio in it
            (see `RecordFile`), number of bytes. The place is -1 where the audio does not stand in
            the file as it is, as in one that is compressed.
        sums: of each file, see `RecordFile.block_sums`.
        targets: of each further target set, float32 (tracks, columns).
        texts: one per track; empty for a data set without texts.
    """

    track_ids: list[str]
    groups: list[str]
    num_samples: np.ndarray
    label_rows: np.ndarray
    label_columns: np.ndarray
    paths: list[pathlib.Path]
    places: np.ndarray
    sums: list[np.ndarray]
    targets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    texts: list[str] = dataclasses.field(default_factory=list)


def load_or_scan_table(
    directory: pathlib.Path,
    split: str,
    spec: DatasetSpec,
    open_record_source: Callable[[], Sequence[Mapping[str, Any]]],
) -> TrackTable:
    """Returns the table of a split: from its `.npz` when that is there and belongs to the data.

    Args:
        directory: of the built data set.
        split: name of the split.
        spec: of the data set.
        open_record_source: gives random access to the records; called only if they must be scanned.
    """
    path = directory / f"tracks-{split}.npz"
    paths = sorted(directory.glob(f"*-{split}.array_record*"))
    stamp = json.dumps([_FORMAT, spec.fingerprint, [_make_layout_stamp(file) for file in paths]])
    if path.is_file():
        with np.load(path, allow_pickle=False) as table:
            if str(table["stamp"]) == stamp:
                names = ("num_samples", "label_rows", "label_columns", "places")
                return TrackTable(
                    track_ids=table["track_ids"].tolist(),
                    groups=table["groups"].tolist(),
                    paths=paths,
                    sums=np.split(table["sums"], np.cumsum(table["num_sums"])[:-1]),
                    targets={name: table[f"targets/{name}"] for name in spec.target_sets},
                    texts=table["texts"].tolist() if spec.has_texts else [],
                    **{name: table[name] for name in names},
                )
    try:
        table = _scan(open_record_source(), paths, spec)
    except RuntimeError as error:  # the library's only error, for what its own checksums find
        raise OSError(
            f"a record of split {split!r} in {directory} is damaged: {error}; remove the folder "
            "and build the data set again, or copy it again."
        ) from error
    if os.access(directory, os.W_OK):
        arrays = dataclasses.asdict(table)
        del arrays["paths"], arrays["targets"], arrays["texts"]
        arrays |= {f"targets/{name}": rows for name, rows in table.targets.items()}
        arrays |= {"texts": np.array(table.texts, str)} if spec.has_texts else {}
        arrays["sums"] = np.concatenate(table.sums)
        arrays["num_sums"] = np.array([len(sums) for sums in table.sums])
        arrays |= {name: np.array(arrays[name], str) for name in ("track_ids", "groups")}
        with replace_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, stamp=np.array(stamp), **arrays)
    return table


def _make_layout_stamp(path: pathlib.Path) -> tuple[str, int, int]:
    """Returns what tells whether records still lie where they did: the end of a file lists them."""
    size = path.stat().st_size
    first = max(0, size - 2 * BLOCK_BYTES)
    with open(path, "rb") as file:
        file.seek(first)
        return path.name, size, zlib.crc32(file.read())


def _scan(
    source: Sequence[Mapping[str, Any]], paths: list[pathlib.Path], spec: DatasetSpec
) -> TrackTable:
    """Returns the table of records that are read one by one."""
    track_ids, groups, num_samples, rows, columns, places = [], [], [], [], [], []
    targets: dict[str, list[np.ndarray]] = {name: [] for name in spec.target_sets}
    texts, chunks = [], _iter_chunks(paths)
    for row in range(len(source)):
        record = source[row]
        track_ids.append(_text(record["track_id"]))
        groups.append(_text(record["group"]))
        num_samples.append(int(record["num_samples"]))
        for column in record["labels"]:
            rows.append(row)
            columns.append(int(column))
        places.append(_locate_audio(record["audio"], chunks))
        for name, rows_of_set in targets.items():
            rows_of_set.append(np.asarray(record["targets"][name], np.float32))
        if spec.has_texts:
            texts.append(_text(record["text"]))
    return TrackTable(
        track_ids=track_ids,
        groups=groups,
        num_samples=np.array(num_samples, np.int64),
        label_rows=np.array(rows, np.int64),
        label_columns=np.array(columns, np.int64),
        paths=paths,
        places=np.array(places, np.int64).reshape(-1, 3),
        sums=[RecordFile(path).block_sums() for path in paths],
        targets={
            name: np.reshape(values, (-1, len(spec.target_names(name))))
            for name, values in targets.items()
        },
        texts=texts,
    )


def _locate_audio(audio: bytes, chunks: Iterator[tuple[int, RecordFile, int, int]]) -> list[int]:
    """Returns where the next chunk that holds the audio has it; nothing is believed unseen."""
    for number, file, place, size in chunks:
        found = file.read(place, size).find(audio)
        if found >= 0:
            return [number, place + found, len(audio)]
    return [0, -1, len(audio)]


def _iter_chunks(paths: list[pathlib.Path]) -> Iterator[tuple[int, RecordFile, int, int]]:
    """Yields (index of the file, file, place, size) of all chunks with a record, in order."""
    for number, path in enumerate(paths):
        file = RecordFile(path)
        for place, size in file.chunks():
            yield number, file, place, size


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
