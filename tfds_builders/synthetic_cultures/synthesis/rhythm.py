"""Metre: cycles of pulses with strokes on them, and the struck sources that sound the strokes."""

import dataclasses

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.noise import noise_slice
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import Performer


@dataclasses.dataclass(frozen=True)
class Metre:
    """A metric cycle.

    Attributes:
        name: as in the labels.
        pattern: one entry for each pulse: `-` for rest, a stroke name, `a+b` for strokes together,
            `a.b` for strokes that divide the pulse.
        accents: stressed pulses; chords and long notes fall there.
        pulse_seconds: shortest and longest pulse.
    """

    name: str
    pattern: tuple[str, ...]
    accents: tuple[int, ...]
    pulse_seconds: tuple[float, float]

    @property
    def num_pulses(self) -> int:
        """Pulses in one cycle."""
        return len(self.pattern)


def make_metre(
    name: str, pattern: str, accents: tuple[int, ...], pulse_seconds: tuple[float, float]
) -> Metre:
    """Returns a metre whose pattern is written with spaces between pulses and `|` at will."""
    return Metre(name, tuple(pattern.replace("|", " ").split()), accents, pulse_seconds)


def stroke_times(
    metre: Metre, *, pulse_seconds: float, seconds: float
) -> list[tuple[float, str, bool]]:
    """Returns every stroke from the first beat until `seconds`.

    Args:
        metre: the cycle.
        pulse_seconds: length of a pulse.
        seconds: length to fill.

    Returns:
        (onset in seconds, stroke name, whether it falls on an accent), in order of time.
    """
    found = []
    num_cycles = int(np.ceil(seconds / (metre.num_pulses * pulse_seconds)))
    for cycle in range(num_cycles):
        for pulse, entry in enumerate(metre.pattern):
            if entry == "-":
                continue
            parts = entry.split(".")
            for number, part in enumerate(parts):
                place = cycle * metre.num_pulses + pulse + number / len(parts)
                onset = place * pulse_seconds
                if onset >= seconds:
                    break
                accented = number == 0 and pulse in metre.accents
                strokes = part.split("+")
                found += [(onset, name, accented) for name in strokes if name != "-"]
    return found


@dataclasses.dataclass(frozen=True)
class Stroke:
    """One way of hitting one drum.

    Attributes:
        frequency: of the lowest mode: Hz, or a multiple of the tonic when `is_tuned`.
        ratios: of the modes to the lowest.
        gains: of the modes.
        decay_seconds: time constant of the lowest mode; higher ones decay faster.
        noise: level of the noise burst.
        noise_seconds: time constant of the burst.
        colour: of the noise.
        glide: extra pitch at the moment of the stroke, as a share; negative rises.
        glide_seconds: time constant of that glide.
        is_tuned: whether `frequency` is relative to the tonic.
    """

    frequency: float
    ratios: tuple[float, ...] = (1.0, 1.59, 2.14, 2.65)
    gains: tuple[float, ...] = (1.0, 0.5, 0.3, 0.2)
    decay_seconds: float = 0.15
    noise: float = 0.3
    noise_seconds: float = 0.02
    colour: str = "bright"
    glide: float = 0.0
    glide_seconds: float = 0.05
    is_tuned: bool = False


HARMONIC = (1.0, 2.0, 3.0, 4.0, 5.0)
"""Modes of a loaded drum head (tabla, mridangam) are nearly harmonic, after C. V. Raman (1934);
the default ratios of `Stroke` are those of an ideal membrane."""
HARMONIC_GAINS = (0.5, 1.0, 0.6, 0.3, 0.15)
METAL = (1.0, 1.41, 1.93, 2.44, 2.76)

KITS = {
    "drum set": {
        "kick": Stroke(55.0, decay_seconds=0.12, noise=0.1, glide=1.2, glide_seconds=0.02),
        "snare": Stroke(190.0, decay_seconds=0.06, noise=0.9, noise_seconds=0.08, colour="white"),
        "hat": Stroke(5200.0, METAL, (0.1,) * 5, 0.02, 0.5, 0.025),
    },
    "drum machine": {
        "kick": Stroke(48.0, (1.0,), (1.4,), 0.2, 0.05, glide=2.5, glide_seconds=0.03),
        "snare": Stroke(230.0, (1.0,), (0.2,), 0.03, 1.0, 0.05, "white"),
        "hat": Stroke(6500.0, METAL, (0.05,) * 5, 0.015, 0.5, 0.012),
    },
    "daouli": {
        "dum": Stroke(80.0, decay_seconds=0.16, noise=0.25, colour="pink", glide=0.15),
        "tek": Stroke(420.0, decay_seconds=0.03, noise=0.8, noise_seconds=0.015),
    },
    "toumbeleki": {
        "dum": Stroke(135.0, decay_seconds=0.14, noise=0.1, colour="pink"),
        "tek": Stroke(780.0, decay_seconds=0.05, noise=0.4, noise_seconds=0.01),
        "ke": Stroke(690.0, decay_seconds=0.04, noise=0.3, noise_seconds=0.01),
    },
    "bendir": {
        "dum": Stroke(95.0, decay_seconds=0.2, noise=0.5, noise_seconds=0.12, colour="white"),
        "tek": Stroke(520.0, decay_seconds=0.04, noise=0.8, noise_seconds=0.06, colour="white"),
        "ke": Stroke(480.0, decay_seconds=0.03, noise=0.5, noise_seconds=0.05, colour="white"),
    },
    "kudum": {
        "dum": Stroke(150.0, decay_seconds=0.11, noise=0.15, noise_seconds=0.008, colour="pink"),
        "tek": Stroke(215.0, decay_seconds=0.09, noise=0.2, noise_seconds=0.008, colour="pink"),
        "ke": Stroke(215.0, decay_seconds=0.07, noise=0.15, noise_seconds=0.008, colour="pink"),
    },
    "tabla": {
        "na": Stroke(1.0, HARMONIC, HARMONIC_GAINS, 0.12, 0.5, 0.008, is_tuned=True),
        "tin": Stroke(1.0, HARMONIC, (1.0, 0.4, 0.2, 0.1, 0.0), 0.3, 0.15, 0.01, is_tuned=True),
        "ge": Stroke(78.0, decay_seconds=0.3, noise=0.1, glide=-0.25, glide_seconds=0.1),
        "ka": Stroke(260.0, decay_seconds=0.02, noise=0.7, noise_seconds=0.015, colour="white"),
    },
    "pakhavaj": {
        "na": Stroke(0.5, HARMONIC, HARMONIC_GAINS, 0.2, 0.4, 0.01, is_tuned=True),
        "tin": Stroke(0.5, HARMONIC, HARMONIC_GAINS, 0.3, 0.2, 0.01, is_tuned=True),
        "ge": Stroke(62.0, decay_seconds=0.3, noise=0.2, colour="pink", glide=0.1),
        "ka": Stroke(200.0, decay_seconds=0.05, noise=0.8, noise_seconds=0.03, colour="white"),
    },
    "mridangam": {
        "thom": Stroke(92.0, decay_seconds=0.22, noise=0.1, colour="pink", glide=0.1),
        "nam": Stroke(1.0, HARMONIC, HARMONIC_GAINS, 0.08, 0.6, 0.008, is_tuned=True),
        "dhin": Stroke(1.0, HARMONIC, (0.8, 1.0, 0.4, 0.2, 0.1), 0.25, 0.3, is_tuned=True),
        "ta": Stroke(330.0, decay_seconds=0.02, noise=0.8, noise_seconds=0.012, colour="white"),
    },
    "ghatam": {
        "thom": Stroke(118.0, (1.0,), (0.8,), 0.1, 0.1, 0.02, "pink"),
        "nam": Stroke(1350.0, METAL, (0.8, 0.5, 0.3, 0.2, 0.1), 0.05, 0.4, 0.006),
        "dhin": Stroke(980.0, METAL, (0.9, 0.5, 0.3, 0.2, 0.1), 0.06, 0.3, 0.006),
        "ta": Stroke(1750.0, METAL, (0.6, 0.4, 0.3, 0.2, 0.1), 0.03, 0.5, 0.006),
    },
    "khanjira": {
        "thom": Stroke(85.0, decay_seconds=0.2, noise=0.1, glide=0.6, glide_seconds=0.08),
        "nam": Stroke(260.0, decay_seconds=0.04, noise=0.6, noise_seconds=0.03),
        "dhin": Stroke(160.0, decay_seconds=0.1, noise=0.3, glide=0.4),
        "ta": Stroke(4200.0, METAL, (0.15,) * 5, 0.05, 0.6, 0.03),
    },
}
"""Percussion by name: stroke name -> how it sounds."""


def render_stroke(
    stroke: Stroke,
    performer: Performer,
    tonic_hz: float,
    rng: np.random.Generator,
    *,
    sample_rate: int,
) -> np.ndarray:
    """Returns the sound of one stroke.

    Args:
        stroke: how it is struck.
        performer: brightness, decay and size of the drum.
        tonic_hz: to which tuned drums are tuned.
        rng: draws phases and noise.
        sample_rate: in Hz.

    Returns:
        float32 audio, shape (samples,), as long as it is heard.
    """
    size = 1.0 if stroke.is_tuned else performer.formant_shift
    lowest = stroke.frequency * (tonic_hz if stroke.is_tuned else size)
    decay = stroke.decay_seconds * performer.decay
    seconds = min(1.2, 5.0 * max(decay, stroke.noise_seconds))
    time = np.arange(round(seconds * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    # The phase is the integral of 1 + glide exp(-t / tau).
    swept = time + stroke.glide * stroke.glide_seconds * (1 - np.exp(-time / stroke.glide_seconds))
    audio = np.zeros_like(time)
    for number, (ratio, gain) in enumerate(zip(stroke.ratios, stroke.gains, strict=False)):
        frequency = lowest * ratio
        if frequency * (1 + max(0.0, stroke.glide)) > 0.47 * sample_rate:
            continue
        shade = (number + 1) ** -performer.brightness
        phase = np.float32(2 * np.pi * frequency) * swept + np.float32(rng.uniform(0, 2 * np.pi))
        fade = np.exp(-time * np.float32((1 + 0.5 * number) / decay))
        audio += np.float32(gain * shade) * np.sin(phase) * fade
    burst = noise_slice(stroke.colour, len(time), rng)
    audio += np.float32(stroke.noise) * burst * np.exp(-time / np.float32(stroke.noise_seconds))
    rise = min(16, len(audio))
    audio[:rise] *= np.linspace(0.0, 1.0, rise, dtype=np.float32)
    return audio
