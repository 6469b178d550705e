"""Windows of log-mel frames as four statistics, and the same after a learned linear embedding.

`log_mel_windows` for 33,280 samples (64 frames, 1.5 s), output shapes after each:

    log magnitudes of mel bands (frames)                 64 x 200
    mean, variance, maximum, minimum over the frames     800     (embedding)
    dropout, head                                        classes

`joint_embedding`, which is trained frame by frame (`musrep_jax.tasks.joint_embedding`) and used by
windows:

    log magnitudes of mel bands                          64 x 200
    norm: standardized, band by band                     64 x 200
    projection, without bias (frames)                    64 x 100
    mean, variance, maximum, minimum over the frames     400     (embedding)
    dropout, head                                        classes

Frames of digital silence, such as the padding of a short recording, do not count. The narrowest
bands lie between two bins of the spectrum and are constant.

Source: Hamel, Davies, Yoshii, Goto, "Transfer learning in MIR: sharing learned latent
representations for music audio classification and similarity", ISMIR 2013. Not stated there, and
chosen here: mel scale and floor of the logarithm (`LogMel`), the standardization, windows without
overlap.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from musrep_jax.dsp.spectrogram import MAGNITUDE_FLOOR, LogMel
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, Dense
from musrep_jax.types import Array, Chunking

SILENT_BELOW = 1.01 * MAGNITUDE_FLOOR
"""A frame without a band above it holds nothing but zeros, in any stored precision."""


class LogMelWindows(SpectrogramTagger):
    """Statistics of log-mel frames, made without training: the base features of Hamel et al."""

    sample_rate: int = 22050
    num_samples: int = 63 * 512 + 1024
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 200
    f_max: float = 11025.0
    dropout_rate: float = 0.0

    @property
    def log_mel(self) -> LogMel:
        """The spectrogram settings: magnitudes, frames inside the excerpt."""
        return LogMel(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
            f_min=self.f_min,
            f_max=self.f_max,
            convention="log_magnitude",
        )

    @property
    def chunking(self) -> Chunking:
        """How a recording is cut: windows of frames that follow one another without a gap."""
        return Chunking(self.num_samples, overlap=self.n_fft - self.hop_length)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the log-mel frames, (batch, frames, mels)."""
        return self.spectrogram(inputs)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of what the model can show."""
        return ("frames",)

    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the statistics of the window, (batch, 4 width), and its frames."""
        frames = self.embed_frames(features, train=train)
        return summarize_frames(frames, find_heard(features)), {"frames": frames}

    def embed_frames(self, features: Array, *, train: bool) -> Array:
        """Returns the frames that are summarized, float32 (batch, frames, width).

        Args:
            features: log-mel frames, (batch, frames, mels).
            train: whether statistics of the batch are used and updated.
        """
        return features.astype(jnp.float32)


class JointEmbedding(LogMelWindows):
    """A linear embedding of frames that several data sets share, summarized by windows.

    Attributes:
        width: of the embedding of a frame.
    """

    width: int = 100

    def setup(self) -> None:
        """Creates the standardization, the embedding and the output layer."""
        super().setup()
        self.norm = BatchNorm()
        self.projection = Dense(self.width, use_bias=False)

    def embed_frames(self, features: Array, *, train: bool) -> Array:
        """Returns the embedding of each frame, float32 (batch, frames, width)."""
        frames = self.norm(features.astype(jnp.float32), train=train)
        return self.projection(frames.astype(self.dtype)).astype(jnp.float32)


def find_heard(log_mel: Array) -> Array:
    """Returns which frames hold more than digital silence, bool (batch, frames).

    Args:
        log_mel: (batch, frames, mels), natural logarithms of magnitudes.
    """
    return log_mel.max(axis=-1) > jnp.log(SILENT_BELOW)


def summarize_frames(frames: Array, is_heard: Array) -> Array:
    """Returns mean, variance, maximum and minimum over the frames that are heard, side by side.

    Args:
        frames: float32 (batch, frames, width).
        is_heard: bool (batch, frames); where none is, all frames count.

    Returns:
        float32 (batch, 4 width).
    """
    counts = is_heard | ~is_heard.any(axis=1, keepdims=True)
    weights = counts[..., None].astype(jnp.float32)
    total = weights.sum(axis=1)
    mean = (frames * weights).sum(axis=1) / total
    variance = ((frames - mean[:, None]) ** 2 * weights).sum(axis=1) / total
    highest = jnp.where(counts[..., None], frames, -jnp.inf).max(axis=1)
    lowest = jnp.where(counts[..., None], frames, jnp.inf).min(axis=1)
    return jnp.concatenate([mean, variance, highest, lowest], axis=-1)
