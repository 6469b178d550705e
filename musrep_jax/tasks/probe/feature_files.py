"""Features of others for the tracks of a data set: tables, and stores of `musrep embed`."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.feature_tables import (
    FeatureTableError,
    check_table_path,
    match_tracks,
    read_feature_table,
)
from musrep_jax.probing.leaks import find_label_columns
from musrep_jax.store import Store, StoreError
from musrep_jax.store.files import TRACKS_FILE, read_store_metadata
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.probe.tracks import LabeledTracks
from musrep_jax.tasks.tagging.features import STORE_PREFIX, TABLE_PREFIX, parse_features

_MAX_NAMED = 3
"""Columns that a message names."""


def check_feature_file(place: str) -> None:
    """Raises unless a table or a store is there; its rows are not read.

    Args:
        place: `table:FILE` or `store:FOLDER`.

    Raises:
        ConfigError: one sentence.
    """
    try:
        if place.startswith(TABLE_PREFIX):
            check_table_path(place.removeprefix(TABLE_PREFIX))
        else:
            read_store_metadata(Path(place.removeprefix(STORE_PREFIX)).expanduser())
    except (FeatureTableError, StoreError) as error:
        raise ConfigError(str(error)) from error


def list_feature_files(text: str) -> dict[str, list[Path]]:
    """Returns the files that features by name are read from: table or store -> its files.

    Args:
        text: a name of features, such as `log_mel_statistics+table:FILE`.
    """
    found = {}
    for place in (encoder.place for encoder in parse_features(text)):
        path = Path(place.partition(":")[2]).expanduser().absolute()
        if place.startswith(TABLE_PREFIX):
            ids = [path.with_suffix(".txt")] if path.suffix == ".npy" else []
            found[place] = [path, *ids]
        elif place.startswith(STORE_PREFIX):
            found[place] = [path / TRACKS_FILE, path / "embeddings.npy"]
    return found


def read_features(place: str, tracks: LabeledTracks) -> tuple[np.ndarray, list[str]]:
    """Returns the features that a table or a store has of tracks, one row each, and notes on them.

    Args:
        place: `table:FILE` or `store:FOLDER`.
        tracks: that are probed.

    Returns:
        float32 (tracks, width), and sentences on what looks like a label.

    Raises:
        ConfigError: if a track is missing or there twice, a number is not finite, or a feature is
            one of the labels that are to be learned.
    """
    names = tracks.track_ids.tolist()
    shown = strip_parents(place)
    try:
        if place.startswith(TABLE_PREFIX):
            table = read_feature_table(place.removeprefix(TABLE_PREFIX))
            features = match_tracks(table, names, shown)
        else:
            store = Store(Path(place.removeprefix(STORE_PREFIX)).expanduser())
            features = np.asarray(store.embeddings[find_rows(store, names, shown)])
    except (FeatureTableError, StoreError) as error:
        raise ConfigError(str(error)) from error
    if not np.isfinite(features).all():
        raise ConfigError(f"{shown} has embeddings that are not finite: embed these tracks again.")
    return features, _judge_columns(features, tracks, shown)


def find_rows(store: Store, track_ids: Sequence[str], where: str) -> list[int]:
    """Returns the rows of a store whose paths end in the ids of tracks, with or without a suffix.

    Args:
        store: of embeddings.
        track_ids: such as `ney/taksim_01.flac`, or without the suffix.
        where: name of the store, for messages.

    Raises:
        ConfigError: if a track is not there, or several files could be it.
    """
    by_name: dict[str, list[tuple[str, int]]] = {}
    for row, track in enumerate(store.tracks()):
        for path in (track["path"], *track["also"]):
            whole = PurePosixPath("/", unicodedata.normalize("NFC", path))
            for form in {whole, whole.with_suffix("")}:
                by_name.setdefault(form.name, []).append((str(form), row))
    found, missing, several = [], [], []
    for name in track_ids:
        wanted = str(PurePosixPath("/", unicodedata.normalize("NFC", name)))
        alike = by_name.get(PurePosixPath(wanted).name, [])
        rows = sorted({row for path, row in alike if path.endswith(wanted)})
        if len(rows) == 1:
            found += rows
        else:
            (several if rows else missing).append(name)
    for names, fault in ((missing, "lacks"), (several, "has more than one file of")):
        if names:
            raise ConfigError(
                f"{where} {fault} {len(names)} of {len(track_ids)} tracks, such as {names[0]!r}: "
                "embed the folder of the data set, each file once."
            )
    return found


def _judge_columns(features: np.ndarray, tracks: LabeledTracks, shown: str) -> list[str]:
    """Returns notes on features that rank a label without error; raises if one is a label."""
    found = find_label_columns(features, tracks.targets)

    def name(label: int) -> str:
        return "the number of the class" if label < 0 else repr(tracks.label_names[label])

    for one in found:
        if one.is_same:
            raise ConfigError(
                f"Feature {one.feature} of {shown} is {name(one.label)}, the label that is to be "
                "learned: take it out of the table."
            )
    notes = [
        f"Feature {one.feature} of {shown} alone ranks {name(one.label)} without an error: look "
        "whether the label is in the table."
        for one in found[:_MAX_NAMED]
    ]
    if len(found) > _MAX_NAMED:
        notes.append(f"{len(found) - _MAX_NAMED} further features of {shown} do too.")
    return notes
