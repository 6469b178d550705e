"""GTZAN, Speech Commands and DCASE 2017 task 4 in their true layout; see `fake_corpora`."""

import pathlib

import numpy as np
import soundfile
from musrep_jax.tfds_builders.dcase2017_task4.dcase2017_task4_dataset_builder import EVENTS
from musrep_jax.tfds_builders.gtzan.gtzan_dataset_builder import GENRES
from musrep_jax.tfds_builders.speech_commands.speech_commands_dataset_builder import WORDS

SPLITS = ("train", "validation", "test")

AUDIO = {
    "training": "unbalanced_train_segments_training_set_audio_formatted_and_segmented_downloads",
    "testing": "unbalanced_train_segments_testing_set_audio_formatted_and_segmented_downloads",
    "evaluation": "evaluation_set_formatted_audio_segments",
}


def _write_audio(path, seconds, rate, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate))
    soundfile.write(path, noise, rate, subtype="PCM_16")


def write_gtzan_lists(folder, names):
    """Writes GTZAN's lists: names -> split."""
    (folder / "split").mkdir(parents=True)
    for split, file in zip(SPLITS, ("train", "valid", "test"), strict=True):
        lines = [f"{name}.wav\n" for name, of_name in names.items() if of_name == split]
        (folder / f"split/{file}_filtered.txt").write_text("".join(lines), "utf-8")


def make_gtzan(folder: pathlib.Path) -> None:
    """One excerpt of each genre and part, at a rate that makes them small."""
    names = {
        f"{genre}/{genre}.{number:05d}": SPLITS[number] for genre in GENRES for number in range(3)
    }
    write_gtzan_lists(folder, names)
    for seed, name in enumerate(names):
        _write_audio(folder / f"genres/{name}.{'au' if seed % 2 else 'wav'}", 30.0, 2000, seed)


def make_speech_commands(folder: pathlib.Path) -> None:
    """Three recordings of each word, by speakers who keep to one part."""
    lists = {"validation": [], "test": []}
    for index, word in enumerate(WORDS):
        for number in range(3):
            split = SPLITS[number]
            path = f"{word}/{number}{index % 4:07x}_nohash_{index % 2}.wav"
            # Some words are cut off before a second is over.
            _write_audio(folder / path, 1.0 if index % 5 else 0.4, 16000, 3 * index + number)
            if split in lists:
                lists[split].append(path)
    _write_audio(folder / "_background_noise_/white_noise.wav", 2.0, 16000)
    (folder / "validation_list.txt").write_text("\n".join(lists["validation"]) + "\n", "utf-8")
    (folder / "testing_list.txt").write_text("\n".join(lists["test"]) + "\n", "utf-8")


def make_dcase2017_task4(folder: pathlib.Path) -> None:
    """Excerpts of each list with one or two events."""
    (folder / "groundtruth_release").mkdir(parents=True)
    for number, part in enumerate(AUDIO):
        rows, lengths = [], []
        for index in range(34 if part == "training" else 17):
            seconds = 2.0 if index % 3 else 1.0
            file = f"-{number}_{index:08d}_30.000_32.000.wav"
            rows.append((file, EVENTS[index % 17]))
            if index % 4 == 0:
                rows.append((file, EVENTS[(index + 5) % 17]))
            lengths.append(f"Y{file}  \t {seconds:.6f}\n")
            _write_audio(folder / AUDIO[part] / f"Y{file}", seconds, 8000, 100 * number + index)
        # The lists of the evaluation have Windows line ends.
        end = "\r\n" if part == "evaluation" else "\n"
        text = "".join(f"{file}\t30.000\t32.000\t{event}{end}" for file, event in rows)
        path = folder / f"groundtruth_release/groundtruth_weak_label_{part}_set.csv"
        path.write_bytes(text.encode("utf-8"))
        if part != "evaluation":
            (folder / f"duration_of_files_in_{part}_set.csv").write_text("".join(lengths), "utf-8")
