"""Performers: what stays the same over all tracks of one player or ensemble."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Performer:
    """A player's sound, tuning and room.

    Attributes:
        number: within the tradition.
        brightness: added to the steepness of every spectrum; positive is duller.
        attack: multiplies attack times.
        decay: multiplies decay times.
        vibrato_rate_hz: of sustained notes.
        vibrato_cents: half-width of that vibrato.
        formant_shift: multiplies resonance frequencies; 1 is average, above 1 is a smaller body.
        tuning_cents: offset of the tuning reference.
        timing_seconds: standard deviation of note onsets around the beat.
        reverb_seconds: decay time (60 dB) of the room.
        reverb_level: gain of the room's sound against the direct sound.
        tilt_db_per_octave: of the recording chain, around 1 kHz.
        snr_db: level of the music over the background noise, before each track's own deviation.
        hum_hz: mains frequency of the background hum.
        bumps: body resonances, (frequency Hz, gain dB, width in octaves).
    """

    number: int
    brightness: float
    attack: float
    decay: float
    vibrato_rate_hz: float
    vibrato_cents: float
    formant_shift: float
    tuning_cents: float
    timing_seconds: float
    reverb_seconds: float
    reverb_level: float
    tilt_db_per_octave: float
    snr_db: float
    hum_hz: float
    bumps: tuple[tuple[float, float, float], ...]

    def body(self, frequencies: np.ndarray) -> np.ndarray:
        """Returns the gain of the body's resonances at `frequencies` (Hz), same shape."""
        octaves = np.log2(np.maximum(frequencies, 20.0))
        gain_db = np.zeros_like(octaves)
        for centre, height, width in self.bumps:
            gain_db += height * np.exp(-(((octaves - np.log2(centre)) / width) ** 2))
        return 10.0 ** (gain_db / 20.0)


def make_performer(number: int, rng: np.random.Generator) -> Performer:
    """Returns a performer whose traits are drawn from `rng`.

    Args:
        number: within the tradition.
        rng: the performer's own source of randomness.

    Returns:
        The performer.
    """
    bumps = tuple(
        (
            float(2.0 ** rng.uniform(7.3, 12.0)),
            float(rng.uniform(-6, 6)),
            float(rng.uniform(0.2, 1)),
        )
        for _ in range(5)
    )
    return Performer(
        number=number,
        brightness=float(rng.uniform(-0.3, 0.35)),
        attack=float(rng.uniform(0.6, 1.9)),
        decay=float(rng.uniform(0.6, 1.5)),
        vibrato_rate_hz=float(rng.uniform(4.4, 6.8)),
        vibrato_cents=float(rng.uniform(5.0, 40.0)),
        formant_shift=float(rng.uniform(0.85, 1.2)),
        tuning_cents=float(rng.uniform(-20.0, 20.0)),
        timing_seconds=float(rng.uniform(0.002, 0.02)),
        reverb_seconds=float(rng.uniform(0.15, 0.9)),
        reverb_level=float(rng.uniform(0.05, 0.35)),
        tilt_db_per_octave=float(rng.uniform(-2.0, 1.0)),
        snr_db=float(rng.uniform(22.0, 40.0)),
        hum_hz=float(rng.choice([50.0, 60.0])),
        bumps=bumps,
    )
