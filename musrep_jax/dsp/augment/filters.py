"""Filters of finite length on one waveform: convolution in blocks, high-pass, low-pass."""

import jax.numpy as jnp

from musrep_jax.types import Array

ZERO_CROSSINGS = 8
"""Of the sinc on each side of a filter's center."""

_BLOCK_PER_TAPS = 4
"""Length of a block's FFT over that of the filter: longer ones waste less, and leave the cache."""


def convolve(audio: Array, taps: Array) -> Array:
    """Returns the samples of a convolution that lie within the waveform, from its start on.

    Computed in overlapping blocks by FFT (overlap-save).

    Args:
        audio: float32 (samples,).
        taps: float32 (taps,), the first is that of delay 0.

    Returns:
        float32 (samples,), equal to `numpy.convolve(audio, taps)[:samples]`.
    """
    num_samples, num_taps = audio.shape[0], taps.shape[0]
    overlap = num_taps - 1
    # At least twice the overlap: a block reaches into one other block only.
    n_fft = find_fft_size(max(min(_BLOCK_PER_TAPS * num_taps, num_samples + overlap), 2 * overlap))
    step = n_fft - overlap
    num_blocks = -(-num_samples // step)
    blocks = jnp.pad(audio, (step, num_blocks * step - num_samples)).reshape(-1, step)
    frames = jnp.concatenate([blocks[:-1, step - overlap :], blocks[1:]], axis=1)
    spectrum = jnp.fft.rfft(frames) * jnp.fft.rfft(taps, n_fft)[None]
    blocks = jnp.fft.irfft(spectrum, n_fft)[:, overlap:]
    return blocks.reshape(-1)[:num_samples]


def find_fft_size(least: int) -> int:
    """Returns the smallest even number from `least` on whose prime factors are 2, 3 and 5.

    >>> find_fft_size(221_000)
    221184
    """
    best = 2 ** max(1, (least - 1).bit_length())
    five = 1
    while five <= best:
        three = five
        while three <= best:
            size = 2 * three
            while size < least:
                size *= 2
            best = min(best, size)
            three *= 3
        five *= 5
    return best


def low_pass(audio: Array, cutoff: Array | float, sample_rate: int, lowest: float) -> Array:
    """Returns the waveform without what is above a frequency.

    The filter is a sinc of 8 zero crossings on each side under a Hann window, with a sum of 1; it
    delays nothing. Before and after the waveform its first and last sample go on. It passes half
    the amplitude at the cutoff, and falls from 1 to 0 within 1/8 of the cutoff on each side.

    Args:
        audio: float32 (samples,).
        cutoff: in Hz, from `lowest` to half of the sample rate.
        sample_rate: in Hz.
        lowest: in Hz, of any cutoff that it is called with: what the filter's array is long
            enough for.

    Returns:
        float32 (samples,).

    Source: the public library julius (`lowpass_filter`), which torchaudio-augmentations uses.
    """
    longest = int(ZERO_CROSSINGS / (lowest / sample_rate) / 2)
    normalized = jnp.asarray(cutoff, jnp.float32) / sample_rate
    half = jnp.floor(ZERO_CROSSINGS / normalized / 2)
    time = jnp.arange(-longest, longest + 1, dtype=jnp.float32)
    window = jnp.where(jnp.abs(time) <= half, 0.5 + 0.5 * jnp.cos(jnp.pi * time / half), 0.0)
    taps = window * jnp.sinc(2 * normalized * time)
    padded = jnp.pad(audio, longest, mode="edge")
    return convolve(jnp.pad(padded, (0, longest)), taps / taps.sum())[2 * longest :][: len(audio)]


def high_pass(audio: Array, cutoff: Array | float, sample_rate: int, lowest: float) -> Array:
    """Returns the waveform without what is below a frequency: what `low_pass` takes away.

    Args:
        audio: float32 (samples,).
        cutoff: in Hz.
        sample_rate: in Hz.
        lowest: see `low_pass`.

    Source: the public library julius (`highpass_filter`).
    """
    return audio - low_pass(audio, cutoff, sample_rate, lowest)
