"""Finds the audio files of a corpus by the id in their name, wherever they lie."""

import os
import pathlib

from musrep_jax.data.audio.audio_files import walk_audio_files


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
    place = pathlib.Path(folder) / below
    found: dict[str, tuple[int, str]] = {}
    for path in walk_audio_files(place) if place.is_dir() else ():
        name = path.rpartition("/")[2]
        key, candidate = name.partition(".")[0], (len(name), f"{below}/{path}")
        found[key] = min(found.get(key, candidate), candidate)
    return {key: path for key, (_, path) in found.items()}
