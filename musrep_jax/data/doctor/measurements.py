"""One audio file measured: its container read, all of it decoded once, block by block.

What is measured here is fact and does not change while the file does not; what is made of it (too
short, silent, clipped) is decided in `musrep_jax.data.doctor.diagnosis`, so that findings
can be kept.
"""

import dataclasses
import hashlib
import mmap
import os
import pathlib
from typing import Any

import numpy as np

from musrep_jax.data.audio.containers import read_container
from musrep_jax.data.audio.ffmpeg import FfmpegFile
from musrep_jax.data.audio.formats import Container
from musrep_jax.data.audio.log_mel import FRONT_END
from musrep_jax.data.audio.reading import AudioError, open_audio, read_blocks
from musrep_jax.data.audio.resampling import SILENCE_LEVEL

WINDOW_SECONDS = 0.05
"""Of which silence is counted."""
_FLAT_TOP_LEVEL, _HIGH, _MEDIUM = 0.9, 0.85, 0.6
_MAX_RIPPLE_SHARE = 0.05
"""Noise that dither and lossy codecs add to a constant signal, relative to it."""
_COARSE_SUBTYPES = ("PCM_U8", "PCM_S8", "ULAW", "ALAW")
_LOSSLESS_SUBTYPES = ("PCM", "FLOAT", "DOUBLE", "ALAC")
"""How the encodings begin whose samples come back exactly."""


@dataclasses.dataclass(frozen=True)
class FileMeasurements:
    """Measurements of a file; levels are relative to full scale.

    Attributes:
        size: of the file in bytes.
        mtime_ns: when it was last written.
        container: what its headers say.
        content: digest of its bytes.
        encoding: as libsndfile calls it ("MP3/MPEG_LAYER_III"), or "" if it cannot be opened.
        sample_rate: in Hz.
        channels: number of them.
        num_frames: that were decoded.
        declared_frames: that libsndfile expects of it, or None where that is only an estimate.
        error: why it could not be opened or decoded to its end, as a clause; "".
        is_ffmpeg_missing: whether that is for want of the ffmpeg program.
        sound: digest of the decoded samples as 16 bits, with rate and channels.
        num_not_finite: samples that are NaN or infinite.
        peak: greatest absolute value.
        is_coarse: whether equal samples in a row are nothing special: lossy, or 8 bits.
        spread: of the channel that moves most, greatest minus smallest value.
        offset: mean, of the channel where it is furthest from 0.
        mute_channels: channels that are silent.
        flat: share of samples at 0.9 or more between two that equal them; not if `is_coarse`.
        high: share of samples at 0.85 or more; if `is_coarse`.
        medium: share of samples at 0.6 or more; if `is_coarse`.
        silent: share of the time without any sound.
        still: share of the time in which there is a value other than 0 and nothing moves.
        longest_silence: in seconds.
    """

    size: int
    mtime_ns: int
    container: Container
    content: str
    encoding: str = ""
    sample_rate: int = 0
    channels: int = 0
    num_frames: int = 0
    declared_frames: int | None = None
    error: str = ""
    is_ffmpeg_missing: bool = False
    sound: str = ""
    num_not_finite: int = 0
    peak: float = 0.0
    is_coarse: bool = False
    spread: float = 0.0
    offset: float = 0.0
    mute_channels: int = 0
    flat: float = 0.0
    high: float = 0.0
    medium: float = 0.0
    silent: float = 0.0
    still: float = 0.0
    longest_silence: float = 0.0

    @property
    def seconds(self) -> float:
        """Decoded length."""
        return self.num_frames / self.sample_rate if self.sample_rate else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "FileMeasurements":
        """Returns the facts that `to_dict` gave."""
        return cls(**{**fields, "container": Container(**fields["container"])})


def measure_file(path: str | os.PathLike) -> FileMeasurements:
    """Measures a file, which is decoded completely, in bounded memory.

    Args:
        path: of a regular file.

    Raises:
        OSError: if the file system does not let it be read.
    """
    path = pathlib.Path(path)
    is_array = path.suffix.lower() == ".npy"
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        content = hashlib.file_digest(file, "sha256").hexdigest()
        container = Container("")
        if stat.st_size and not is_array:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                container = read_container(data)
    facts = {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "container": container,
        "content": content,
    }
    if not stat.st_size:
        return FileMeasurements(**facts)
    measured = _measure_array(path) if is_array else _measure_audio(path, container)
    return FileMeasurements(**facts, **measured)


def _measure_audio(path: pathlib.Path, container: Container) -> dict[str, Any]:
    try:
        file = open_audio(path, "it", container)
    except AudioError as error:
        return {"error": error.reason, "is_ffmpeg_missing": error.needs_ffmpeg}
    with file:
        is_decoded_by_ffmpeg = isinstance(file, FfmpegFile)
        is_lossless = file.subtype.startswith(_LOSSLESS_SUBTYPES)
        found = {
            "encoding": file.format if is_decoded_by_ffmpeg else f"{file.format}/{file.subtype}",
            "sample_rate": file.samplerate,
            "channels": file.channels,
            "declared_frames": file.frames if file.format in ("FLAC", "OGG") else None,
            "is_coarse": not is_lossless or file.subtype in _COARSE_SUBTYPES,
        }
        meter = _Meter(file.samplerate, file.channels, found["is_coarse"])
        try:
            for block in read_blocks(file, "it"):
                meter.add(block)
        except AudioError as error:
            found["error"] = error.reason
    return {**found, **meter.result()}


def _measure_array(path: pathlib.Path) -> dict[str, Any]:
    """Measures a log-mel archive, whose values are no levels: length, finite, constant."""
    n_mels = FRONT_END["n_mels"]
    try:
        array = np.squeeze(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        return {"error": f"cannot be read: it is no whole array of numpy ({error})."}
    if array.ndim != 2 or n_mels not in array.shape or array.dtype.kind not in "fiu":
        return {"error": f"cannot be used: its shape is {array.shape}, not ({n_mels}, frames)."}
    finite = int(np.isfinite(array).sum())
    spread = float(np.ptp(array)) if array.size and finite == array.size else 1.0
    frames = array.size // n_mels
    return {
        "encoding": f"NPY/{array.dtype}",
        "sample_rate": FRONT_END["sample_rate"],
        "channels": 1,
        "num_frames": max(0, frames - 1) * FRONT_END["hop_length"],
        "num_not_finite": array.size - finite,
        "peak": 1.0,
        "spread": spread,
        "offset": 0.0 if spread else float(array.flat[0]),
    }


class _Meter:
    """Accumulates measurements of decoded blocks."""

    def __init__(self, sample_rate: int, channels: int, is_coarse: bool) -> None:
        self.is_coarse = is_coarse
        self.window = max(1, int(WINDOW_SECONDS * sample_rate))
        self.sample_rate = sample_rate
        self.num_frames, self.num_not_finite, self.num_still = 0, 0, 0
        self.num_flat, self.num_high, self.num_medium = 0, 0, 0
        self.sum = np.zeros(channels)
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.silent_windows: list[np.ndarray] = []
        self.digest = hashlib.sha256(f"{sample_rate} {channels}".encode())

    def add(self, block: np.ndarray) -> None:
        """Takes a block, float32 (frames, channels)."""
        rows = np.ascontiguousarray(block.T)  # reductions along memory are many times faster
        low, high = rows.min(axis=1), rows.max(axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            self.num_not_finite += int((~np.isfinite(block)).sum())
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            rows = np.ascontiguousarray(block.T)
            low, high = rows.min(axis=1), rows.max(axis=1)
        self.num_frames += len(block)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.sum += rows.sum(axis=1)
        scaled = np.multiply(block, np.float32(32768.0))
        np.rint(scaled, out=scaled)
        np.clip(scaled, -32768.0, 32767.0, out=scaled)
        self.digest.update(scaled.astype("<i2"))
        peak = max(high.max(), -low.min())
        if self.is_coarse and peak >= _MEDIUM:
            levels = np.abs(rows)
            self.num_high += int((levels >= _HIGH).sum())
            self.num_medium += int((levels >= _MEDIUM).sum())
        elif not self.is_coarse and peak >= _FLAT_TOP_LEVEL:
            self.num_flat += sum(map(_count_flat_top_samples, rows))
        whole = len(block) // self.window * self.window
        windows = block[:whole].reshape(-1, self.window * block.shape[1])
        low, high = windows.min(axis=1), windows.max(axis=1)
        self.silent_windows.append((high < SILENCE_LEVEL) & (low > -SILENCE_LEVEL))
        level = np.maximum(np.abs(low), np.abs(high))
        self.num_still += int(
            (high - low < np.maximum(2 * SILENCE_LEVEL, _MAX_RIPPLE_SHARE * level)).sum()
        )

    def result(self) -> dict[str, Any]:
        """Returns the measurements by the names of `Facts`."""
        found = {"num_frames": self.num_frames, "num_not_finite": self.num_not_finite}
        if not self.num_frames:
            return found
        means, num_samples = self.sum / self.num_frames, self.num_frames * len(self.sum)
        silent = np.concatenate(self.silent_windows)
        return {
            **found,
            "sound": self.digest.hexdigest(),
            "peak": float(max(self.high.max(), -self.low.min())),
            "spread": float((self.high - self.low).max()),
            "offset": float(means[np.abs(means).argmax()]),
            "mute_channels": int(((self.high < SILENCE_LEVEL) & (self.low > -SILENCE_LEVEL)).sum()),
            "flat": self.num_flat / num_samples,
            "high": self.num_high / num_samples,
            "medium": self.num_medium / num_samples,
            "silent": float(silent.mean()) if len(silent) else 0.0,
            "still": (self.num_still - int(silent.sum())) / max(1, len(silent)),
            "longest_silence": _longest_run(silent) * self.window / self.sample_rate,
        }


def _count_flat_top_samples(row: np.ndarray) -> int:
    """Returns how many samples lie, near full scale, between two that equal them."""
    same = (row[1:] == row[:-1]) & (np.abs(row[1:]) >= _FLAT_TOP_LEVEL)
    return int((same[1:] & same[:-1]).sum())


def _longest_run(mask: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
