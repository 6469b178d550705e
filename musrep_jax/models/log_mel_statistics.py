"""Statistics of a log-mel spectrogram with a linear output layer: the baseline of every table.

Layers for 64,000 samples (251 frames), output shapes after each:

    log-mel spectrogram              251 x 128
    mean over groups of bands        251 x 32
    mean, standard deviation and mean absolute change over time   96
    BatchNorm (embedding)            96
    dropout, head                    classes

Beside it `mfcc`: mean and deviation of 20 cepstral coefficients and of their change, 80 values, for
probes (`log_mel_statistics[mfcc]`).

Frames of digital silence, such as the padding of a short recording, do not count, and with
`whole_frames` neither do those whose windows reach over an end: there, the recording is mirrored
before its first sample, and steps to zeros after its last one.

Source: own; the features are those of the classic "bag of frames" systems, e.g. Tzanetakis, Cook,
"Musical genre classification of audio signals", IEEE TSAP 2002. Cepstral coefficients: Davis,
Mermelstein, IEEE TASSP 1980; Logan, ISMIR 2000.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import BatchNorm
from musrep_jax.types import Array

NUM_COEFFICIENTS = 20
"""Cepstral coefficients, the level included."""
SILENCE_DB = -99.5
"""Just above the floor of the spectrogram: a frame below it holds nothing but zeros."""


class LogMelStatistics(SpectrogramTagger):
    """Mean, deviation and change of log-mel bands, and a linear output layer.

    Attributes:
        num_bands: groups of neighboring mel bands, averaged in dB.
        whole_frames: whether only frames count that lie wholly within the sound.
    """

    num_samples: int = 64000
    num_bands: int = 32
    whole_frames: bool = False
    dropout_rate: float = 0.0

    MIN_FRAMES: ClassVar[int] = 2

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel spectrogram, (batch, frames, mels)."""
        return self.spectrogram(inputs)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of what the model can show."""
        return ("feature_map", "statistics", "mfcc")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 3 num_bands) and the grouped bands over time."""
        x = features.astype(jnp.float32)
        is_heard = (x.max(axis=-1) > SILENCE_DB).astype(jnp.float32)[..., None]
        if self.whole_frames:
            reach = (self.n_fft // 2, self.n_fft)
            is_heard = leave_out_ends(is_heard, *(-(-x // self.hop_length) for x in reach))
        groups = group_bands(self.n_mels, self.num_bands)
        bands = (x.astype(self.dtype) @ groups.astype(self.dtype)).astype(jnp.float32)
        mean, deviation = summarize(bands, is_heard)
        both = is_heard[:, 1:] * is_heard[:, :-1]
        change = jnp.abs(bands[:, 1:] - bands[:, :-1]) * both
        change = change.sum(axis=1) / jnp.maximum(both.sum(axis=1), 1.0)
        statistics = jnp.concatenate([mean, deviation, change], axis=-1)
        embedding = BatchNorm(name="norm")(statistics, train=train)
        cepstrum = x @ make_cosines(self.n_mels, min(NUM_COEFFICIENTS, self.n_mels))
        steps = cepstrum[:, 1:] - cepstrum[:, :-1]
        mfcc = jnp.concatenate([*summarize(cepstrum, is_heard), *summarize(steps, both)], axis=-1)
        return embedding, {"feature_map": bands, "statistics": statistics, "mfcc": mfcc}


def summarize(frames: Array, is_heard: Array) -> tuple[Array, Array]:
    """Returns mean and standard deviation over the frames that are heard, (batch, width) each.

    Args:
        frames: float32 (batch, frames, width).
        is_heard: float32 (batch, frames, 1), 1 for a frame that counts; of none both are near 0.
    """
    count = jnp.maximum(is_heard.sum(axis=1), 1.0)
    mean = (frames * is_heard).sum(axis=1) / count
    square = ((frames - mean[:, None]) ** 2 * is_heard).sum(axis=1) / count
    # The gradient of a square root at 0 is infinite.
    return mean, jnp.sqrt(jnp.maximum(square, 1e-6))


def leave_out_ends(is_heard: Array, first: int, last: int) -> Array:
    """Returns which frames are heard, without the first ones and those before the end.

    Args:
        is_heard: float32 (batch, frames, 1), 1 for a frame that is heard, else 0.
        first: frames that are left out at the beginning.
        last: frames that are left out before the end of what is heard. A recording of which fewer
            than two would be kept keeps all.
    """
    number = jnp.arange(is_heard.shape[1], dtype=jnp.float32)[None, :, None]
    end = (is_heard * (number + 1)).max(axis=1, keepdims=True)
    is_inside = (number >= first).astype(jnp.float32) * (number < end - last)
    is_whole = is_heard * is_inside.astype(jnp.float32)
    is_short = (is_whole.sum(axis=1, keepdims=True) < 2).astype(jnp.float32)
    return is_short * is_heard + (1 - is_short) * is_whole


def make_cosines(num_bands: int, count: int) -> np.ndarray:
    """Returns the first columns of the orthonormal cosine transform, float32 (num_bands, count).

    Args:
        num_bands: length of what is transformed.
        count: number of coefficients.
    """
    angle = np.pi / num_bands * (np.arange(num_bands)[:, None] + 0.5) * np.arange(count)
    scale = np.where(np.arange(count) > 0, np.sqrt(2 / num_bands), np.sqrt(1 / num_bands))
    return (np.cos(angle) * scale).astype(np.float32)


def group_bands(num_mels: int, num_groups: int) -> np.ndarray:
    """Returns the matrix that averages neighboring bands, float32 (num_mels, num_groups).

    Args:
        num_mels: number of bands.
        num_groups: of nearly equal size; at most `num_mels`.

    Raises:
        ValueError: if there are more groups than bands.

    Example:
        >>> group_bands(3, 2)
        array([[0.5, 0. ],
               [0.5, 0. ],
               [0. , 1. ]], dtype=float32)
    """
    if not 1 <= num_groups <= num_mels:
        raise ValueError(f"num_bands is {num_groups}; it must be 1 to n_mels, {num_mels}.")
    matrix = np.zeros((num_mels, num_groups), np.float32)
    for group, bands in enumerate(np.array_split(np.arange(num_mels), num_groups)):
        matrix[bands, group] = 1 / len(bands)
    return matrix
