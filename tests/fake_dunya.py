"""The three corpora from Dunya, made up: see `fake_corpora.py`."""

import json
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fake_corpora import write_array, write_audio

from musrep_jax.data.corpora.dunya import SPLIT_LISTS, TRADITIONS
from musrep_jax.data.datasets import load_builder_class

PARTS = {"train": 6, "validation": 4, "test": 5}
FIELDS = {
    "makam": {"makam": "makamlist", "usul": "usullist", "instrument": "performers"},
    "hindustani": {"raga": "raags", "tala": "taals", "instrument": "artists", "form": "forms"},
    "carnatic": {"raga": "raaga", "tala": "taala", "instrument": "artists", "form": "form"},
}
ALBUMS = {"makam": "releases", "hindustani": "release", "carnatic": "concert"}


def make_mbid(text: str) -> str:
    """Returns a MusicBrainz id that is always the same for a text."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def make_recording(
    tradition: str, mbid: str, labels: Sequence[str], *, album: str, artist: str, seconds: float
) -> dict[str, Any]:
    """Returns a recording as Dunya's API describes it."""
    recording: dict[str, Any] = {"mbid": mbid, "title": "Title", "length": int(1000 * seconds)}
    recording.update({field: [] for field in FIELDS[tradition].values()})
    for label in labels:
        group, name = label.split("--", 1)
        entry: Mapping[str, Any] = {"name": name, "common_name": name}
        if group == "instrument":
            who = {"mbid": make_mbid(f"artist {artist}"), "name": artist}
            person = who if tradition == "makam" else {"artist": who}
            entry = {**person, "instrument": {"name": name}, "lead": True}
        recording[FIELDS[tradition][group]].append(entry)
    recording[ALBUMS[tradition]] = [{"mbid": make_mbid(f"album {album}"), "title": album}]
    return recording


def write_recording(folder: pathlib.Path, recording: Mapping[str, Any]) -> None:
    """Writes a recording where `musrep download` keeps it."""
    path = folder / f"recordings/{recording['mbid']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recording, ensure_ascii=False), "utf-8")


def make_dunya(name: str, folder: pathlib.Path) -> None:
    """Fifteen recordings of five artists, three albums of one recording each."""
    (labels,) = load_builder_class(name).LABEL_SETS.values()
    instruments = [label for label in labels if label.startswith("instrument--")]
    others = [label for label in labels if not label.startswith("instrument--")]
    index = 0
    for split, size in PARTS.items():
        ids = [make_mbid(f"{name} {index + offset}") for offset in range(size)]
        write_array(folder / SPLIT_LISTS[split], ids)
        for mbid in ids:
            chosen = [instruments[index % 4], others[index % 3], others[(index + 1) % 3]]
            recording = make_recording(
                TRADITIONS[name],
                mbid,
                [*chosen, "instrument--Glass harmonica"],
                album=f"{index}",
                artist=f"{index % 5}",
                seconds=1.0,
            )
            write_recording(folder, recording)
            write_audio(folder / f"audio/{mbid}.mp3", 1.0, 16000)
            index += 1


def make_turkish_makam(folder: pathlib.Path) -> None:
    """See `make_dunya`."""
    make_dunya("turkish_makam", folder)


def make_hindustani(folder: pathlib.Path) -> None:
    """See `make_dunya`."""
    make_dunya("hindustani", folder)


def make_carnatic(folder: pathlib.Path) -> None:
    """See `make_dunya`."""
    make_dunya("carnatic", folder)
