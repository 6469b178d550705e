"""Pitched sound sources: plucked, bowed, blown, free-reed and sung.

Two ways of making sound, both vectorised over time:

* `render_line` reads wavetables along a continuous pitch curve (one table for each note, so that
  resonances and vowels stay where they are when the pitch moves), for anything that glides;
* `decaying_tone` sums decaying, slightly inharmonic partials, for struck and plucked strings whose
  pitch is fixed: chords, drones, arpeggios.

Sources: additive and wavetable synthesis as in any textbook (for example Smith, "Physical Audio
Signal Processing", on stiff strings: partial h at h * f0 * sqrt(1 + B h^2)). The vowels are the
averages of Peterson & Barney (1952), rounded. All other numbers are chosen by ear and eye.
"""

import dataclasses

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import CONTROL_RATE, Notes
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.noise import noise_slice
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import Performer

TABLE_SIZE = 2048
MAX_HARMONICS = 64
TOP_SHARE = 0.475
"""Partials above this share of the sample rate are left out."""

VOWELS_HZ = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]]
)
"""First three formants of a, e, i, o, u."""
VOWEL_GAINS = np.array([1.0, 0.5, 0.25])
VOWEL_WIDTHS_HZ = np.array([90.0, 120.0, 180.0])


@dataclasses.dataclass(frozen=True)
class Sound:
    """One instrument's recipe.

    Attributes:
        kind: `plucked`, `bowed`, `blown`, `reed` or `sung`.
        centre_hz: frequency near which the instrument places the tonic.
        steepness: partial h has amplitude h ** -steepness before resonances.
        even: gain of even partials; near 0 for a closed pipe.
        resonances: fixed resonances, (frequency Hz, gain, width Hz).
        attack_seconds: rise of a note.
        decay_seconds: time constant of a plucked note; 0 for sustained sources.
        inharmonicity: stiffness B of a string.
        breath: level of the noise that is heard with the tone.
        detune_cents: spread of two further reeds or players; 0 is one.
        formant_scale: size of the vocal tract, above 1 is shorter; sung only.
    """

    kind: str
    centre_hz: float
    steepness: float
    even: float = 1.0
    resonances: tuple[tuple[float, float, float], ...] = ()
    attack_seconds: float = 0.01
    decay_seconds: float = 0.0
    inharmonicity: float = 0.0
    breath: float = 0.0
    detune_cents: float = 0.0
    formant_scale: float = 1.0


VIOLIN_BODY = ((460.0, 1.2, 120.0), (1100.0, 0.8, 300.0), (2600.0, 1.4, 700.0))
LYRA_BODY = ((600.0, 1.5, 150.0), (1500.0, 1.2, 300.0))

SOUNDS = {
    "guitar": Sound("plucked", 165.0, 1.3, decay_seconds=0.9, inharmonicity=6e-5),
    "distorted guitar": Sound("bowed", 130.0, 0.75, attack_seconds=0.01, detune_cents=4.0),
    "piano": Sound("plucked", 260.0, 1.7, decay_seconds=1.1, inharmonicity=4e-4),
    "harp": Sound("plucked", 330.0, 2.1, decay_seconds=1.6, inharmonicity=2e-5),
    "music box": Sound("plucked", 900.0, 2.5, decay_seconds=1.2, inharmonicity=2e-2),
    "bass": Sound("plucked", 60.0, 1.8, decay_seconds=0.6, inharmonicity=1e-4),
    "synth": Sound("reed", 220.0, 0.9, attack_seconds=0.02, detune_cents=9.0),
    "laouto": Sound("plucked", 150.0, 0.9, decay_seconds=0.35, inharmonicity=1e-4),
    "bouzouki": Sound("plucked", 290.0, 0.75, decay_seconds=0.3, inharmonicity=1e-4),
    "santouri": Sound("plucked", 400.0, 1.2, decay_seconds=1.0, inharmonicity=3e-4),
    "oud": Sound("plucked", 130.0, 1.5, decay_seconds=0.3, inharmonicity=5e-5),
    "kanun": Sound("plucked", 330.0, 1.05, decay_seconds=0.55, inharmonicity=1e-4),
    "tanbur": Sound("plucked", 150.0, 0.8, decay_seconds=0.9, inharmonicity=5e-5),
    "sitar": Sound("plucked", 280.0, 0.55, decay_seconds=0.9, inharmonicity=8e-5),
    "sarod": Sound("plucked", 200.0, 1.2, decay_seconds=0.45, inharmonicity=8e-5),
    "veena": Sound("plucked", 150.0, 0.85, decay_seconds=1.1, inharmonicity=5e-5),
    "tanpura": Sound("plucked", 140.0, 0.35, decay_seconds=1.6, inharmonicity=3e-5),
    "violin": Sound("bowed", 440.0, 0.95, 1.0, VIOLIN_BODY, attack_seconds=0.06, breath=0.02),
    "strings": Sound(
        "bowed", 300.0, 1.1, 1.0, VIOLIN_BODY, attack_seconds=0.14, breath=0.02, detune_cents=11.0
    ),
    "lyra": Sound("bowed", 440.0, 0.75, 1.0, LYRA_BODY, attack_seconds=0.035, breath=0.05),
    "kemence": Sound("bowed", 420.0, 1.15, 0.8, LYRA_BODY, attack_seconds=0.07, breath=0.04),
    "sarangi": Sound(
        "bowed", 280.0, 0.7, 0.9, ((700.0, 1.6, 150.0), (1300.0, 1.3, 200.0)), 0.07, breath=0.03
    ),
    "flute": Sound("blown", 620.0, 2.3, 0.6, attack_seconds=0.06, breath=0.12),
    "ney": Sound("blown", 440.0, 1.9, 1.4, attack_seconds=0.08, breath=0.3),
    "bansuri": Sound("blown", 400.0, 2.2, 0.8, attack_seconds=0.08, breath=0.2),
    "venu": Sound("blown", 620.0, 1.9, 0.8, attack_seconds=0.04, breath=0.16),
    "klarino": Sound(
        "blown", 380.0, 0.85, 0.2, ((1500.0, 0.8, 400.0),), attack_seconds=0.03, breath=0.03
    ),
    "zurna": Sound("blown", 500.0, 0.4, 1.0, ((2200.0, 1.6, 500.0),), 0.02, breath=0.03),
    "gaida": Sound("reed", 420.0, 0.45, 0.8, ((1300.0, 1.0, 300.0),), attack_seconds=0.02),
    "harmonium": Sound("reed", 280.0, 0.75, attack_seconds=0.05, detune_cents=5.0),
    "surpeti": Sound("reed", 140.0, 1.0, attack_seconds=0.3, detune_cents=3.0),
    "female voice": Sound(
        "sung", 330.0, 1.15, attack_seconds=0.06, breath=0.03, formant_scale=1.17
    ),
    "male voice": Sound("sung", 165.0, 1.0, attack_seconds=0.06, breath=0.02, formant_scale=1.0),
}
"""Every pitched instrument by name."""


def harmonic_amplitudes(
    sound: Sound,
    performer: Performer,
    frequencies_hz: np.ndarray,
    rng: np.random.Generator,
    sample_rate: int,
    highest_hz: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the amplitude of every harmonic of every note.

    Args:
        sound: the instrument.
        performer: gives brightness, body and formants.
        frequencies_hz: fundamental of each note, shape (notes,).
        rng: draws the vowel of each sung note.
        sample_rate: in Hz.
        highest_hz: highest fundamental that a gliding note reaches, shape (notes,); harmonics that
            would fold back there are left out. `frequencies_hz` when None.

    Returns:
        Amplitudes with unit power in each row, shape (notes, MAX_HARMONICS).
    """
    order = np.arange(1, MAX_HARMONICS + 1)
    partials = frequencies_hz[:, None] * order[None, :]
    steepness = max(0.2, sound.steepness + performer.brightness)
    # The taper hides the edge where the series of harmonics ends.
    taper = 1.0 - (order / (MAX_HARMONICS + 1.0)) ** 4
    amplitudes = np.broadcast_to(taper * order**-steepness, partials.shape).copy()
    amplitudes[:, 1::2] *= sound.even
    if sound.kind == "plucked":
        # The place where the string is plucked leaves a comb in the spectrum.
        place = 0.13 + 0.05 * performer.brightness
        amplitudes *= 0.15 + np.abs(np.sin(np.pi * order * place))
    if sound.resonances:
        gain = np.full_like(partials, 0.35)
        for centre, height, width in sound.resonances:
            shifted = partials - centre * performer.formant_shift
            gain += height / (1.0 + (shifted / width) ** 2)
        amplitudes *= gain
    if sound.kind == "sung":
        vowels = rng.integers(len(VOWELS_HZ), size=len(frequencies_hz))
        formants = VOWELS_HZ[vowels] * sound.formant_scale * performer.formant_shift
        distance = (partials[:, :, None] - formants[:, None, :]) / VOWEL_WIDTHS_HZ
        amplitudes *= 0.03 + (VOWEL_GAINS / (1.0 + distance**2)).sum(-1)
    amplitudes *= performer.body(partials)
    top = frequencies_hz if highest_hz is None else highest_hz
    amplitudes[top[:, None] * order[None, :] > TOP_SHARE * sample_rate] = 0.0
    return amplitudes / np.sqrt((amplitudes**2).sum(1, keepdims=True) / 2 + 1e-12)


def wavetables(amplitudes: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Returns one period of each note.

    Args:
        amplitudes: shape (notes, harmonics).
        phases: of each harmonic in radians, shape (harmonics,).

    Returns:
        float32 tables, shape (notes, TABLE_SIZE).
    """
    spectrum = np.zeros((len(amplitudes), TABLE_SIZE // 2 + 1), np.complex128)
    spectrum[:, 1 : amplitudes.shape[1] + 1] = amplitudes * np.exp(1j * phases) * TABLE_SIZE / 2
    return np.fft.irfft(spectrum, axis=1).astype(np.float32)


def _envelopes(
    sound: Sound, performer: Performer, notes: Notes, num_frames: int, *, legato: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns loudness and, for plucked sounds, the share of the bright table; control rate."""
    loudness = np.zeros(num_frames, np.float32)
    bright = np.zeros(num_frames, np.float32)
    attack = max(0.006, sound.attack_seconds * performer.attack)
    for index in range(len(notes)):
        begin = round(notes.onsets[index] * CONTROL_RATE)
        end = num_frames
        if index + 1 < len(notes):
            end = min(num_frames, round(notes.onsets[index + 1] * CONTROL_RATE))
        time = np.arange(max(0, end - begin)) / CONTROL_RATE
        duration = notes.durations[index]
        if sound.decay_seconds:
            decay = sound.decay_seconds * performer.decay
            level = np.exp(-time / decay) * np.minimum(1.0, (time + 0.005) / 0.006)
            bright[begin:end] = np.exp(-time / (0.18 * decay))
        else:
            # Tied to the note before, a line dips a little instead of starting from nothing.
            tied = index > 0 and (
                notes.onsets[index] - notes.onsets[index - 1] - notes.durations[index - 1] < 0.02
            )
            floor = legato if tied else 0.0
            level = floor + (1 - floor) * np.minimum(1.0, time / attack)
            release = np.clip((duration - time) / 0.05, 0.0, 1.0)
            level *= np.maximum(release, legato * (time < duration))
        loudness[begin:end] = notes.velocities[index] * level
    return loudness, bright


def render_line(
    sound: Sound,
    performer: Performer,
    notes: Notes,
    pitch_hz: np.ndarray,
    rng: np.random.Generator,
    *,
    num_samples: int,
    sample_rate: int,
    legato: float = 0.5,
) -> np.ndarray:
    """Returns one monophonic line of sound.

    Args:
        sound: the instrument.
        performer: who plays.
        notes: onsets, durations and loudness.
        pitch_hz: the fundamental at the control rate, shape (frames,).
        rng: draws phases, vowels and noise.
        num_samples: length of the result.
        sample_rate: in Hz.
        legato: loudness, 0 to 1, to which tied notes fall between each other.

    Returns:
        float32 audio of about unit power where it sounds, shape (num_samples,).
    """
    if not len(notes):
        return np.zeros(num_samples, np.float32)
    frames = np.clip(np.round(notes.onsets * CONTROL_RATE).astype(int), 0, len(pitch_hz) - 1)
    bounds = np.append(frames[1:], len(pitch_hz))
    spans = [pitch_hz[a : max(b, a + 1)] for a, b in zip(frames, bounds, strict=True)]
    middle = np.array([np.median(span) for span in spans])
    highest = np.array([span.max() for span in spans])
    amplitudes = harmonic_amplitudes(sound, performer, middle, rng, sample_rate, highest)
    phases = rng.uniform(0, 2 * np.pi, MAX_HARMONICS)

    starts = np.clip(np.round(notes.onsets * sample_rate).astype(int), 0, num_samples)
    starts[0] = 0
    counts = np.diff(np.append(starts, num_samples))
    offsets = np.repeat(np.arange(len(notes)) * TABLE_SIZE, counts)
    ticks = (np.arange(num_samples) * (CONTROL_RATE / sample_rate)).astype(np.float32)
    grid = np.arange(len(pitch_hz), dtype=np.float32)
    pitch = np.interp(ticks, grid, pitch_hz)
    loudness, bright = _envelopes(sound, performer, notes, len(pitch_hz), legato=legato)
    loudness = np.interp(ticks, grid, loudness).astype(np.float32)

    def read(tables: np.ndarray, detune: float = 1.0) -> np.ndarray:
        position = np.cumsum(pitch * (detune * TABLE_SIZE / sample_rate))
        index = position.astype(np.int64) & (TABLE_SIZE - 1)
        return tables.reshape(-1)[index + offsets]

    tables = wavetables(amplitudes, phases)
    if sound.decay_seconds:
        dull = amplitudes * np.arange(1, MAX_HARMONICS + 1) ** -0.9
        dull_tables = wavetables(dull, phases)
        share = np.interp(ticks, grid, bright).astype(np.float32)
        # The bright part is the difference, so that both are read with one index.
        position = np.cumsum(pitch * (TABLE_SIZE / sample_rate))
        index = (position.astype(np.int64) & (TABLE_SIZE - 1)) + offsets
        audio = dull_tables.reshape(-1)[index]
        audio += share * (tables - dull_tables).reshape(-1)[index]
    elif sound.detune_cents:
        spread = 2.0 ** (sound.detune_cents / 1200.0)
        audio = (read(tables) + read(tables, spread) + read(tables, 1.0 / spread)) / np.sqrt(3.0)
    else:
        audio = read(tables)
    if sound.breath:
        audio = audio + sound.breath * noise_slice("bright", num_samples, rng)
    return (audio * loudness).astype(np.float32)


def decaying_tone(
    sound: Sound,
    performer: Performer,
    frequency: float,
    rng: np.random.Generator,
    *,
    seconds: float,
    sample_rate: int,
    num_partials: int = 24,
) -> np.ndarray:
    """Returns one plucked or struck note of fixed pitch.

    Args:
        sound: the instrument; `decay_seconds` and `inharmonicity` matter here.
        performer: who plays.
        frequency: fundamental in Hz.
        rng: draws the partials' phases.
        seconds: length of the result.
        sample_rate: in Hz.
        num_partials: at most this many partials.

    Returns:
        float32 audio of about unit power at its start, shape (round(seconds * sample_rate),).
    """
    order = np.arange(1, num_partials + 1)
    amplitudes = harmonic_amplitudes(sound, performer, np.array([frequency]), rng, sample_rate)
    amplitudes = amplitudes[0, :num_partials] * (1.0 - (order / (num_partials + 1.0)) ** 4)
    partials = frequency * order * np.sqrt(1.0 + sound.inharmonicity * order**2)
    amplitudes = np.where(partials < TOP_SHARE * sample_rate, amplitudes, 0.0)
    decay = sound.decay_seconds * performer.decay / (1.0 + 0.12 * (order - 1))
    return sum_of_decays(amplitudes, partials, decay, rng, seconds=seconds, sample_rate=sample_rate)


def sum_of_decays(
    amplitudes: np.ndarray,
    frequencies: np.ndarray,
    decay_seconds: np.ndarray,
    rng: np.random.Generator,
    *,
    seconds: float,
    sample_rate: int,
) -> np.ndarray:
    """Returns a sum of exponentially decaying sinusoids.

    Time is split into blocks, exp(s (b + r)) = exp(s b) exp(s r), so that the sum over partials is
    one small matrix product instead of an exponential for each sample and partial.

    Args:
        amplitudes: shape (partials,).
        frequencies: in Hz, shape (partials,).
        decay_seconds: time constants, shape (partials,).
        rng: draws phases.
        seconds: length of the result.
        sample_rate: in Hz.

    Returns:
        float32 audio, shape (round(seconds * sample_rate),).
    """
    num_samples, block, rows = round(seconds * sample_rate), 128, 32
    num_blocks = rows * -(-num_samples // (block * rows))
    rate = -1.0 / np.asarray(decay_seconds) + 2j * np.pi * np.asarray(frequencies)
    phases = np.exp(1j * rng.uniform(0, 2 * np.pi, len(rate)))
    coarse = np.exp(np.arange(num_blocks)[:, None] * (block / sample_rate) * rate[None, :])
    fine = (amplitudes * phases)[:, None] * np.exp(rate[:, None] * np.arange(block) / sample_rate)
    # As a stack of small products BLAS keeps to one thread: no fight for cores, always the same
    # bits.
    coarse = coarse.reshape(-1, rows, len(rate))
    audio = coarse.real.astype(np.float32) @ fine.real.astype(np.float32)
    audio -= coarse.imag.astype(np.float32) @ fine.imag.astype(np.float32)
    audio = audio.reshape(-1)[:num_samples]
    rise = min(32, num_samples)
    audio[:rise] *= np.linspace(0.0, 1.0, rise, dtype=np.float32)
    fall = min(256, num_samples)
    audio[num_samples - fall :] *= np.linspace(1.0, 0.0, fall, dtype=np.float32)
    return audio
