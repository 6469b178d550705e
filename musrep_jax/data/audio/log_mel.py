"""The log-mel spectrogram that data sets are stored in, where they are not stored as audio.

Source: the front end of the cross-cultural tagging paper (arXiv 2307.09795) and of the Lyra data
set: 16 kHz, 512-point periodic Hann window, hop 256, centered with reflection, power, 128 bands on
the HTK mel scale with triangles of unit peak, 10 log10(max(., 1e-10)).
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

FRONT_END: Mapping[str, Any] = {
    "kind": "log_mel",
    "sample_rate": 16000,
    "n_fft": 512,
    "hop_length": 256,
    "n_mels": 128,
    "f_min": 0.0,
    "f_max": 8000.0,
    "window": "hann_periodic",
    "centre": "reflect",
    "power": 2.0,
    "mel_scale": "htk",
    "mel_norm": None,
    "decibel": {"reference": 1.0, "floor": -100.0, "top_db": None},
}
"""Settings of the stored spectrograms, spelled as the models' front ends spell theirs, so that a
model can compare them; `tests/test_synthetic_cultures.py` holds the two together."""

FLOOR_POWER = 1e-10


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float
) -> np.ndarray:
    """Returns triangular filters of unit peak on the HTK mel scale.

    Args:
        sample_rate: in Hz.
        n_fft: window length in samples.
        n_mels: number of bands.
        f_min: lower edge in Hz.
        f_max: upper edge in Hz.

    Returns:
        Weights, float64, shape (1 + n_fft // 2, n_mels).

    Source: mel = 2595 log10(1 + f / 700) (HTK book).
    """
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (f_min, f_max))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, n_mels + 2) / 2595.0) - 1.0)
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(audio: np.ndarray, settings: Mapping[str, Any] = FRONT_END) -> np.ndarray:
    """Returns the log-mel spectrogram of a waveform.

    Args:
        audio: mono, shape (samples,), more than half a window long.
        settings: as `FRONT_END`.

    Returns:
        Decibels, float32, shape (1 + samples // hop_length, n_mels), at least -100.
    """
    n_fft, hop = settings["n_fft"], settings["hop_length"]
    padded = np.pad(np.asarray(audio, np.float32), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    filters = mel_filters(
        settings["sample_rate"], n_fft, settings["n_mels"], settings["f_min"], settings["f_max"]
    )
    bands = power @ filters.astype(power.dtype)
    return (10.0 * np.log10(np.maximum(bands.astype(np.float64), FLOOR_POWER))).astype(np.float32)
