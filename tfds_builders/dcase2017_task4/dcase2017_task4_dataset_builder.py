"""`dcase2017_task4`: 17 sound events for smart cars in excerpts of AudioSet videos."""

import csv
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.download.files import SourceFile

EVENTS = (
    *("Train horn", "Air horn, truck horn", "Car alarm", "Reversing beeps", "Bicycle"),
    *("Skateboard", "Ambulance (siren)", "Fire engine, fire truck (siren)"),
    *("Civil defense siren", "Police car (siren)", "Screaming", "Car", "Car passing by"),
    *("Bus", "Truck", "Motorcycle", "Train"),
)
"""In the order of the task's list, `sound_event_list_17_classes.txt`."""

_VALIDATION_SHARE = 0.1
_SAMPLING_SEED = 123

_FOLDERS = {
    "training": "unbalanced_train_segments_training_set_audio_formatted_and_segmented_downloads",
    "testing": "unbalanced_train_segments_testing_set_audio_formatted_and_segmented_downloads",
    "evaluation": "evaluation_set_formatted_audio_segments",
}
"""Part of the task -> folder of its excerpts, as in the organizers' archives."""

_OFFICIAL_SPLITS = {"training": "train", "testing": "validation", "evaluation": "test"}
_LISTS_URL = (
    "https://raw.githubusercontent.com/ankitshah009/"
    "Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars/"
    "96dc262e3869580c0ff4c4de622995a8e3573ad9/"
)


def _labels_path(part: str) -> str:
    return f"groundtruth_release/groundtruth_weak_label_{part}_set.csv"


def _lengths_path(part: str) -> str:
    return f"duration_of_files_in_{part}_set.csv"


def _list_file(path: str, size: int, sha256: str) -> SourceFile:
    return SourceFile(path, _LISTS_URL + path, size, sha256)


def _audio_folder(part: str, number: str) -> SourceFile:
    how = (
        f"The {number} excerpts cannot be fetched by a program: the organisers' links stand, with "
        "their passwords, in the README of ankitshah009/Task-4-Large-scale-weakly-supervised-"
        "sound-event-detection-for-smart-cars, and what they no longer give must be cut from the "
        "videos as Y<youtube id>_<start>_<end>.wav."
    )
    return SourceFile(_FOLDERS[part], None, None, None, how=how)


class Builder(CorpusBuilder):
    """Excerpts of up to 10 s with one or several of 17 events; see README.md."""

    NAME = "dcase2017_task4"
    TITLE = "DCASE 2017 task 4: 17 sound events in 52,763 excerpts of AudioSet videos, up to 10 s."
    LICENCE = "lists: Apache-2.0; the audio belongs to the makers of the videos"
    LABEL_SETS: ClassVar = {"events": EVENTS}
    SPLIT_CARDS: ClassVar = {
        "official": SplitCard(
            rule="The task's training, testing and evaluation lists as train, validation and test; "
            "each video is in one of them.",
            source="DCASE 2017 challenge, task 4 (Mesaros et al. 2017)",
            sizes={"train": 51172, "validation": 488, "test": 1103},
            disjoint_by="youtube",
        ),
        "harmonic": SplitCard(
            rule="That of the published harmonic filters: the evaluation list as test, and of the "
            "training and testing lists a tenth of each event's excerpts as validation.",
            source="minzwon/data-driven-harmonic-filters (Won et al. 2020), preprocessing/dcase",
            sizes={"train": 46042, "validation": 5618, "test": 1103},
            disjoint_by="youtube",
        ),
    }
    FILES = (
        _list_file(
            _labels_path("training"),
            2942866,
            "b2d5ee10461c0ef9b21cb22eeb45c9959a02c8d2d0a17417344963c4473fec3e",
        ),
        _list_file(
            _labels_path("testing"),
            34199,
            "21490d3ddf582e5f267c4d576316be8523ace95a302a394130759d46056fd4e4",
        ),
        _list_file(
            _labels_path("evaluation"),
            75925,
            "a275dcfd040b77fa1e8bd2687e583988a9169ba2e02b97e633e5d2347011592a",
        ),
        _list_file(
            _lengths_path("training"),
            2244055,
            "287943ac00c04f13a18cfd1fe5875830955aa24970f755e4a0423c9961bebc6c",
        ),
        _list_file(
            _lengths_path("testing"),
            21417,
            "8bd879979d8f6d7f30369ede8c0b9a781dc846c1f4e1796685ea06eda83d9a7e",
        ),
        _audio_folder("training", "51,172"),
        _audio_folder("testing", "488"),
        _audio_folder("evaluation", "1,103"),
    )
    GROUP = "youtube"
    MAX_SECONDS = 10.0

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the excerpts of the three lists with their events."""
        del label_set  # There is one.
        rows = {part: self._read_events(part) for part in _FOLDERS}
        lengths = {**self._read_lengths("training"), **self._read_lengths("testing")}
        is_harmonic = split_name == "harmonic"
        for_validation = _draw_validation(rows["training"] + rows["testing"]) if is_harmonic else ()
        tracks = []
        for part, of_part in rows.items():
            events: dict[str, list[str]] = {}
            for file, event in of_part:
                events.setdefault(file, []).append(event)
            for file, names in events.items():
                split = _OFFICIAL_SPLITS[part]
                if is_harmonic and split != "test":
                    split = "validation" if file in for_validation else "train"
                tracks.append(
                    CorpusTrack(
                        track_id=file.removesuffix(".wav"),
                        # A Y before the name, which may begin with a hyphen.
                        path=f"{_FOLDERS[part]}/Y{file}",
                        labels=tuple(names),
                        split=split,
                        sources={"youtube": file.rsplit("_", 2)[0]},
                        seconds=lengths.get(f"Y{file}"),
                    )
                )
        return tracks

    def _read_events(self, part: str) -> list[tuple[str, str]]:
        """Returns (file, event) of every row of a list; a file has a row for each of its events."""
        events = []
        for number, row in self._read_rows(_labels_path(part)):
            if len(row) != 4 or row[3] not in EVENTS or row[0].count("_") < 2:
                raise BuildError(
                    f"line {number} of {self.folder / _labels_path(part)} is {row}, not YOUTUBE-ID_"
                    "START_END.wav, start, end and one of the 17 events; download it anew."
                )
            events.append((row[0], row[3]))
        return events

    def _read_lengths(self, part: str) -> dict[str, float]:
        """Returns file -> its length in seconds, as the organizers measured it."""
        return {row[0]: float(row[1]) for _, row in self._read_rows(_lengths_path(part))}

    def _read_rows(self, path: str) -> list[tuple[int, list[str]]]:
        """Returns (number of the line, its columns) of a table separated by tabs."""
        rows = csv.reader(self.read_text(path).splitlines(), delimiter="\t")
        return [(rows.line_num, [cell.strip() for cell in row]) for row in rows if row]


def _draw_validation(rows: Sequence[tuple[str, str]]) -> set[str]:
    """Returns the validation files of the published code, exactly.

    It takes a tenth of each event's rows with `DataFrame.sample(frac=0.1, random_state=123)`, which
    draws from NumPy's legacy generator, seeded anew each time.

    Args:
        rows: (file, event), the training list before the testing list.
    """
    chosen = set()
    for event in EVENTS:
        files = [file for file, name in rows if name == event]
        rng = np.random.RandomState(_SAMPLING_SEED)
        size = round(_VALIDATION_SHARE * len(files))
        chosen |= {files[row] for row in rng.choice(len(files), size=size, replace=False)}
    return chosen
