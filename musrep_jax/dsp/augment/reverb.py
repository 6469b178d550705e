"""A synthetic room: Freeverb with the parameters of SoX, as a frequency response."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.augment.filters import find_fft_size
from musrep_jax.types import Array

COMB_LENGTHS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
"""Delays of the parallel comb filters, in samples at 44.1 kHz."""

ALLPASS_LENGTHS = (225, 341, 441, 556)
"""Delays of the allpass filters in series, in samples at 44.1 kHz."""

STEREO_OFFSET = 12
"""What the second channel's delays differ by, alternately longer and shorter."""

Number = Array | float

WET_GAIN = 0.015
_REFERENCE_RATE = 44_100
_LEAST_FEEDBACK, _MOST_FEEDBACK = 0.3, 0.98
_COLUMNS = 512
_DAMPED = 1e-3
"""How far the response is damped by over the length of the FFT."""


def reverberate(
    audio: Array,
    reverberance: Array | float,
    damping: Array | float,
    room_size: Array | float,
    sample_rate: int,
) -> Array:
    """Returns a waveform as it sounds in a room: itself and its reverberation, mixed to mono.

    Eight comb filters with a low-pass in their feedback, summed, and four allpass filters, once
    for each of two channels, whose mean is added to the waveform. Their frequency response is
    multiplied with the spectrum of the whole waveform. It is damped by `_DAMPED` over the FFT's
    length, and the result is amplified again, so that what would wrap around to the beginning is
    60 dB weaker than it is at the end of the room's answer. Differences to the filters run sample
    by sample stay below 1e-4 of the waveform's peak.

    Args:
        audio: float32 (samples,).
        reverberance: 0 to 100, how long.
        damping: 0 to 100, of high frequencies.
        room_size: 0 to 100, how far the combs' delays grow, from a tenth to all of their length.
        sample_rate: in Hz.

    Returns:
        float32 (samples,); the answer that lasts longer is cut off.

    Source: SoX 14.4.2, `reverb` with its other defaults and `channels 1`, after Freeverb by
    Jezar at Dreampoint. SoX rounds to 32 bits and clips at full scale, which this does not.
    """
    num_samples = audio.shape[0]
    n_fft = find_fft_size(num_samples + max(sample_rate, num_samples // 10))
    radius = _DAMPED ** (1 / n_fft)
    envelope = jnp.asarray(radius ** np.arange(num_samples), jnp.float32)
    room = (jnp.asarray(value, jnp.float32) for value in (reverberance, damping, room_size))
    response = _respond(tuple(room), sample_rate, n_fft)
    spectrum = jnp.fft.rfft(audio * envelope, n_fft)
    wet = jnp.fft.irfft(spectrum * response, n_fft)[:num_samples]
    return audio + wet / envelope


def _respond(room: tuple[Array, ...], sample_rate: int, n_fft: int) -> Array:
    """Returns the damped frequency response of the mean of both channels, complex64 (freqs,)."""
    reverberance, damping, room_size = room
    rate = sample_rate / _REFERENCE_RATE
    scale = (room_size / 100 * 0.9 + 0.1) * rate
    a = -1 / np.log(1 - _LEAST_FEEDBACK)
    b = 100 / (np.log(1 - _MOST_FEEDBACK) * a + 1)
    feedback = 1 - jnp.exp((reverberance - b) / (a * b))
    kept = damping / 100 * 0.3 + 0.2
    offsets = np.array([0, STEREO_OFFSET])[:, None] * np.array([1, -1] * 6)
    lengths = (np.array(COMB_LENGTHS) + offsets[:, :8]).ravel()
    delays = jnp.floor(scale * lengths.astype(np.float32) + 0.5).astype(jnp.int32)
    # A loop, whose results are kept: fusion would take sine and cosine for every frequency.
    combs = jax.lax.map(lambda delay: _turn(delay, n_fft), delays)
    unit = _unfold(_turn(np.array(1), n_fft))
    # The low-pass in the feedback: (1 - kept) / (1 - kept / z).
    low = _divide(1 - kept, 0.0, 1 - kept * unit[0], -kept * unit[1])
    in_loop = feedback * low[0], feedback * low[1]
    real, imag = 0.0, 0.0
    for channel in (0, 1):
        total = (0.0, 0.0)
        for index in range(8 * channel, 8 * channel + 8):
            delay = _unfold(jax.tree.map(lambda part, i=index: part[i], combs))
            back = _multiply(*delay, *in_loop)
            answer = _divide(*delay, 1 - back[0], -back[1])
            total = total[0] + answer[0], total[1] + answer[1]
        for length in ALLPASS_LENGTHS + offsets[channel, 8:]:
            # y = o - x with o = z^-D (x + 0.5 o): y / x = z^-D / (1 - 0.5 z^-D) - 1.
            delay = _unfold(_turn(np.array(int(rate * length + 0.5)), n_fft))
            ratio = _divide(*delay, 1 - 0.5 * delay[0], -0.5 * delay[1])
            total = _multiply(*total, ratio[0] - 1, ratio[1])
        real, imag = real + total[0], imag + total[1]
    half = np.float32(0.5 * WET_GAIN)
    return jax.lax.complex(half * real, half * imag).reshape(-1)[: n_fft // 2 + 1]


def _turn(delay: Any, n_fft: int) -> tuple[Any, Any]:
    """Returns the damped response of a delay at every 512th frequency, and at the first 512.

    The response at any frequency is the product of one of each. Angles are reduced as whole
    numbers, so that they are exact.

    Args:
        delay: whole number, in samples, below 2**15; of numpy or JAX.
        n_fft: of the FFT.

    Returns:
        (rows, 2) and (512, 2): real and imaginary parts.
    """
    xp = jnp if isinstance(delay, jax.Array) else np
    rows = np.arange(-(-(n_fft // 2 + 1) // _COLUMNS), dtype=np.uint32) * np.uint32(_COLUMNS)

    def turn(bins: np.ndarray) -> Any:
        turns = bins * delay.astype(np.uint32) % np.uint32(n_fft)
        angle = turns.astype(np.float32) * np.float32(-2 * np.pi / n_fft)
        return xp.stack([xp.cos(angle), xp.sin(angle)], axis=-1)

    damped = xp.exp(delay.astype(np.float32) * np.float32(np.log(_DAMPED) / n_fft))
    return damped * turn(rows), turn(np.arange(_COLUMNS, dtype=np.uint32))


def _unfold(turns: tuple[Any, Any]) -> tuple[Array, Array]:
    """Returns the products of what `_turn` returns, real and imaginary, (rows, 512)."""
    rows, columns = (jnp.asarray(part) for part in turns)
    shape = (rows.shape[0], columns.shape[0])
    a, b = (jnp.broadcast_to(rows[:, i, None], shape) for i in (0, 1))
    c, d = (jnp.broadcast_to(columns[None, :, i], shape) for i in (0, 1))
    return _multiply(a, b, c, d)


def _multiply(a: Number, b: Number, c: Array, d: Array) -> tuple[Array, Array]:
    """Returns (a + ib)(c + id)."""
    return a * c - b * d, a * d + b * c


def _divide(a: Number, b: Number, c: Array, d: Array) -> tuple[Array, Array]:
    """Returns (a + ib) / (c + id)."""
    scale = 1 / (c * c + d * d)
    return (a * c + b * d) * scale, (b * c - a * d) * scale
