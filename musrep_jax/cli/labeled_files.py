"""Recordings with labels, as `teach` and `suggest` are given them: folders, tables, stores."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from musrep_jax.inference.encoder import LoadedEncoder
    from musrep_jax.store import Store


@dataclasses.dataclass(frozen=True)
class LabeledFile:
    """A recording with labels.

    Attributes:
        path: absolute, whether there is such a file or not.
        listed: as its table or folder has it.
        labels: of the recording; may be empty.
        group: such as a performer; the path where none is named.
        licence: as its table has it, or "".
    """

    path: str
    listed: str
    labels: tuple[str, ...]
    group: str
    licence: str


@dataclasses.dataclass(frozen=True)
class EmbeddedFile:
    """A recording as chunks, or as a whole where a store holds no chunks.

    Attributes:
        file: the recording.
        embeddings: float32 (chunks, width).
        sha256: of its content.
        row: in the store, or None.
    """

    file: LabeledFile
    embeddings: "np.ndarray"
    sha256: str
    row: int | None = None


def read_labeled_files(places: Sequence[Path]) -> list[LabeledFile]:
    """Returns the recordings of folders and tables, in order.

    Args:
        places: folders with `labels.tsv`, or else with sub-folders that are named after labels; or
            tables of any name with such columns.

    Raises:
        TableError: if one cannot be read, or a recording is named twice.
    """
    from musrep_jax.runtime.names import find_path
    from musrep_jax.tfds_builders.audio_folder.label_table import (
        TABLE_NAME,
        TableError,
        list_subfolder_rows,
        read_label_table,
        read_table_file,
    )

    found: dict[str, LabeledFile] = {}
    for place in places:
        if not place.exists():
            raise TableError(f"There is no file or folder {place}.")
        folder = place if place.is_dir() else place.parent
        if place.is_file():
            rows = read_table_file(place, needs_labels=False)  # all may be without the label
        elif os.path.lexists(place / TABLE_NAME):
            rows = read_label_table(place)
        else:
            rows = list_subfolder_rows(place)
        for row in rows:
            path = os.path.normpath(find_path(folder, row.path).absolute())
            if path in found:
                raise TableError(f"{place} names {row.path} again: keep one line of it.")
            group = path if row.group == row.path else row.group
            found[path] = LabeledFile(path, row.path, row.labels, group, row.licence)
    return list(found.values())


def find_in_store(store: "Store", file: LabeledFile) -> int | None:
    """Returns the row of a recording in a store, or None.

    It is found by its path, by its content, or, where there is no such file, by the end of its
    path.

    Args:
        store: to look in.
        file: the recording.

    Raises:
        StoreError: if several tracks have that end.
    """
    from musrep_jax.data.doctor.quarantine import escape_path
    from musrep_jax.store import StoreError, identify_file

    row = store.find(escape_path(file.path))
    if row is not None:
        return row
    if os.path.isfile(file.path):
        return store.find_by_content(identify_file(file.path).sha256)
    rows = store.find_by_suffix(file.listed)
    if len(rows) > 1:
        raise StoreError(
            f"{len(rows)} tracks of {store.path} end in {file.listed!r}: give more of the path."
        )
    return rows[0] if rows else None


def embed_labeled_files(
    files: Sequence[LabeledFile],
    loaded: "LoadedEncoder",
    store: "Store | None",
    num_workers: int,
    on_failure: Callable[[str, str], None],
) -> list[EmbeddedFile]:
    """Returns the embeddings of recordings, from a store where it has them, in their order.

    Args:
        files: the recordings.
        loaded: the model, whose embeddings the store holds.
        store: to look in first.
        num_workers: processes that decode.
        on_failure: called with path and reason of a recording that cannot be used.
    """
    from musrep_jax.data.doctor.quarantine import escape_path
    from musrep_jax.inference.folders import SILENT, run_files
    from musrep_jax.runtime.progress import Progress
    from musrep_jax.store import identify_file

    found: dict[str, EmbeddedFile] = {}
    for file in files if store is not None else ():
        row = find_in_store(store, file)
        if row is not None:
            sha256 = store.track(row)["sha256"]
            found[file.path] = EmbeddedFile(file, read_chunks(store, row), sha256, row)
    left = {file.path: file for file in files if file.path not in found}
    progress = Progress("embedded", "tracks")
    try:
        for heard in run_files(loaded, list(left), num_workers, progress=progress) if left else ():
            failure = heard.failure or (SILENT if heard.is_silent else "")
            if failure:
                on_failure(escape_path(heard.path), failure)
                continue
            sha256 = identify_file(heard.path).sha256
            found[heard.path] = EmbeddedFile(left[heard.path], heard.embeddings, sha256)
    finally:
        progress.close()
    return [found[file.path] for file in files if file.path in found]


def read_chunks(store: "Store", row: int) -> "np.ndarray":
    """Returns the embeddings of a track's chunks, or of the whole where the store has no chunks.

    Args:
        store: that holds the track.
        row: of the track.

    Returns:
        float32 (chunks, width).
    """
    if store.about["per_chunk"]:
        return store.chunks(row)[1]
    return store.embeddings[row][None]
