"""Pitch shift and time stretch of one waveform: segments that overlap where they are most alike.

The output is cut into segments of one length. A segment reads the input near the time where it
should (`_LOOK` of freedom), at the place whose first samples differ least from those with which the
segment before would go on, and one fades into the other. For a pitch shift a segment reads the
input faster or slower, by a windowed sinc.

Source: Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA)",
ICASSP 1993; durations and the measure are those of SoX 14.4.2 (`tempo`, `pitch`). There the
segments of a pitch shift have one length in the input; here they have one in the output.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.augment.filters import find_fft_size
from musrep_jax.types import Array

SEGMENT_SECONDS, OVERLAP_SECONDS, LOOK_SECONDS = 0.082, 0.012, 0.01468

ZERO_CROSSINGS = 16
"""Of the sinc that reads between samples, on each side."""

_BLOCK = 64
"""Samples that are read by one matrix product."""


def shift_pitch(audio: Array, cents: Array | float, sample_rate: int, most: float = 700.0) -> Array:
    """Returns a waveform of the same length and tempo at another pitch.

    Args:
        audio: float32 (samples,).
        cents: hundredths of a semitone, from -`most` to `most`; above 0 is higher.
        sample_rate: in Hz.
        most: in cents; what arrays are made large enough for.

    Returns:
        float32 (samples,). Above 0, what passes half of the sample rate is left out.
    """
    speed = jnp.exp2(jnp.asarray(cents, jnp.float32) / 1200)
    fastest = 2.0 ** (abs(most) / 1200)
    return _splice(audio, jnp.float32(1.0), speed, sample_rate, fastest)


def stretch_time(audio: Array, rate: Array | float, sample_rate: int) -> Array:
    """Returns a waveform of the same length and pitch at another tempo.

    Args:
        audio: float32 (samples,).
        rate: above 1 is faster: the end of the output, from samples / rate on, is silence; below 1
            the end of the input is left out.
        sample_rate: in Hz.

    Returns:
        float32 (samples,).
    """
    rate = jnp.asarray(rate, jnp.float32)
    stretched = _splice(audio, rate, None, sample_rate, 1.0)
    is_within = jnp.arange(len(audio)) < jnp.round(len(audio) / rate)
    return jnp.where(is_within, stretched, 0.0)


def _splice(
    audio: Array, rate: Array, speed: Array | None, sample_rate: int, fastest: float
) -> Array:
    """Returns the segments, faded into each other, float32 (samples,).

    Args:
        audio: float32 (samples,).
        rate: input samples between segments over output samples.
        speed: with which a segment reads the input; None is 1.
        sample_rate: in Hz.
        fastest: the highest speed there is.
    """
    num_samples = audio.shape[0]
    overlap, look = (round(s * sample_rate) for s in (OVERLAP_SECONDS, LOOK_SECONDS))
    hop = round(SEGMENT_SECONDS * sample_rate) - overlap
    length = hop + overlap
    num_segments = -(-num_samples // hop)
    margin = 0 if speed is None else math.ceil(ZERO_CROSSINGS * fastest)
    span = math.ceil(length * fastest) + margin + _BLOCK
    padded = jnp.pad(audio, (margin, span + look + overlap))
    reading = jnp.float32(1.0) if speed is None else speed

    # A segment that reads faster than time passes begins earlier, so that its middle is in time.
    middle = (reading - 1) * length / 2
    last = jnp.maximum(num_samples - reading * length, 0).astype(jnp.int32)
    times = jnp.round(jnp.arange(num_segments) * hop * rate - middle).astype(jnp.int32)
    earliest = jnp.clip(times - look // 2, 0, jnp.maximum(last - look, 0))
    first = jnp.clip(times[:1], 0, last)
    advance = jnp.round(hop * reading).astype(jnp.int32)
    find = functools.partial(_find_alike, padded, margin, overlap, look)

    def place(start: Array, earliest: Array) -> tuple[Array, Array]:
        start = find(start + advance, earliest)
        return start, start

    _, starts = jax.lax.scan(place, first[0], earliest[1:])
    starts = jnp.concatenate([first, starts])
    if speed is None:
        places = starts[:, None] + jnp.arange(length)[None]
        segments = padded[places]
    else:
        segments = _read(padded, starts, speed, length, margin, fastest)
    return _join(segments, hop, overlap)[:num_samples]


def _find_alike(
    padded: Array, margin: int, overlap: int, look: int, goes_on: Array, earliest: Array
) -> Array:
    """Returns the place, from `earliest` on, where the input is most like it is at `goes_on`.

    The measure is the squared difference over `overlap` samples; the first of the best counts.
    """
    size = look + overlap - 1
    n_fft = find_fft_size(size)
    there = jax.lax.dynamic_slice_in_dim(padded, earliest + margin, size)
    wanted = jax.lax.dynamic_slice_in_dim(padded, goes_on + margin, overlap)
    product = jnp.fft.rfft(there, n_fft) * jnp.conj(jnp.fft.rfft(wanted, n_fft))
    alike = jnp.fft.irfft(product, n_fft)[:look]
    sums = jnp.cumsum(jnp.concatenate([jnp.zeros(1), there**2]))
    energy = sums[overlap:] - sums[:look]
    return earliest + jnp.argmin(energy - 2 * alike).astype(jnp.int32)


def _read(
    padded: Array, starts: Array, speed: Array, length: int, margin: int, fastest: float
) -> Array:
    """Returns samples between samples: (segments, length), sample i at `start + i * speed`.

    A block of samples is a matrix, which all segments share, times the input around it.
    """
    num_blocks = -(-length // _BLOCK)
    begins = jnp.arange(num_blocks) * (_BLOCK * speed)  # of blocks within a segment
    whole = jnp.floor(begins)
    width = math.ceil(_BLOCK * fastest) + 2 * margin
    places = (starts[:, None] + whole.astype(jnp.int32)[None])[:, :, None] + jnp.arange(width)[
        None, None
    ]
    wanted = (begins - whole)[:, None] + (jnp.arange(_BLOCK) * speed)[None]
    kernels = _make_kernels(np.arange(-margin, width - margin), wanted, jnp.minimum(1.0, 1 / speed))
    samples = jnp.einsum("sbw,bwi->sbi", padded[places], kernels)
    return samples.reshape(len(starts), -1)[:, :length]


def _make_kernels(places: np.ndarray, wanted: Array, cutoff: Array) -> Array:
    """Returns a windowed sinc around each place that is read, at each sample of the input.

    Sine and cosine of a difference are made of those of its two terms, of which there are few.

    Args:
        places: of the input's samples, (width,).
        wanted: places that are read, (blocks, samples of a block).
        cutoff: of the low-pass, over half of the sample rate, at most 1.

    Returns:
        float32 (blocks, width, samples of a block).
    """
    first = cutoff * jnp.asarray(places, jnp.float32)[None, :, None]
    second = cutoff * wanted[:, None]
    crossings = first - second

    def rotate(angle: Array) -> tuple[Array, Array, Array, Array]:
        one, other = angle * first, angle * second
        return jnp.sin(one), jnp.cos(one), jnp.sin(other), jnp.cos(other)

    # A loop, whose results are kept: fusion would take sine and cosine of every difference.
    angles = jnp.array([np.pi, np.pi / ZERO_CROSSINGS], jnp.float32)
    a, b, c, d = jax.lax.map(rotate, angles)
    sine = a[0] * d[0] - b[0] * c[0]
    window = 0.5 + 0.5 * (b[1] * d[1] + a[1] * c[1])
    angle = jnp.pi * crossings
    squared = angle * angle
    # Near the center a quotient of small numbers would lose digits.
    near = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42))
    is_near = jnp.abs(crossings) < 0.25
    sinc = jnp.where(is_near, near, sine / jnp.where(is_near, 1.0, angle))
    return jnp.where(jnp.abs(crossings) < ZERO_CROSSINGS, cutoff * window * sinc, 0.0)


def _join(segments: Array, hop: int, overlap: int) -> Array:
    """Returns segments in a row, each faded into the next over `overlap` samples."""
    num_segments = len(segments)
    fade = ((np.arange(overlap) + 0.5) / overlap).astype(np.float32)[None]
    before = jnp.concatenate([segments[:1, :overlap], segments[:-1, hop:]])
    begin = before * (1 - fade) + segments[:, :overlap] * fade
    return jnp.concatenate([begin, segments[:, overlap:hop]], axis=1).reshape(num_segments * hop)
