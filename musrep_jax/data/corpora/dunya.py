"""Dunya, the archive of the CompMusic project: recordings, their audio, and their labels.

The corpora `turkish_makam`, `hindustani` and `carnatic` come from its API, which asks for a
personal token. In the corpus' folder there are then

| file                     | holds                                                                |
|--------------------------|----------------------------------------------------------------------|
| `split/train.npy`, ...   | the recordings of the published splits                               |
| `recordings/MBID.json`   | what Dunya says about a recording                                    |
| `audio/MBID.mp3`         | its audio                                                            |
| `refused.tsv`            | what Dunya would not give: mbid, status, reason, date                |

`musrep_jax.data.download.dunya_api` fetches them.

Source: "From West to East" (ISMIR 2023) and its code, for the labels that a recording has. Here a
field that is missing or null gives no label, where the code gives up all labels of the recording.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from musrep_jax.data.download.files import SourceFile

TRADITIONS = {"turkish_makam": "makam", "hindustani": "hindustani", "carnatic": "carnatic"}
"""Name of the corpus -> name of the tradition in the API."""

SPLIT_LISTS = {
    "train": "split/train.npy",
    "validation": "split/valid.npy",
    "test": "split/test.npy",
}
"""Split -> file in the corpus' folder with the ids of its recordings."""

_LISTS_URL = (
    "https://raw.githubusercontent.com/pxaris/ccml/1f20c2f3df38ad0ef6ae774ca6a280ed9d23e04e/data/"
)
_LIST_SIZES_AND_HASHES = {
    "makam": {
        "train": (534224, "f96ec5d8a0c542038e9a2cf97ec4f5f32b74428d8f477e5635c4cffdf5143b52"),
        "validation": (76304, "444e64a42f932671ac6eac846f28d1a2d861e80d5782a264ef664e21d870f478"),
        "test": (152624, "a4e4de5ed06adc7d2bac1cf98f8be7a5e32d2a6d31e54af1b8376040be46b860"),
    },
    "hindustani": {
        "train": (121664, "60f6d458807413c232467ebdecc9b601bfabf4409dced85e21d3303a31362d54"),
        "validation": (17408, "a74786b1e750f74666df4f772cdce3c389d563f4a8de79c62735afc3dfc0c4d9"),
        "test": (34688, "5bd84332a665c4abc48c4eb2456a257b1744b7082c51c8c6b970c1b0e02ba0fd"),
    },
    "carnatic": {
        "train": (263504, "e1df8c567f69ac0e7680e507f8527b02e5fb13b95daabf5926584c03b3722078"),
        "validation": (37712, "4bdb61f90b38291c44bcee81d0a524c3baa00ff42ebe88767945f63eff3b03d9"),
        "test": (75296, "7475afb6709d75bc80211c2af237c132bfb442903edb0cd65f304c1f14d98fce"),
    },
}

LABEL_FIELDS = {
    "makam": (
        ("makam", "makamlist", ("name",)),
        ("usul", "usullist", ("name",)),
        ("instrument", "performers", ("instrument", "name")),
    ),
    "hindustani": (
        ("raga", "raags", ("common_name",)),
        ("tala", "taals", ("common_name",)),
        ("instrument", "artists", ("instrument", "name")),
        ("form", "forms", ("common_name",)),
    ),
    "carnatic": (
        ("raga", "raaga", ("common_name",)),
        ("tala", "taala", ("common_name",)),
        ("instrument", "artists", ("instrument", "name")),
        ("form", "form", ("name",)),
    ),
}
"""Tradition -> (group of labels, field of the recording, where the name is in each entry)."""

RECORDING_FILE = "recordings/{mbid}.json"
AUDIO_FILE = "audio/{mbid}.mp3"
REFUSED_FILE = "refused.tsv"

_ALBUM_FIELDS = {"makam": "releases", "hindustani": "release", "carnatic": "concert"}
_PLAYER_FIELDS = {"makam": "performers", "hindustani": "artists", "carnatic": "artists"}
_ALBUM_ARTIST_FIELDS = {"makam": "artists"}
"""Where it is not `album_artists`."""


class DunyaError(ValueError):
    """Dunya, or what it gave, cannot be used as asked; the message is one sentence."""


def labels_of(tradition: str, recording: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the labels of a recording as they are published, sorted, each once.

    Args:
        tradition: "makam", "hindustani" or "carnatic".
        recording: as the API gives it.

    Example:
        >>> labels_of("makam", {"makamlist": [{"name": "Rast"}], "usullist": None})
        ('makam--Rast',)
    """
    found = set()
    for group, field, keys in LABEL_FIELDS[tradition]:
        for entry in _entries(recording, field):
            name: Any = entry
            for key in keys:
                name = name.get(key) if isinstance(name, Mapping) else None
            if isinstance(name, str) and name.strip():
                found.add(f"{group}--{name.strip()}")
    return tuple(sorted(found))


def extract_sources(tradition: str, recording: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a recording shares with others: `album` and `artist`, where they are known.

    Args:
        tradition: "makam", "hindustani" or "carnatic".
        recording: as the API gives it.

    Returns:
        The MusicBrainz ids of its first release (Carnatic: concert), and of its lead artist or
        else of the release's first artist. An id that is not stated is left out.
    """
    albums = _entries(recording, _ALBUM_FIELDS[tradition])
    players = _entries(recording, _PLAYER_FIELDS[tradition])
    leads = [player for player in players if player.get("lead")]
    artists = _entries(recording, _ALBUM_ARTIST_FIELDS.get(tradition, "album_artists"))
    found = {"album": _first_id(albums), "artist": _first_id(leads) or _first_id(artists)}
    return {kind: mbid for kind, mbid in found.items() if mbid}


def extract_seconds(recording: Mapping[str, Any]) -> float | None:
    """Returns the length of a recording in seconds (the API has milliseconds), None if unknown."""
    length = recording.get("length")
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    return length / 1000.0 if is_number and length > 0 else None


def read_recording(path: str | os.PathLike) -> dict[str, Any]:
    """Returns a recording as it was kept.

    Args:
        path: of `recordings/MBID.json`.

    Raises:
        DunyaError: if the file is not there or holds no recording.
    """
    try:
        recording = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DunyaError(f"{path} is not there; fetch it with musrep download.") from error
    except ValueError as error:
        raise DunyaError(f"{path} holds no JSON ({error}); delete it and fetch it anew.") from error
    if not isinstance(recording, dict) or not recording.get("mbid"):
        raise DunyaError(f"{path} holds no recording of Dunya; delete it and fetch it anew.")
    return recording


def _entries(recording: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    """Returns the entries of a field that may be a list, one entry, null or missing."""
    value = recording.get(field)
    values = value if isinstance(value, list) else [value]
    return [entry for entry in values if isinstance(entry, Mapping)]


def _first_id(entries: list[Mapping[str, Any]]) -> str:
    for entry in entries:
        who = entry["artist"] if isinstance(entry.get("artist"), Mapping) else entry
        if isinstance(who.get("mbid"), str) and who["mbid"]:
            return who["mbid"]
    return ""


def split_files(tradition: str) -> tuple[SourceFile, ...]:
    """Returns the lists of the published split, pinned, as a builder's `FILES`.

    Args:
        tradition: "makam", "hindustani" or "carnatic".
    """
    return tuple(
        SourceFile(
            path=path,
            url=f"{_LISTS_URL}{tradition}/{path}",
            size=_LIST_SIZES_AND_HASHES[tradition][split][0],
            sha256=_LIST_SIZES_AND_HASHES[tradition][split][1],
            how=f"It is data/{tradition}/{path} of github.com/pxaris/ccml.",
        )
        for split, path in SPLIT_LISTS.items()
    )
