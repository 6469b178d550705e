"""Log-mel spectrograms in JAX: periodic Hann window, centered frames, HTK mel bands, decibels."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.types import Array

DB_FLOOR_POWER = 1e-10  # 10 log10 of it is the floor of -100 dB


@dataclasses.dataclass(frozen=True)
class LogMel:
    """The settings of a log-mel front end; they travel with every exported model.

    The spectrum is a power spectrum without window normalization, frames are centered with reflect
    padding, mel bands are triangles of unit peak on the HTK scale (no area normalization), and the
    level is 10 log10(max(power, 1e-10)) with reference 1 and no clipping at a distance from the
    maximum. Source: torchaudio's MelSpectrogram and AmplitudeToDB defaults, as the public taggers
    use them; librosa gives the same with `htk=True, norm=None`.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length and FFT size, in samples.
        hop_length: in samples.
        n_mels: number of mel bands.
        f_min: lower edge of the first band, in Hz.
        f_max: upper edge of the last band, in Hz.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 8000.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain data, with the conventions spelled out."""
        return {
            "kind": "log_mel",
            **dataclasses.asdict(self),
            "window": "hann_periodic",
            "centre": "reflect",
            "power": 2.0,
            "mel_scale": "htk",
            "mel_norm": None,
            "decibel": {"reference": 1.0, "floor": -100.0, "top_db": None},
        }

    def num_frames(self, num_samples: int) -> int:
        """Returns the number of frames of `num_samples` samples.

        Example:
            >>> LogMel().num_frames(59049)
            231
        """
        return 1 + num_samples // self.hop_length


@functools.lru_cache(maxsize=32)
def mel_filter_bank(settings: LogMel) -> np.ndarray:
    """Returns the mel filter bank.

    Corner points are equally spaced on the HTK scale m = 2595 log10(1 + f / 700), and a filter
    rises and falls linearly in Hz between its neighbors' centers. With 128 bands at 16 kHz and 512
    points the first filter lies between two FFT bins and is zero; the published models were trained
    with that.

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
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (settings.f_min, settings.f_max))
    corners = 700.0 * (10.0 ** (np.linspace(low, high, settings.n_mels + 2) / 2595.0) - 1.0)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1)[:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def hann_window(length: int) -> np.ndarray:
    """Returns the periodic Hann window, float32 (length,)."""
    n = np.arange(length)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / length)).astype(np.float32)


def frame(audio: Array, frame_length: int, hop_length: int) -> Array:
    """Cuts centered, overlapping frames with reflect padding of half a frame at both ends.

    Args:
        audio: (batch, samples).
        frame_length: in samples.
        hop_length: in samples.

    Returns:
        (batch, 1 + samples // hop_length, frame_length).

    Raises:
        ValueError: if the audio is too short to be reflected.
    """
    half = frame_length // 2
    num_samples = audio.shape[-1]
    if num_samples <= half:
        raise ValueError(
            f"The waveform has {num_samples} samples; a spectrogram with frames of {frame_length} "
            f"samples needs at least {half + 1}. Pad it with zeros or use longer excerpts."
        )
    # What jnp.pad's mode "reflect" gives; older JAX has that for no batch of symbolic size.
    left, right = audio[:, half:0:-1], audio[:, num_samples - half - 1 : num_samples - 1][:, ::-1]
    padded = jnp.concatenate([left, audio, right], axis=1)
    num_frames = 1 + num_samples // hop_length
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


def power_spectrogram(audio: Array, n_fft: int, hop_length: int) -> Array:
    """Returns the power spectrogram of a batch of waveforms.

    Args:
        audio: float32 (batch, samples).
        n_fft: window length and FFT size, in samples.
        hop_length: in samples.

    Returns:
        float32 (batch, frames, n_fft // 2 + 1).
    """
    window = hann_window(n_fft)[None, None]
    spectrum = jnp.fft.rfft(frame(audio, n_fft, hop_length) * window, axis=-1)
    return spectrum.real**2 + spectrum.imag**2


def to_decibel(power: Array) -> Array:
    """Returns 10 log10(max(power, 1e-10))."""
    return 10.0 * jnp.log10(jnp.maximum(power, DB_FLOOR_POWER))


def log_mel_spectrogram(audio: Array, settings: LogMel) -> Array:
    """Returns the log-mel spectrogram of a batch of waveforms.

    The filter bank is applied in full float32, because the default matrix precision of some
    accelerators would lose about 0.01 dB.

    Args:
        audio: float32 (batch, samples), mono, at `settings.sample_rate`.
        settings: front-end settings.

    Returns:
        float32 (batch, frames, n_mels), in dB, frames = 1 + samples // hop_length.
    """
    power = power_spectrogram(audio.astype(jnp.float32), settings.n_fft, settings.hop_length)
    mel = jnp.matmul(power, mel_filter_bank(settings), precision=jax.lax.Precision.HIGHEST)
    return to_decibel(mel)
