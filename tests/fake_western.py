"""MagnaTagATune, FMA and Lyra in their true layout, made up; see `fake_corpora`."""

import csv
import pathlib

import numpy as np
from fake_corpora import write_array, write_audio, write_rows
from musrep_jax.tfds_builders.fma.fma_dataset_builder import TOP20
from musrep_jax.tfds_builders.magnatagatune.magnatagatune_dataset_builder import (
    ALL188,
    EMPTY_CLIPS,
)

MAGNATAGATUNE_ROWS = [
    # folder, artist, album, start, tags
    ("0", "ana", "morning", 0, ("guitar", "slow")),
    ("0", "ana", "morning", 1, ("guitar", "female voice")),
    ("5", "bo", "loud_one", 0, ("metal", "loud", "weird")),
    ("b", "bo", "quiet_one", 0, ("quiet",)),
    ("b", "cy", "first", 0, ("metal", "drums")),
    ("b", "cy", "first", 1, ()),
    ("c", "dee", "second", 0, ("guitar", "metal")),
    ("c", "ana", "evening", 0, ("female voice",)),
    ("c", "dee", "second", 1, ("not a top tag",)),
    ("d", "ed", "third", 0, ("guitar", "slow")),
    ("e", "bo", "last_one", 0, ("loud", "female voice")),
    ("f", "fay", "fourth", 0, ("metal", "singing")),
    ("f", "fay", "fourth", 1, ()),
]


def magnatagatune_path(folder, artist, album, start):
    """The path of a clip of one second, as the data set spells it."""
    return f"{folder}/{artist}-{album}-01-a_song-{start}-{start + 1}.mp3"


def write_annotations(path: pathlib.Path, rows):
    """Writes `annotations_final.csv` from rows of (path of the clip, tags)."""
    columns = [*ALL188, "not a top tag"]
    written = [["clip_id", *columns, "mp3_path"]]
    for number, (clip, tags) in enumerate(rows):
        written.append([2 + 6 * number, *(int(name in tags) for name in columns), clip])
    write_rows(path, written, quoting=csv.QUOTE_ALL)


def make_magnatagatune(folder: pathlib.Path) -> None:
    """Thirteen clips of a second, three of them without a top tag, and the three empty files."""
    rows = [(magnatagatune_path(*row[:4]), row[4]) for row in MAGNATAGATUNE_ROWS]
    for path, _ in rows:
        write_audio(folder / path, 1.0)
    for path in EMPTY_CLIPS:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).touch()
        rows.insert(3, (path, ("guitar",)))
    write_annotations(folder / "annotations_final.csv", rows)


def make_fma(folder: pathlib.Path, num_tracks: int = 14) -> None:
    """Clips of 30 s (8 kHz) of as many artists as every second track; lists and tables."""
    ids = [f"{number:06d}" for number in (2, 5, 10, *range(1000, 1000 + num_tracks - 3))]
    splits = ["train"] * (num_tracks - 6) + ["valid"] * 3 + ["test"] * 3
    official = ["training"] * (num_tracks - 6) + ["validation"] * 3 + ["test"] * 3
    for split in ("train", "valid", "test"):
        members = [track for track, name in zip(ids, splits, strict=True) if name == split]
        write_array(folder / "split" / f"{split}.npy", members[::-1])
    genres = {
        track: [TOP20[index % 3], "No Such Genre", TOP20[3 + index % 4]]
        for index, track in enumerate(ids)
    }
    write_array(folder / "split" / "metadata.npy", {**genres, "143992": ["Rock"]}, object)
    columns = [("album", "id"), ("album", "information"), ("artist", "id"), ("set", "split")]
    columns += [("set", "subset"), ("track", "title")]
    rows = [["", *(group for group, _ in columns)], ["", *(name for _, name in columns)]]
    rows.append(["track_id", *([""] * len(columns))])
    for index, track in enumerate(ids):
        # Crosswise to the random lists: a pair of tracks by one artist, in one official part.
        artist = index // 2
        text = 'two\nlines, a "quote" and a comma' * (4000 if index == 1 else 1)
        subset = "small" if index % 3 else "medium"
        album = -1 if index in (0, num_tracks - 1) else 7 * artist  # of no album
        rows.append([int(track), album, text, artist, official[index // 2 * 2], subset, "t"])
    rows.append([20, 1, "", 1, "training", "large", "of another subset"])
    rows.append([143992, 99, "", 99, "training", "medium", "no audio"])
    write_rows(folder / "fma_metadata" / "tracks.csv", rows, delimiter=",")
    for track in ids:
        write_audio(folder / "fma_medium" / track[:3] / f"{track}.mp3", 30.0, 8000)
    (folder / "fma_medium" / "143").mkdir()
    (folder / "fma_medium" / "143" / "143992.mp3").touch()


LYRA_COLUMNS = (
    "id", "instruments", "genres", "place", "coordinates", "is-danced", "youtube-id", "start-ts",
    "end-ts",
)  # fmt: skip


def lyra_row(number: int, source: str) -> list:
    """A row of two seconds; every third piece has no place."""
    place = ("None", "Epirus|Ioannina", "Crete")[number % 3]
    genres = ("Traditional", "Traditional|Epirotic", "Rebetiko")[number % 3]
    instruments = "|".join(("Voice", "Laouto", "Lyra", "No-such-thing")[: 1 + number % 4])
    start = 10 * number
    return [f"piece-{number}", instruments, genres, place, "None", 0, source, start, start + 2]


def make_lyra(folder: pathlib.Path) -> None:
    """Twelve training and four test pieces; the sources of test are its own."""
    training = [lyra_row(number, f"video{number % 5}") for number in range(12)]
    test = [lyra_row(number, f"test{number % 2}") for number in range(12, 16)]
    write_rows(folder / "split" / "training.tsv", [LYRA_COLUMNS, *training])
    write_rows(folder / "split" / "test.tsv", [LYRA_COLUMNS, *test])
    for row in (*training, *test):
        rng = np.random.default_rng(row[-1])
        mels = rng.uniform(-100, 30, (128, 126)).astype(np.float32)
        write_array(folder / "mel-spectrograms" / f"{row[0]}.npy", mels)
