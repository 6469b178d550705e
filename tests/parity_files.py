"""Reference outputs of the public PyTorch taggers: the files in `golden/parity`."""

import functools
import json
import pathlib
from typing import Any

import numpy as np
import soundfile

FOLDER = pathlib.Path(__file__).parent / "golden" / "parity"


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a stored variant, such as "synthetic_sota_short"."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def load_manifest(variant: str) -> dict[str, Any]:
    """Returns what is known of a variant's state dictionary: `keys` and numbers of parameters."""
    suffix = {"ccml": "_ccml", "mert": "_mert"}.get(variant.partition("_")[0], "")
    path = FOLDER / f"state_dict_manifest{suffix}.json"
    return json.loads(path.read_text(encoding="utf-8"))[variant]


@functools.cache
def load_clip() -> np.ndarray:
    """Returns the waveform that the variants were fed with, float32 (464000,) at 16 kHz."""
    parts = [soundfile.read(FOLDER / f"fishin_{part}.flac", dtype="int16")[0] for part in range(3)]
    return np.concatenate(parts) / np.float32(32768)


def load_log_mel(start: int, stop: int) -> np.ndarray:
    """Returns stored frames of the clip's log-mel spectrogram, float32 (96, frames), in dB.

    Args:
        start: first frame: 500, 900 or 1400.
        stop: frame after the last; at most 756, 1156 or 1528.
    """
    for name, values in load_arrays("fishin_log_mel").items():
        first, end = (int(word) for word in name.split("_")[1:])
        if first == start and stop <= end:
            return values[:, : stop - start]
    raise KeyError(f"frames {start} to {stop} are not stored")
