"""MTG-Jamendo and the Million Song Dataset, made up: see `fake_corpora.py`."""

import pathlib
import pickle

import numpy as np
from fake_corpora import write_array, write_audio, write_rows
from musrep_jax.tfds_builders.million_song.million_song_dataset_builder import (
    CALS_TAGS,
    CONVENTIONAL_TAGS,
)
from musrep_jax.tfds_builders.mtg_jamendo.published_splits import SPLIT_FILES, TOP50

PREFIXES = {"genre": "genre", "instrument": "instrument", "moodtheme": "mood/theme"}
JAMENDO_PARTS = {"train": 5, "validation": 3, "test": 4}


def make_mtg_jamendo(folder: pathlib.Path) -> None:
    """Twelve tracks by eight artists in five splits; some are there in the low quality only."""
    header = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    tracks = []
    for index in range(sum(JAMENDO_PARTS.values())):
        number = 214 + 13 * index
        tags = [[tag for tag in TOP50 if tag.startswith(prefix)] for prefix in PREFIXES.values()]
        own = [
            names[(index + step) % len(names)] for names in tags for step in range(index % 3 + 1)
        ]
        path = f"{number % 100:02d}/{number}.mp3"
        facts = [f"track_{number:07d}", f"artist_{index:06d}", f"album_{index:06d}", path, "1.0"]
        tracks.append((facts, own))
        name = path if index % 3 else path.replace(".mp3", ".low.mp3")
        write_audio(folder / "audio" / name, 1.0, 16000)
    starts = dict(zip(JAMENDO_PARTS, (0, 5, 8), strict=True))
    for file in SPLIT_FILES:
        rows = []
        for place in range(starts[file.part], starts[file.part] + JAMENDO_PARTS[file.part]):
            # Another split is another order of the artists.
            facts, tags = tracks[(place * 5 + file.number) % len(tracks)]
            prefix = PREFIXES.get(file.subset, "")
            rows.append([*facts, *(tag for tag in tags if tag.startswith(prefix))])
        write_rows(folder / file.path, [header, *rows])


def msd_id(number: int) -> str:
    """Returns an id such as `TRAAAAB128F0000001`."""
    letters = "".join(chr(65 + number // 26**place % 26) for place in reversed(range(5)))
    return f"TR{letters}128F{number:07X}"


def write_python_2_list(path: pathlib.Path, names: list[str]) -> None:
    """Writes a list as the pickles of Python 2 are by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(f"S'{name}'\np{index + 2}\na" for index, name in enumerate(names))
    path.write_bytes(f"(lp1\n{items}.".encode())


def make_million_song(folder: pathlib.Path) -> None:
    """Both splits over the same clips, two of each artist: the conventional one divides a pair."""
    names = [msd_id(number) for number in range(13)]
    lists = folder / "MSD_split"
    write_python_2_list(lists / "filtered_list_train.cP", names[:9])
    write_python_2_list(lists / "filtered_list_test.cP", names[9:])
    vectors = np.zeros((len(names), len(CONVENTIONAL_TAGS)))
    for index, vector in enumerate(vectors):
        vector[[index % 3, index % 3 + 3]] = 1.0
    table = dict(zip(names, vectors, strict=True))
    (lists / "msd_id_to_tag_vector.cP").write_bytes(pickle.dumps(table))
    parts = {"train": range(6), "valid": range(6, 10), "test": range(10, 13)}
    for part, numbers in parts.items():
        write_array(folder / f"data/splits/{part}_ids.npy", [names[index] for index in numbers])
        matrix = np.eye(len(CALS_TAGS))[[index % 3 for index in numbers]]
        write_array(folder / f"data/splits/{part}_binaries.npy", matrix)
    unlabelled = [msd_id(number) for number in range(100, 103)]
    write_array(folder / "data/splits/student_ids.npy", unlabelled)
    lines = []
    for index, name in enumerate([*names, *unlabelled]):
        path = f"{'/'.join(name[2:5])}/{name}.wav" if index % 2 else f"{name}.wav"
        write_audio(folder / "audio" / path, 29.2, 1000)
        artist = index // 2 if index < len(names) else index
        lines.append(f"{name}<SEP>SO{index}<SEP>Artist {artist}<SEP>Title <SEP> {index}\n")
    (folder / "unique_tracks.txt").write_text("".join(lines), "utf-8")
