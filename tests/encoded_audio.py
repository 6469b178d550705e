"""Files of real encoders, made by ffmpeg where libsndfile has none."""

import pathlib
import subprocess
from collections.abc import Mapping, Sequence

import numpy as np
import soundfile

from musrep_jax.data.audio.ffmpeg import find_ffmpeg


def encode(path: pathlib.Path, audio: np.ndarray, rate: int, *options: str) -> pathlib.Path:
    """Writes audio with ffmpeg's own choice of codec for the name, or as the options say.

    Args:
        path: of the file; its suffix says the format.
        audio: float (samples,) or (samples, channels).
        rate: in Hz.
        options: of ffmpeg, for the output.
    """
    encode_all({path: options}, audio, rate)
    return path


def encode_all(outputs: Mapping[pathlib.Path, Sequence[str]], audio: np.ndarray, rate: int) -> None:
    """Writes audio in several formats, with one run of ffmpeg; see `encode`.

    Args:
        outputs: path of each file -> its options.
        audio: float (samples,) or (samples, channels).
        rate: in Hz.
    """
    source = next(iter(outputs)).with_suffix(".source.wav")
    soundfile.write(source, audio, rate, subtype="FLOAT")
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", "-i", source]
    for path, options in outputs.items():
        command += [*options, path]
    subprocess.run(command, check=True)
    source.unlink()
