"""Impulse responses of rooms, from a folder of recordings."""

import functools
import os

import numpy as np

from musrep_jax.data.audio.audio_files import walk_audio_files
from musrep_jax.data.audio.errors import AudioError
from musrep_jax.data.audio.reading import read_audio

MAX_SECONDS = 10.0
"""What of a response is heard; the rest is cut off."""


@functools.lru_cache(maxsize=4)
def read_responses(folder: str, sample_rate: int) -> np.ndarray:
    """Returns the impulse responses of a folder, each of unit energy, as long as the longest.

    White noise keeps its level through a response of unit energy.

    Args:
        folder: with audio files, also in folders within it; each is one response.
        sample_rate: in Hz, that they are resampled to; channels are averaged.

    Returns:
        float32 (responses, samples), in the order of the files' names.

    Raises:
        AudioError: if the folder has no recordings, or one of them cannot be read or is silent.
    """
    names = sorted(walk_audio_files(folder))
    if not names:
        raise AudioError(folder, "has no audio files: put impulse responses there, one a file.")
    longest = round(MAX_SECONDS * sample_rate)
    found = []
    for name in names:
        path = os.path.join(folder, name)
        audio, _ = read_audio(path, sample_rate=sample_rate, num_frames=longest)
        energy = float(np.sqrt(np.sum(audio.astype(np.float64) ** 2)))
        if not energy > 0:
            raise AudioError(path, "is silent, which is no impulse response: take it out.")
        found.append(audio / np.float32(energy))
    size = max(len(audio) for audio in found)
    return np.stack([np.pad(audio, (0, size - len(audio))) for audio in found])
