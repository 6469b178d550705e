"""Finds the audio files of a corpus by the id in their name, wherever they lie."""

import os
import pathlib

AUDIO_SUFFIXES = frozenset({".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"})


def index_audio(folder: str | os.PathLike, below: str = "audio") -> dict[str, str]:
    """Returns id -> path of the audio files below a folder.

    The id is the name up to its first dot. Where several files have it, the shortest name is taken
    (`241.mp3` before `241.low.mp3`), among equals the first in order.

    Args:
        folder: of the corpus.
        below: the folder in it that holds the audio; it may be missing.

    Returns:
        Paths relative to `folder`, with forward slashes.
    """
    root = pathlib.Path(folder)
    found: dict[str, tuple[int, str]] = {}
    for place, _, names in os.walk(root / below):
        relative = pathlib.Path(place).relative_to(root).as_posix()
        for name in names:
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not name.startswith("."):
                key, candidate = name.partition(".")[0], (len(name), f"{relative}/{name}")
                found[key] = min(found.get(key, candidate), candidate)
    return {key: path for key, (_, path) in found.items()}
