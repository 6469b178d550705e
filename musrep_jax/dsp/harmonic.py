"""Harmonic filters: band-pass filters at the harmonics of a grid of fundamental frequencies.

A waveform becomes an image (time, band, harmonic): channel n of band k is the level around n f_k,
so that a convolution sees a tone's harmonics at one place. The filters are triangles whose width
follows the ear (equivalent rectangular bandwidth) and a quality factor Q, all differentiable.

Source: Won, Chun, Nieto, Serra, "Data-driven harmonic filters for audio representation learning",
ICASSP 2020; public codes minzwon/data-driven-harmonic-filters and
minzwon/sota-music-tagging-models.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.spectrogram import power_spectrogram, to_decibel
from musrep_jax.types import Array

LOWEST_MIDI = 24  # C1, 32.70 Hz
ERB_SLOPE = 0.1079  # alpha: bandwidth in Hz per Hz of center frequency
ERB_OFFSET_HZ = 24.7  # beta: bandwidth at 0 Hz
MAX_HARMONICS = 10

MIN_QUALITY = 0.1
"""Below this Q is bent so that it stays positive; see `bound_quality`."""

MIN_FILTER_WEIGHT = 0.01
"""Filters whose weights sum to less get no gradient; see `harmonic_levels`."""


@dataclasses.dataclass(frozen=True)
class HarmonicGrid:
    """The settings of a harmonic front end; they travel with every exported model.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length and FFT size, in samples, even. (The public code defaults to 513 in
            places, which bends its own frequency axis; 512 is what was trained.)
        hop_length: in samples. The published models have n_fft / 2, whatever they are asked for.
        num_harmonics: 1 to 10.
        semitone_scale: bands per semitone.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_harmonics: int = 6
    semitone_scale: int = 2

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: if one is out of range.
        """
        if not 1 <= self.num_harmonics <= MAX_HARMONICS:
            raise ValueError(
                f"num_harmonics is {self.num_harmonics}: harmonic filters take 1 to "
                f"{MAX_HARMONICS} harmonics."
            )
        if self.semitone_scale < 1:
            raise ValueError(
                f"semitone_scale is {self.semitone_scale}: give the number of bands per semitone, "
                "1 or more."
            )
        if self.n_fft < 2 or self.n_fft % 2:
            raise ValueError(
                f"n_fft is {self.n_fft}: harmonic filters take an even FFT size, as the last bin "
                "has to lie at half the sample rate."
            )
        if self.num_bands < 1:
            lowest = 2 * self.num_harmonics * float(midi_to_hz(LOWEST_MIDI + 1))
            raise ValueError(
                f"At {self.sample_rate} Hz there is no room for {self.num_harmonics} harmonics of "
                f"C1: take fewer harmonics or a sample rate above {lowest:.0f} Hz."
            )

    @property
    def num_bands(self) -> int:
        """Number of bands: from C1 up to the note nearest to sample_rate / (2 num_harmonics).

        Example:
            >>> [HarmonicGrid(num_harmonics=h).num_bands for h in (1, 6, 10)]
            [190, 128, 110]
        """
        highest_hz = self.sample_rate / (2 * self.num_harmonics)
        highest_midi = round(69 + 12 * math.log2(highest_hz / 440))
        return (highest_midi - LOWEST_MIDI) * self.semitone_scale

    @property
    def num_freqs(self) -> int:
        """Number of FFT bins."""
        return self.n_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Returns the number of frames of `num_samples` samples."""
        return 1 + num_samples // self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain data, with the conventions spelled out."""
        return {
            "kind": "harmonic",
            **dataclasses.asdict(self),
            "num_bands": self.num_bands,
            "lowest_midi": LOWEST_MIDI,
            "window": "hann_periodic",
            "centre": "reflect",
            "power": 2.0,
            "decibel": {"reference": 1.0, "floor": -100.0, "top_db": None},
        }


def midi_to_hz(midi: np.ndarray | float) -> np.ndarray:
    """Returns the frequency in Hz of MIDI note numbers, 440 Hz being note 69."""
    return 440.0 * 2.0 ** ((np.asarray(midi, np.float64) - 69.0) / 12.0)


def fundamental_frequencies(grid: HarmonicGrid) -> np.ndarray:
    """Returns the center frequencies of the first harmonic.

    Args:
        grid: front-end settings.

    Returns:
        float64 (bands,), in Hz, equally spaced in pitch from C1; the end point is left out.

    Example:
        >>> fundamental_frequencies(HarmonicGrid())[[0, 24, 127]].round(1)
        array([  32.7,   65.4, 1281. ])
    """
    return midi_to_hz(LOWEST_MIDI + np.arange(grid.num_bands) / grid.semitone_scale)


def harmonic_centers(fundamentals: Array, num_harmonics: int) -> Array:
    """Returns the center frequencies of all filters, n times the fundamental.

    Args:
        fundamentals: (bands,), in Hz.
        num_harmonics: number of harmonics.

    Returns:
        float32 (bands, harmonics), in Hz.
    """
    harmonics = np.arange(1, num_harmonics + 1, dtype=np.float32)[None, :]
    return jnp.asarray(fundamentals, jnp.float32)[:, None] * harmonics


def bound_quality(quality: Array) -> Array:
    """Returns a positive Q: unchanged from 0.1 up, bent smoothly towards 0.05 below.

    The published code divides by an unconstrained parameter. Here value and slope are continuous at
    0.1, so a Q that is pushed too far down can come back.

    Args:
        quality: any shape, any real number.

    Returns:
        The same shape, above 0.05.

    Example:
        >>> [round(float(bound_quality(q)), 3) for q in (1.9, 0.1, 0.0, -5.0)]
        [1.9, 0.1, 0.057, 0.05]
    """
    below = jnp.minimum(quality, MIN_QUALITY)  # keeps the unused branch from overflowing
    bent = 0.5 * MIN_QUALITY * (1 + jnp.exp(2 * (below - MIN_QUALITY) / MIN_QUALITY))
    return jnp.where(quality >= MIN_QUALITY, quality, bent)


def filter_bandwidths(
    centres: Array,
    quality: Array | float,
    alpha: Array | float = ERB_SLOPE,
    beta: Array | float = ERB_OFFSET_HZ,
) -> Array:
    """Returns the widths of the filters' bases, (alpha f + beta) / Q.

    Args:
        centres: (bands, harmonics), in Hz.
        quality: Q, a scalar, positive; larger is narrower.
        alpha: scalar, bandwidth per Hz of center frequency.
        beta: scalar, in Hz.

    Returns:
        (bands, harmonics), in Hz.
    """
    return (alpha * centres + beta) / quality


def harmonic_filter_bank(centres: Array, bandwidths: Array, grid: HarmonicGrid) -> Array:
    """Returns triangular filters of unit peak, max(0, 1 - 2 |f - center| / bandwidth).

    Where a triangle is narrower than the distance of the FFT bins it may miss all of them: with the
    published grid 1 of 768 filters is empty at Q = 1, 68 at Q = 1.9. The published models were
    trained with that.

    Args:
        centres: (bands, harmonics), in Hz.
        bandwidths: (bands, harmonics), in Hz.
        grid: front-end settings.

    Returns:
        float32 (freqs, bands, harmonics).
    """
    bins = np.linspace(0, grid.sample_rate / 2, grid.num_freqs, dtype=np.float32)[:, None, None]
    distance = jnp.abs(bins - centres[None])
    return jnp.maximum(0.0, 1.0 - 2.0 * distance / bandwidths[None])


def harmonic_levels(power: Array, bank: Array) -> Array:
    """Returns the level in dB behind every filter.

    An empty filter gives a constant -100 dB. The decibel of a filter that is just about to become
    empty has a slope that grows without bound, so filters whose weights sum to less than 0.01 are
    constants in the backward pass, like the empty ones; the values are not changed.

    Args:
        power: float32 (batch, frames, freqs), power spectrogram.
        bank: float32 (freqs, bands, harmonics).

    Returns:
        float32 (batch, frames, bands, harmonics), in dB.
    """
    num_freqs, num_bands, num_harmonics = bank.shape
    heard = bank.sum(axis=0, keepdims=True) >= MIN_FILTER_WEIGHT
    bank = jnp.where(heard, bank, jax.lax.stop_gradient(bank))
    # Full float32: the default precision of some accelerators would lose about 0.01 dB.
    levels = jnp.matmul(
        power, bank.reshape(num_freqs, -1), precision=jax.lax.Precision.HIGHEST
    ).reshape(*power.shape[:2], num_bands, num_harmonics)
    return to_decibel(levels)


def harmonic_spectrogram(audio: Array, bank: Array, grid: HarmonicGrid) -> Array:
    """Returns the harmonic spectrogram of a batch of waveforms.

    Args:
        audio: float32 (batch, samples), mono, at `grid.sample_rate`.
        bank: float32 (freqs, bands, harmonics), from `harmonic_filter_bank`.
        grid: front-end settings.

    Returns:
        float32 (batch, frames, bands, harmonics), in dB, frames = 1 + samples // hop_length.
    """
    power = power_spectrogram(audio.astype(jnp.float32), grid.n_fft, grid.hop_length)
    return harmonic_levels(power, bank)
