"""Corpora as users have them, made up: the true layout and the true form of tables, tiny audio.

A function makes one corpus in an empty folder: every split has tracks with labels of every label
set, of several groups, so that each config can be built. A corpus that is added needs its line.
"""

import csv
import importlib
import pathlib
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import soundfile

FAKES = {
    "artists_1517": "fake_genres:make_artists_1517",
    "carnatic": "fake_dunya:make_carnatic",
    "dcase2017_task4": "fake_events:make_dcase2017_task4",
    "fma": "fake_western:make_fma",
    "gtzan": "fake_events:make_gtzan",
    "hindustani": "fake_dunya:make_hindustani",
    "homburg": "fake_genres:make_homburg",
    "lyra": "fake_western:make_lyra",
    "magnatagatune": "fake_western:make_magnatagatune",
    "million_song": "fake_jamendo_msd:make_million_song",
    "mtg_jamendo": "fake_jamendo_msd:make_mtg_jamendo",
    "speech_commands": "fake_events:make_speech_commands",
    "turkish_makam": "fake_dunya:make_turkish_makam",
    "unique": "fake_genres:make_unique",
}
"""Name of the corpus -> the function that makes it: (folder) -> None."""

NEEDS_ALL_FILES = {"gtzan": "stratified"}
"""Corpus -> split that lists files by their numbers alone, too many for a fake."""


def make_fake(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Makes the corpus `name` in `folder`, which may not exist yet, and returns the folder."""
    module, function = FAKES[name].split(":")
    folder.mkdir(parents=True, exist_ok=True)
    getattr(importlib.import_module(module), function)(folder)
    return folder


def write_audio(path: pathlib.Path, seconds: float, sample_rate: int = 16000) -> None:
    """Writes quiet noise, another one for every path, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode("utf-8")))
    audio = 0.1 * rng.standard_normal(round(seconds * sample_rate))
    soundfile.write(path, audio.astype(np.float32), sample_rate)


def write_rows(
    path: pathlib.Path,
    rows: Iterable[Sequence],
    delimiter: str = "\t",
    quoting: int = csv.QUOTE_MINIMAL,
) -> None:
    """Writes a table, its header among the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n")
        writer.writerows(rows)


def write_array(path: pathlib.Path, values: object, dtype: object = None) -> None:
    """Writes an `.npy` file; a dictionary becomes a pickled array without axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(values, dtype=dtype), allow_pickle=True)
