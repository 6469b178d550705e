"""Resampling on the device: the excerpt of a recording at another sample rate."""

import jax.numpy as jnp

from musrep_jax.types import Array


def resample(audio: Array, num_samples: int) -> Array:
    """Returns the same seconds of audio in fewer samples, without what lies above half their rate.

    The spectrum of the whole excerpt is cut off, as if it went on from its beginning: some
    milliseconds at both ends hold traces of the other end.

    Args:
        audio: float32 (batch, samples).
        num_samples: of the result, at most as many as there are.

    Returns:
        float32 (batch, num_samples); its ratio to the samples there are is that of the rates.

    Raises:
        ValueError: if more samples are asked for than there are.

    Source: Fourier method of `scipy.signal.resample`, for smaller numbers of samples.
    """
    given = audio.shape[-1]
    if not 1 <= num_samples <= given:
        raise ValueError(f"{num_samples} samples were asked for; there are {given}, and not more.")
    if num_samples == given:
        return audio
    spectrum = jnp.fft.rfft(audio)[..., : num_samples // 2 + 1]
    if num_samples % 2 == 0:  # the last bin stands for both signs of its frequency
        real_part = 2.0 * spectrum[..., -1:].real
        spectrum = jnp.concatenate([spectrum[..., :-1], real_part.astype(spectrum.dtype)], axis=-1)
    return jnp.fft.irfft(spectrum, num_samples) * (num_samples / given)
