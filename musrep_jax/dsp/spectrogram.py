"""Log-mel spectrograms in JAX: periodic Hann window, mel bands, a logarithmic level."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.types import Array

DB_FLOOR_POWER = 1e-10  # 10 log10 of it is the floor of -100 dB
MAGNITUDE_FLOOR = 1e-5  # the same floor, of a magnitude

CONVENTIONS = ("decibel", "musicnn", "log_magnitude")
"""Mel scale, padding and level that belong together, see `LogMel`."""

_MUSICNN_GAIN = 10000.0
_SLANEY_LINEAR_HZ = 1000.0
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


@dataclasses.dataclass(frozen=True)
class LogMel:
    """The settings of a log-mel front end; they travel with every exported model.

    The spectrum is a power spectrum without window normalization, or its square root. The rest is
    one of three conventions:

    - "decibel": frames are centered with reflect padding, mel bands are triangles of unit peak on
      the HTK scale (no area normalization), and the level is 10 log10(max(power, 1e-10)) with
      reference 1 and no clipping at a distance from the maximum. Source: torchaudio's
      MelSpectrogram and AmplitudeToDB defaults, as the public taggers use them; librosa gives the
      same with `htk=True, norm=None`.
    - "musicnn": frames lie inside the excerpt, without padding, mel bands are triangles of unit
      area on Slaney's scale, and the level is log10(10000 power + 1) of the power rounded to
      float16. Source: the public package musicnn, and librosa's defaults, which it uses.
    - "log_magnitude": frames lie inside the excerpt, mel bands are triangles of unit peak on the
      HTK scale over magnitudes, and the level is ln(max(magnitude, 1e-5)). Source: Hamel et al.,
      ISMIR 2013, who state neither the mel scale nor the floor.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length and FFT size, in samples.
        hop_length: in samples.
        n_mels: number of mel bands.
        f_min: lower edge of the first band, in Hz.
        f_max: upper edge of the last band, in Hz.
        convention: one of `CONVENTIONS`.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 8000.0
    convention: str = "decibel"

    def __post_init__(self) -> None:
        """Checks the convention.

        Raises:
            ValueError: if there is none of that name.
        """
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"A log-mel front end has no convention {self.convention!r}: choose one of "
                f"{', '.join(CONVENTIONS)}."
            )

    @property
    def is_centered(self) -> bool:
        """Whether the first frame is centered on the first sample, with padding around."""
        return self.convention == "decibel"

    @property
    def silence(self) -> float:
        """The level of silence."""
        floors = {
            "decibel": -100.0,
            "musicnn": 0.0,
            "log_magnitude": float(np.log(MAGNITUDE_FLOOR)),
        }
        return floors[self.convention]

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain data, with the conventions spelled out."""
        own = {k: v for k, v in dataclasses.asdict(self).items() if k != "convention"}
        facts = {"kind": "log_mel", **own, "window": "hann_periodic", "power": 2.0}
        if self.convention == "log_magnitude":
            return facts | {
                "power": 1.0,
                "centre": None,
                "mel_scale": "htk",
                "mel_norm": None,
                "level": f"ln(max(magnitude, {MAGNITUDE_FLOOR:g}))",
            }
        if self.convention == "decibel":
            return facts | {
                "centre": "reflect",
                "mel_scale": "htk",
                "mel_norm": None,
                "decibel": {"reference": 1.0, "floor": self.silence, "top_db": None},
            }
        return facts | {
            "centre": None,
            "mel_scale": "slaney",
            "mel_norm": "slaney",
            "power_dtype": "float16",
            "level": "log10(10000 power + 1)",
        }

    def num_frames(self, num_samples: int) -> int:
        """Returns the number of frames of `num_samples` samples.

        Example:
            >>> LogMel().num_frames(59049)
            231
        """
        inside = num_samples if self.is_centered else num_samples - self.n_fft
        return 1 + inside // self.hop_length


@functools.lru_cache(maxsize=32)
def mel_filter_bank(settings: LogMel) -> np.ndarray:
    """Returns the mel filter bank.

    Corner points are equally spaced on the mel scale: HTK's m = 2595 log10(1 + f / 700), or
    Slaney's, which is linear up to 1000 Hz and logarithmic above. A filter rises and falls linearly
    in Hz between its neighbors' centers. With 128 HTK bands at 16 kHz and 512 points the first
    filter lies between two FFT bins and is zero; the published models were trained with that.

    Args:
        settings: front-end settings.

    Returns:
        float32 (n_fft // 2 + 1, n_mels).

    Raises:
        ValueError: if f_max is not above f_min or lies above half the sample rate.

    Example:
        >>> bank = mel_filter_bank(LogMel())
        >>> bank.shape, round(float(bank.sum()), 1)
        ((257, 128), 252.8)
    """
    if not 0 <= settings.f_min < settings.f_max <= settings.sample_rate / 2:
        raise ValueError(
            f"Mel bands from {settings.f_min} to {settings.f_max} Hz do not fit a sample rate of "
            f"{settings.sample_rate} Hz: choose 0 <= f_min < f_max <= {settings.sample_rate / 2}."
        )
    to_mel, to_hz = _MEL_SCALES[settings.convention]
    low, high = (to_mel(np.asarray(f)) for f in (settings.f_min, settings.f_max))
    corners = to_hz(np.linspace(low, high, settings.n_mels + 2))
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1)[:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if settings.convention == "musicnn":
        filters = filters * (2.0 / (right - left))
    return filters.astype(np.float32)


def _to_htk_mel(hertz: np.ndarray) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _from_htk_mel(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _to_slaney_mel(hertz: np.ndarray) -> np.ndarray:
    above = np.log(np.maximum(hertz, _SLANEY_LINEAR_HZ) / _SLANEY_LINEAR_HZ) / _SLANEY_LOG_STEP
    return np.minimum(hertz, _SLANEY_LINEAR_HZ) / _SLANEY_HZ_PER_MEL + above


def _from_slaney_mel(mel: np.ndarray) -> np.ndarray:
    corner = _SLANEY_LINEAR_HZ / _SLANEY_HZ_PER_MEL
    above = np.exp(_SLANEY_LOG_STEP * np.maximum(mel - corner, 0.0))
    return np.minimum(mel, corner) * _SLANEY_HZ_PER_MEL * above


_MEL_SCALES = {
    "decibel": (_to_htk_mel, _from_htk_mel),
    "musicnn": (_to_slaney_mel, _from_slaney_mel),
    "log_magnitude": (_to_htk_mel, _from_htk_mel),
}
"""Convention -> Hz to mel, mel to Hz."""


def to_hertz(settings: LogMel, bands: np.ndarray) -> np.ndarray:
    """Returns where places on the axis of mel bands lie.

    Args:
        settings: front-end settings.
        bands: places in bands: k is the peak of band k, k - 0.5 its lower edge.

    Returns:
        float64 of the same shape, in Hz.

    Example:
        >>> to_hertz(LogMel(), np.array([-1.0, 128.0])).round(6).tolist()
        [0.0, 8000.0]
    """
    to_mel, to_hz = _MEL_SCALES[settings.convention]
    low, high = (float(to_mel(np.asarray(f))) for f in (settings.f_min, settings.f_max))
    return to_hz(low + (high - low) * (np.asarray(bands) + 1) / (settings.n_mels + 1))


def hann_window(length: int) -> np.ndarray:
    """Returns the periodic Hann window, float32 (length,)."""
    n = np.arange(length)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / length)).astype(np.float32)


def frame(audio: Array, frame_length: int, hop_length: int, *, is_centered: bool = True) -> Array:
    """Cuts overlapping frames; centered ones with reflect padding of half a frame at both ends.

    Args:
        audio: (batch, samples).
        frame_length: in samples.
        hop_length: in samples.
        is_centered: whether the first frame is centered on the first sample; otherwise it begins
            there, and nothing is padded.

    Returns:
        (batch, frames, frame_length), 1 + samples // hop_length frames if they are centered.

    Raises:
        ValueError: if the audio is too short to be reflected, or for one frame.
    """
    half = frame_length // 2
    num_samples = audio.shape[-1]
    fewest = half + 1 if is_centered else frame_length
    if num_samples < fewest:
        raise ValueError(
            f"The waveform has {num_samples} samples; a spectrogram with frames of {frame_length} "
            f"samples needs at least {fewest}. Pad it with zeros or use longer excerpts."
        )
    padded = audio
    if is_centered:
        # What jnp.pad's mode "reflect" gives; older JAX has that for no batch of symbolic size.
        left = audio[:, half:0:-1]
        right = audio[:, num_samples - half - 1 : num_samples - 1][:, ::-1]
        padded = jnp.concatenate([left, audio, right], axis=1)
    num_frames = 1 + (padded.shape[-1] - frame_length) // hop_length
    if frame_length % hop_length == 0:
        # Overlapping frames are neighboring blocks side by side: slices instead of a gather.
        parts = frame_length // hop_length
        needed = (num_frames + parts - 1) * hop_length
        if needed > padded.shape[-1]:
            padded = jnp.pad(padded, ((0, 0), (0, needed - padded.shape[-1])))
        blocks = padded[:, :needed].reshape(audio.shape[0], -1, hop_length)
        return jnp.concatenate([blocks[:, p : p + num_frames] for p in range(parts)], axis=-1)
    index = np.arange(num_frames)[:, None] * hop_length + np.arange(frame_length)
    return padded[:, index]


def power_spectrogram(
    audio: Array, n_fft: int, hop_length: int, *, is_centered: bool = True
) -> Array:
    """Returns the power spectrogram of a batch of waveforms.

    Args:
        audio: float32 (batch, samples).
        n_fft: window length and FFT size, in samples.
        hop_length: in samples.
        is_centered: see `frame`.

    Returns:
        float32 (batch, frames, n_fft // 2 + 1).
    """
    window = hann_window(n_fft)[None, None]
    frames = frame(audio, n_fft, hop_length, is_centered=is_centered)
    spectrum = jnp.fft.rfft(frames * window, axis=-1)
    return spectrum.real**2 + spectrum.imag**2


def to_decibel(power: Array) -> Array:
    """Returns 10 log10(max(power, 1e-10))."""
    return 10.0 * jnp.log10(jnp.maximum(power, DB_FLOOR_POWER))


def to_musicnn_level(power: Array) -> Array:
    """Returns log10(10000 power + 1) of the power rounded to float16, as float32."""
    largest = float(jnp.finfo(jnp.float16).max)  # what is above it would become infinite
    rounded = jnp.minimum(power, largest).astype(jnp.float16).astype(jnp.float32)
    return jnp.log10(_MUSICNN_GAIN * rounded + 1.0)


def to_log_magnitude(magnitude: Array) -> Array:
    """Returns ln(max(magnitude, 1e-5))."""
    return jnp.log(jnp.maximum(magnitude, MAGNITUDE_FLOOR))


_LEVELS = {
    "decibel": to_decibel,
    "musicnn": to_musicnn_level,
    "log_magnitude": to_log_magnitude,
}
"""Convention -> level of what the mel bands hold."""


def log_mel_spectrogram(audio: Array, settings: LogMel) -> Array:
    """Returns the log-mel spectrogram of a batch of waveforms.

    The filter bank is applied in full float32, because the default matrix precision of some
    accelerators would lose about 0.01 dB.

    Args:
        audio: float32 (batch, samples), mono, at `settings.sample_rate`.
        settings: front-end settings.

    Returns:
        float32 (batch, frames, n_mels), on the level of the convention.
    """
    spectrum = power_spectrogram(
        audio.astype(jnp.float32),
        settings.n_fft,
        settings.hop_length,
        is_centered=settings.is_centered,
    )
    if settings.convention == "log_magnitude":
        spectrum = jnp.sqrt(spectrum)
    mel = jnp.matmul(spectrum, mel_filter_bank(settings), precision=jax.lax.Precision.HIGHEST)
    return _LEVELS[settings.convention](mel)
