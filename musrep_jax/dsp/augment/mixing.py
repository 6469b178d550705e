"""Mixup of examples, and masks over time and frequency of spectrograms."""

import jax
import jax.numpy as jnp

from musrep_jax.types import Array


def mix_up(
    key: Array, audio: Array, labels: Array, mask: Array, alpha: float
) -> tuple[Array, Array]:
    """Returns each example mixed with its neighbor, and its labels mixed alike.

    Rows 2 i and 2 i + 1 are neighbors: the batch is in random order. Each example keeps a part of
    its own, drawn from Beta(alpha, alpha). One whose neighbor is padding, or is not there, stays as
    it is.

    Args:
        key: of what is drawn.
        audio: float32 (batch, samples).
        labels: float32 (batch, classes), multi-hot or soft.
        mask: (batch,), 1 for a real example and 0 for padding.
        alpha: above 0; small values mix little.

    Returns:
        float32 (batch, samples) and float32 (batch, classes).

    Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. There the batch
    has one part, and neighbors are a random permutation.
    """
    batch = len(audio)
    rows = jnp.arange(batch)
    neighbor = rows ^ 1
    is_mixed = (neighbor < batch) & (jnp.take(mask, neighbor, mode="fill", fill_value=0) > 0)
    neighbor = jnp.where(is_mixed, neighbor, rows)
    part = jax.vmap(lambda row: jax.random.beta(jax.random.fold_in(key, row), alpha, alpha))(rows)
    part = jnp.where(is_mixed, part, 1.0)[:, None]
    return (
        part * audio + (1 - part) * audio[neighbor],
        part * labels + (1 - part) * labels[neighbor],
    )


def mask_spectrogram(
    key: Array, spectrogram: Array, num_masks: int, time: float, frequency: float
) -> Array:
    """Returns spectrograms with some stretches of time and bands of frequency left blank.

    Each mask begins anywhere and has any width up to the widest, drawn for each example. What is
    left blank has the mean of the example's spectrogram.

    Args:
        key: of what is drawn.
        spectrogram: float32 (batch, frames, mels), in dB.
        num_masks: over time, and over frequency.
        time: widest mask over the number of frames.
        frequency: widest mask over the number of bands.

    Source: Park et al., "SpecAugment", Interspeech 2019, without its warping of time. There widths
    are counted in frames and bands, and blank is 0, the mean of normalized features.
    """

    def blank(row: Array, example: Array) -> Array:
        drawn = jax.random.uniform(jax.random.fold_in(key, row), (2, 2, num_masks))
        is_blank = [
            _cover(drawn[axis], size, widest * size)
            for axis, (size, widest) in enumerate(
                zip(example.shape, (time, frequency), strict=True)
            )
        ]
        return jnp.where(is_blank[0][:, None] | is_blank[1][None], example.mean(), example)

    return jax.vmap(blank)(jnp.arange(len(spectrogram)), spectrogram)


def _cover(drawn: Array, size: int, widest: float) -> Array:
    """Returns which places masks cover, bool (size,), of uniform numbers (2, masks)."""
    widths = jnp.floor(drawn[0] * (int(widest) + 1))
    starts = jnp.floor(drawn[1] * (size - widths + 1))
    places = jnp.arange(size, dtype=jnp.float32)[:, None]
    return ((places >= starts[None]) & (places < (starts + widths)[None])).any(axis=1)
