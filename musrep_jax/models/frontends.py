"""Learnable front ends: modules from waveform to image that fit before any back end."""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.dsp.harmonic import (
    ERB_OFFSET_HZ,
    ERB_SLOPE,
    HarmonicGrid,
    bound_quality,
    filter_bandwidths,
    fundamental_frequencies,
    harmonic_centers,
    harmonic_filter_bank,
    harmonic_spectrogram,
)
from musrep_jax.types import Array


class FilterShapes(NamedTuple):
    """The shapes of a harmonic front end's filters.

    Attributes:
        centres: float32 (bands, harmonics), in Hz.
        bandwidths: float32 (bands, harmonics), in Hz.
        quality: float32 (1,), Q after the guard.
        alpha: float32 (1,), bandwidth per Hz of center frequency.
        beta: float32 (1,), in Hz.
    """

    centres: Array
    bandwidths: Array
    quality: Array
    alpha: Array
    beta: Array


class HarmonicFilters(nn.Module):
    """Waveform (batch, samples) -> harmonic spectrogram in dB (batch, frames, bands, harmonics).

    Modes, by what is learned:

    - `only_Q`: the quality factor, parameter `bw_Q` (1,), initially 1. The published mode.
    - `fixed`: nothing; Q is `initial_quality`. The module has no parameters.
    - `full`: Q and, as deviations that start at zero from the values above, the center frequencies
      (`band_shift` (1,), in octaves; `band_steps` (bands - 1,)), `log_alpha` (1,) and `log_beta`
      (1,). alpha and beta are multiplied by the exponential of their deviation, hence positive. The
      distance in pitch between band k and band k + 1 is multiplied by exp(band_steps[k]), so that
      bands keep their order and neighbors stay neighbors for the convolutions that follow;
      harmonic n stays at n times the fundamental. A weight decay pulls towards the published grid.
      A band that leaves the spectrum is a constant -100 dB. Centers are sums of steps, so that of
      equal steps of an optimizer the top bands move furthest.
    - `direct`: the same quantities, each a parameter of its own that starts at zero: the center
      frequency of every band (`band_octaves` (bands,), in octaves above the published one),
      `log_quality`, `log_alpha` and `log_beta` (1,), natural logarithms of the factors to
      `initial_quality` and the published alpha and beta. A step of an optimizer moves every band by
      equal cents, wherever it lies; bands may pass each other.

    Before another back end: a subclass of a tagger that overrides `setup` to create this module and
    `features` to return its output, since every convolutional tagger takes any number of channels.

    In all modes Q is guarded against zero and negative values (`dsp.harmonic.bound_quality`).

    Source: `only_Q` and `fixed` as in minzwon/data-driven-harmonic-filters ("fix" there); learned
    center frequencies, alpha and beta are described in Won's thesis (UPF 2021) and in no public
    code, the parameterisations `full` and `direct` are ours.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length and FFT size, in samples, even.
        hop_length: in samples.
        num_harmonics: 1 to 10.
        semitone_scale: bands per semitone.
        mode: "only_Q", "fixed", "full" or "direct".
        initial_quality: Q at the start.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    hop_length: int = 256
    num_harmonics: int = 6
    semitone_scale: int = 2
    mode: str = "only_Q"
    initial_quality: float = 1.0

    MODES: ClassVar[tuple[str, ...]] = ("only_Q", "fixed", "full", "direct")

    @property
    def grid(self) -> HarmonicGrid:
        """The settings of the filters."""
        return HarmonicGrid(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            num_harmonics=self.num_harmonics,
            semitone_scale=self.semitone_scale,
        )

    def setup(self) -> None:
        """Creates the parameters of the mode.

        Raises:
            ValueError: if there is no such mode.
        """
        if self.mode not in self.MODES:
            raise ValueError(
                f"Harmonic filters have no mode {self.mode!r}: choose one of "
                f"{', '.join(self.MODES)}."
            )
        zeros = nn.initializers.zeros
        if self.mode in ("only_Q", "full"):
            init = nn.initializers.constant(self.initial_quality)
            self.bw_Q = self.param("bw_Q", init, (1,))
        if self.mode == "full":
            self.band_shift = self.param("band_shift", zeros, (1,))
            self.band_steps = self.param("band_steps", zeros, (self.grid.num_bands - 1,))
        if self.mode == "direct":
            self.band_octaves = self.param("band_octaves", zeros, (self.grid.num_bands,))
            self.log_quality = self.param("log_quality", zeros, (1,))
        if self.mode in ("full", "direct"):
            self.log_alpha = self.param("log_alpha", zeros, (1,))
            self.log_beta = self.param("log_beta", zeros, (1,))

    def shapes(self) -> FilterShapes:
        """Returns centers, bandwidths, Q, alpha and beta as they are now."""
        fundamentals = jnp.asarray(fundamental_frequencies(self.grid), jnp.float32)
        alpha, beta = jnp.full((1,), ERB_SLOPE), jnp.full((1,), ERB_OFFSET_HZ)
        quality = jnp.full((1,), self.initial_quality)
        if self.mode in ("only_Q", "full"):
            quality = self.bw_Q
        elif self.mode == "direct":
            quality = quality * jnp.exp(self.log_quality)
        quality = bound_quality(quality)
        if self.mode == "full":
            step_octaves = 1 / (12 * self.semitone_scale)
            stretch = jnp.cumsum(step_octaves * jnp.expm1(self.band_steps))
            octaves = self.band_shift + jnp.concatenate([jnp.zeros(1), stretch])
            fundamentals = fundamentals * jnp.exp2(octaves)
        elif self.mode == "direct":
            fundamentals = fundamentals * jnp.exp2(self.band_octaves)
        if self.mode in ("full", "direct"):
            alpha, beta = alpha * jnp.exp(self.log_alpha), beta * jnp.exp(self.log_beta)
        centres = harmonic_centers(fundamentals, self.num_harmonics)
        bandwidths = filter_bandwidths(centres, quality[None], alpha[None], beta[None])
        return FilterShapes(centres, bandwidths, quality, alpha, beta)

    def filter_bank(self) -> Array:
        """Returns the filters, float32 (freqs, bands, harmonics)."""
        shapes = self.shapes()
        return harmonic_filter_bank(shapes.centres, shapes.bandwidths, self.grid)

    def __call__(self, audio: Array) -> Array:
        """Returns the harmonic spectrogram.

        Args:
            audio: float32 (batch, samples), mono, at `sample_rate`.

        Returns:
            float32 (batch, frames, bands, harmonics), in dB.

        Raises:
            ValueError: if the audio is shorter than half a window.
        """
        return harmonic_spectrogram(audio, self.filter_bank(), self.grid)
