"""Noise: coloured pools made once, of which every use takes a random piece."""

import functools

import numpy as np

POOL_SIZE = 1 << 18
"""Samples in a pool: 16 s at 16 kHz, longer than a track."""
COLOURS = {"white": 0.0, "pink": -0.5, "brown": -1.0, "bright": 0.5}
"""Name -> exponent of the amplitude spectrum over frequency."""


@functools.cache
def noise_pool(colour: str) -> np.ndarray:
    """Returns the pool of noise of one colour.

    Args:
        colour: one of `COLOURS`.

    Returns:
        float32 noise of unit power, shape (POOL_SIZE,), the same in every process.
    """
    rng = np.random.default_rng([2307, sorted(COLOURS).index(colour)])
    spectrum = np.fft.rfft(rng.standard_normal(POOL_SIZE))
    bins = np.maximum(np.arange(len(spectrum)), POOL_SIZE // 400)
    pool = np.fft.irfft(spectrum * bins.astype(np.float64) ** COLOURS[colour])
    return (pool / pool.std()).astype(np.float32)


def noise_slice(colour: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a piece of a noise pool that begins at a random place.

    Args:
        colour: one of `COLOURS`.
        num_samples: length of the result; the pool repeats when it is longer.
        rng: draws the place.

    Returns:
        float32 noise of about unit power, shape (num_samples,).
    """
    pool = noise_pool(colour)
    start = int(rng.integers(POOL_SIZE))
    if start + num_samples <= POOL_SIZE:
        return pool[start : start + num_samples]
    return np.take(pool, np.arange(start, start + num_samples), mode="wrap")
