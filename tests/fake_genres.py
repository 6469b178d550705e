"""Collections of genre folders, made up: artists as folders, in a table, or not known."""

import pathlib

from fake_corpora import write_audio, write_rows
from musrep_jax.tfds_builders.artists_1517 import artists_1517_dataset_builder as artists_1517
from musrep_jax.tfds_builders.homburg import homburg_dataset_builder as homburg
from musrep_jax.tfds_builders.unique import unique_dataset_builder as unique


def make_artists_1517(folder: pathlib.Path) -> None:
    """Four artists of each genre with a song each, in folders that are spelled otherwise."""
    for genre in artists_1517.GENRES:
        name = genre.title().replace(" ", "_")
        for number in range(4):
            write_audio(folder / f"audio/{name}/artist {number} of {name}/song.wav", 1.0, 2000)


def make_homburg(folder: pathlib.Path) -> None:
    """Four excerpts of each genre, by two artists whom the table names."""
    rows = [["path", "artist"]]
    for genre in homburg.GENRES:
        for number in range(4):
            path = f"{genre}/{genre}{number}.wav"
            write_audio(folder / "audio" / path, 1.0, 2000)
            rows.append([path, f"{genre} band {number // 2}"])
    write_rows(folder / "artists.tsv", rows)


def make_unique(folder: pathlib.Path) -> None:
    """Four excerpts of each genre; of the blues alone the artist is known."""
    for genre in unique.GENRES:
        artist = "the one/" if genre == "blues" else ""
        for number in range(4):
            write_audio(folder / f"audio/{genre}/{artist}{genre}{number}.wav", 1.0, 2000)
