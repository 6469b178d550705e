"""Operations on the samples of one waveform: gain, delay and noise."""

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.types import Array


def invert_polarity(audio: Array) -> Array:
    """Returns the waveform upside down."""
    return -audio


def apply_gain(audio: Array, decibels: Array | float) -> Array:
    """Returns the waveform louder by so many decibels, or softer.

    Args:
        audio: float32 (samples,).
        decibels: above 0 is louder; samples may leave [-1, 1].
    """
    return audio * 10.0 ** (jnp.asarray(decibels, jnp.float32) / 20.0)


def add_delay(audio: Array, delay: Array | int, gain: float = 0.5) -> Array:
    """Returns half of the sum of a waveform and its echo.

    Args:
        audio: float32 (samples,).
        delay: of the echo, in samples, from 0 on.
        gain: of the echo.

    Source: torchaudio-augmentations (`Delay`).
    """
    num_samples = audio.shape[0]
    delay = jnp.clip(jnp.asarray(delay, jnp.int32), 0, num_samples)
    padded = jnp.concatenate([jnp.zeros_like(audio), audio])
    echo = jax.lax.dynamic_slice_in_dim(padded, num_samples - delay, num_samples)
    return (audio + gain * echo) / 2


def add_noise(bits: Array, audio: Array, ratio: Array | float) -> Array:
    """Returns the waveform with white Gaussian noise.

    Args:
        bits: uint32 (2,), random.
        audio: float32 (samples,).
        ratio: standard deviation of the noise over that of the waveform, so that silence stays
            silence.

    Source: torchaudio-augmentations (`Noise`).
    """
    return audio + jnp.asarray(ratio, jnp.float32) * audio.std() * draw_noise(bits, len(audio))


def draw_noise(bits: Array, num_samples: int) -> Array:
    """Returns white noise of the standard normal distribution.

    Sample i is a hash of i and the bits, brought to that distribution: a quarter of the time of
    `jax.random.normal` on a CPU. Its 23 bits reach 5.3 standard deviations.

    Args:
        bits: uint32 (2,), random.
        num_samples: of the noise.

    Returns:
        float32 (num_samples,).

    Source: the hash is `lowbias32` of Wellons' hash-prospector.
    """
    count = jnp.arange(num_samples, dtype=jnp.uint32)
    mixed = _mix(_mix(count ^ bits[0]) + bits[1])
    # Centers of 2**23 equal intervals, each a float32 that is exact.
    uniform = ((mixed >> np.uint32(9)).astype(jnp.float32) + 0.5) * np.float32(2.0**-22) - 1.0
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def _mix(bits: Array) -> Array:
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))
