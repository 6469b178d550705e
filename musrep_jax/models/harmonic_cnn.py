"""Harmonic CNN: learnable harmonic filters and a residual CNN over (time, band, harmonic).

Layers for 80,000 samples (313 frames), (time x band x channels) after each; the channels that enter
the CNN are the 6 harmonics:

    hstft         313 x 128 x 6      harmonic filters, dB
    hstft_bn      313 x 128 x 6      BatchNorm over the harmonics
    layer1        156 x 64 x 128     convolution 3 x 3, BatchNorm, ReLU, max-pool 2 x 2
    layer2        78 x 32 x 128      residual, identity shortcut, max-pool 2 x 2
    layer3        39 x 16 x 128      residual
    layer4        19 x 8 x 128       residual
    layer5        9 x 4 x 256        convolution 3 x 3, BatchNorm, ReLU, max-pool 2 x 2
    layer6        3 x 2 x 256        residual, max-pool 3 x 2
    layer7        1 x 1 x 256        residual, max-pool 3 x 2
    maximum over time and band, dense1 256, BatchNorm, ReLU (embedding), dropout, head

Kept: filters that fall between two FFT bins give a constant -100 dB. Avoided: Q may not reach zero;
the hop is a separate setting.

Source: Won, Chun, Nieto, Serra, "Data-driven harmonic filters for audio representation learning",
ICASSP 2020; public codes minzwon/data-driven-harmonic-filters (three tasks) and
minzwon/sota-music-tagging-models.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from musrep_jax.dsp.harmonic import HarmonicGrid
from musrep_jax.models.base import InputError, Tagger, check_waveform
from musrep_jax.models.frontends import HarmonicFilters
from musrep_jax.models.layers import BatchNorm, ConvBlock, Dense, ResBlock
from musrep_jax.models.outputs import layer_names
from musrep_jax.types import Array

Pools = tuple[tuple[int, int], ...]

TASK_POOLS: Mapping[str, Pools] = {
    "music": ((2, 2),) * 5 + ((3, 2),) * 2,
    "sound_events": ((2, 2),) * 7,
    "keywords": ((2, 2),) * 6 + ((1, 2),),
}
"""Pooling windows (time, band) of the seven layers, by task."""

TASK_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "music": {"task": "music", "num_samples": 80000},
    "sound_events": {"task": "sound_events", "num_samples": 48000},
    "keywords": {"task": "keywords", "num_samples": 16000, "n_fft": 256, "hop_length": 128},
    "keywords_512": {"task": "keywords", "num_samples": 32000},
}
"""Settings for the published tasks: music tagging (MagnaTagATune, 50 tags), sound-event tagging
(DCASE 2017 task 4, 17 classes) and keyword spotting (Speech Commands, 35 classes, exclusive). One
second of speech has too few frames at n_fft 512; `keywords_512` is for words padded to two."""


class HarmonicCNN(Tagger):
    """Harmonic filters and seven convolutional layers, five of them residual.

    Attributes:
        n_fft: window length and FFT size, in samples, even.
        hop_length: in samples.
        num_harmonics: 1 to 10. With 7 and more there are fewer than 128 bands: state `pools`.
        semitone_scale: bands per semitone.
        filter_mode: what the filters learn: "only_Q", "fixed", "full" or "direct"; see
            `frontends.HarmonicFilters`.
        initial_quality: Q at the start, or throughout if "fixed".
        task: pooling plan, "music", "sound_events" or "keywords"; see `TASK_SETTINGS`.
        pools: a pooling plan of your own, seven pairs (time, band), instead of the task's.
        n_channels: channels of the first four layers; the other three have twice as many.
    """

    num_samples: int = 80000
    n_fft: int = 512
    hop_length: int = 256
    num_harmonics: int = 6
    semitone_scale: int = 2
    filter_mode: str = "only_Q"
    initial_quality: float = 1.0
    task: str = "music"
    pools: Pools | None = None
    n_channels: int = 128

    TORCH_NAMES: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv_2d\.res(\d)\.", r"layer\1."),
        (r"^conv_2d\.fc_1\.", "dense1."),
        (r"^conv_2d\.fc_2\.", "dense2."),
        (r"^conv_2d\.bn\.", "bn."),
        (r"^dense2\.", "head."),
    )

    def setup(self) -> None:
        """Creates the filters and the output layer."""
        super().setup()
        self.hstft = HarmonicFilters(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            num_harmonics=self.num_harmonics,
            semitone_scale=self.semitone_scale,
            mode=self.filter_mode,
            initial_quality=self.initial_quality,
        )

    @property
    def grid(self) -> HarmonicGrid:
        """The settings of the harmonic filters."""
        return HarmonicGrid(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            num_harmonics=self.num_harmonics,
            semitone_scale=self.semitone_scale,
        )

    @property
    def front_end(self) -> Mapping[str, Any]:
        """The settings of the harmonic filters as plain data."""
        return {**self.grid.to_dict(), "mode": self.filter_mode}

    @property
    def pooling_plan(self) -> Pools:
        """The pooling windows (time, band) of the seven layers.

        Raises:
            ValueError: if the task is unknown or the plan does not fit the number of bands.
        """
        if self.pools is None and self.task not in TASK_POOLS:
            raise ValueError(
                f"harmonic_cnn has no task {self.task!r}: choose one of {', '.join(TASK_POOLS)}, "
                "or state `pools`."
            )
        plan = TASK_POOLS[self.task] if self.pools is None else self.pools
        if len(plan) != 7:
            raise ValueError(
                f"`pools` of harmonic_cnn has {len(plan)} windows: give seven pairs (time, band)."
            )
        band_factor = math.prod(band for _, band in plan)
        if self.grid.num_bands < band_factor:
            raise ValueError(
                f"{self.num_harmonics} harmonics with {self.semitone_scale} bands per semitone "
                f"make {self.grid.num_bands} bands, and the pooling plan of harmonic_cnn divides "
                f"them by {band_factor}: state `pools` with a smaller product in the second places."
            )
        return tuple((time, band) for time, band in plan)

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the harmonic spectrogram, (batch, frames, bands, harmonics), in dB."""
        check_waveform(inputs, self.sample_rate, self.n_fft // 2 + 1)
        num_frames = self.grid.num_frames(inputs.shape[1])
        min_frames = math.prod(time for time, _ in self.pooling_plan)
        if num_frames < min_frames:
            min_samples = (min_frames - 1) * self.hop_length
            raise InputError(
                f"The waveform has {inputs.shape[1]} samples, {num_frames} spectrogram frames; "
                f"harmonic_cnn with the pooling plan of {self.task!r} needs at least {min_frames} "
                f"frames ({min_samples} samples, {min_samples / self.sample_rate:.2f} s). Pad it "
                "with zeros, take a smaller hop_length, or state `pools`."
            )
        return self.hstft(inputs)

    def filter_shapes(self) -> Mapping[str, Array]:
        """Returns center frequencies, bandwidths and Q of the filters as they are now.

        Call it as `model.apply(variables, method="filter_shapes")`.

        Returns:
            centers and bandwidths float32 (bands, harmonics) in Hz; quality, alpha, beta (1,).
        """
        return self.hstft.shapes()._asdict()

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of the maps that the model can show."""
        return ("harmonic_spectrogram", *layer_names(7), "feature_map")

    @nn.compact
    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the embedding (batch, 2 n_channels), the harmonic spectrogram and the maps."""
        plan, width = self.pooling_plan, self.n_channels
        x = BatchNorm(name="hstft_bn")(features, train=train).astype(self.dtype)
        maps = {"harmonic_spectrogram": features}
        for index, pool in enumerate(plan, start=1):
            block = ConvBlock if index in (1, 5) else ResBlock
            channels = width if index < 5 else 2 * width
            x = block(channels, pool=pool, name=f"layer{index}")(x, train=train)
            maps[f"layer_{index}"] = x
        maps["feature_map"] = x
        # Over both axes: equal to the published code at its sizes, valid at any other.
        x = x.max(axis=(1, 2))
        x = BatchNorm(name="bn")(Dense(2 * width, name="dense1")(x), train=train)
        return nn.relu(x).astype(jnp.float32), maps
