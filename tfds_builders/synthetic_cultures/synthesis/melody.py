"""Melody: notes drawn from a mode, and the continuous pitch line that joins them."""

import dataclasses

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import Mode

CONTROL_RATE = 200
"""Frames per second at which pitch and loudness curves are drawn; 5 ms, below any ornament."""

STEPS = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 4])
STEP_WEIGHTS = np.array([0.03, 0.05, 0.14, 0.25, 0.06, 0.25, 0.14, 0.05, 0.03])


@dataclasses.dataclass(frozen=True)
class Notes:
    """A monophonic line.

    Attributes:
        onsets: seconds, ascending, shape (notes,).
        durations: seconds, shape (notes,).
        degrees: of the mode, any octave, shape (notes,).
        velocities: loudness, 0 to 1, shape (notes,).
    """

    onsets: np.ndarray
    durations: np.ndarray
    degrees: np.ndarray
    velocities: np.ndarray

    def __len__(self) -> int:
        return len(self.onsets)

    def keep(self, chosen: np.ndarray) -> "Notes":
        """Returns the notes at the boolean or integer index `chosen`."""
        return Notes(
            self.onsets[chosen],
            self.durations[chosen],
            self.degrees[chosen],
            self.velocities[chosen],
        )


@dataclasses.dataclass(frozen=True)
class Ornaments:
    """How a tradition joins and colours notes.

    Attributes:
        glide_seconds: shortest and longest slide into a note.
        glide_share: share of notes that slide slowly; the others change in 20 ms.
        shake_rate_hz: slowest and fastest oscillation on the mode's shaken degrees; (0, 0) none.
        shake_cents: smallest and largest half-width of that oscillation.
        turn_share: share of longer notes that begin with a quick turn through the upper degree.
        vibrato: multiplies the performer's vibrato depth.
    """

    glide_seconds: tuple[float, float] = (0.02, 0.05)
    glide_share: float = 0.0
    shake_rate_hz: tuple[float, float] = (0.0, 0.0)
    shake_cents: tuple[float, float] = (0.0, 0.0)
    turn_share: float = 0.0
    vibrato: float = 1.0


def note_durations(
    total: float, rng: np.random.Generator, *, density: float, cycle: float
) -> np.ndarray:
    """Returns note lengths in pulses that fill `total` pulses without crossing a cycle's end.

    Args:
        total: pulses to fill.
        rng: source of randomness.
        density: about 0.5 (long notes) to 2 (short notes) notes for each pulse.
        cycle: pulses in one metric cycle.

    Returns:
        Lengths in pulses, multiples of a half, shape (notes,).
    """
    lengths = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    weights = np.exp(-((np.log(lengths * density)) ** 2) / 0.9)
    weights /= weights.sum()
    found, position = [], 0.0
    while position < total - 1e-6:
        length = float(rng.choice(lengths, p=weights))
        length = min(length, cycle - position % cycle, total - position)
        found.append(length)
        position += length
    return np.array(found)


def walk(
    mode: Mode, count: int, rng: np.random.Generator, *, start: int, centre: float
) -> np.ndarray:
    """Returns a random walk over the degrees of a mode that ends on one of its finals.

    Args:
        mode: gives the degrees' weights and finals.
        count: notes wanted.
        rng: source of randomness.
        start: first degree.
        centre: degree around which the walk stays.

    Returns:
        Degrees, shape (count,).
    """
    size = len(mode.cents)
    weights = np.asarray(mode.weights)
    degrees = np.empty(count, np.int64)
    degree = start
    for index in range(count):
        reach = degree + STEPS
        pull = np.exp(-(((reach - centre) / 4.5) ** 2))
        chance = STEP_WEIGHTS * weights[reach % size] * pull
        if index == count - 1:
            # A phrase closes on the final that lies nearest.
            finals = np.array([f + size * o for f in mode.finals for o in (-1, 0, 1)])
            degree = int(finals[np.argmin(np.abs(finals - degree) + 0.01 * np.abs(finals))])
        else:
            total = np.cumsum(chance)
            degree = int(reach[np.searchsorted(total, rng.random() * total[-1], side="right")])
        degrees[index] = degree
    return degrees


def metric_melody(
    mode: Mode,
    rng: np.random.Generator,
    *,
    seconds: float,
    pulse_seconds: float,
    cycle: int,
    density: float,
    accents: np.ndarray,
) -> Notes:
    """Returns a melody in metre, made of two phrases that return with small changes.

    Args:
        mode: of the melody.
        rng: source of randomness.
        seconds: length to fill.
        pulse_seconds: length of one pulse.
        cycle: pulses in one metric cycle; phrases are one cycle, or two when it is short.
        density: notes for each pulse.
        accents: pulses of the cycle that are stressed.

    Returns:
        The notes, the last one ending at or before `seconds`.
    """
    phrase = cycle * (2 if cycle * pulse_seconds < 1.6 else 1)
    pool = []
    for _ in range(2):
        lengths = note_durations(phrase, rng, density=density, cycle=cycle)
        centre = mode.start + rng.uniform(-1.0, 2.0)
        first = mode.start if rng.random() < 0.6 else int(rng.choice(mode.finals))
        pool.append((lengths, walk(mode, len(lengths), rng, start=first, centre=centre)))
    onsets, durations, degrees = [], [], []
    for number in range(int(np.ceil(seconds / (phrase * pulse_seconds)))):
        lengths, line = pool[0 if number % 4 in (0, 1) else 1]
        line = line.copy()
        changed = rng.random(len(line)) < 0.12
        line[changed] += rng.choice([-1, 1], size=int(changed.sum()))
        start = number * phrase + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        onsets.append(start)
        durations.append(lengths)
        degrees.append(line)
    pulses = np.concatenate(onsets)
    lengths = np.concatenate(durations)
    degrees = np.concatenate(degrees)
    stressed = np.isin(np.round(pulses % cycle, 3), accents)
    velocities = np.where(stressed, 0.95, 0.72) + rng.uniform(-0.1, 0.05, len(pulses))
    begins = pulses * pulse_seconds
    keep = begins + 0.05 < seconds
    begins, lengths = begins[keep], lengths[keep] * pulse_seconds
    lengths = np.minimum(lengths, seconds - begins)
    sounding = rng.random(len(begins)) > 0.06
    sounding[0] = True
    return Notes(begins, lengths, degrees[keep], velocities[keep]).keep(sounding)


def free_melody(mode: Mode, rng: np.random.Generator, *, seconds: float, density: float) -> Notes:
    """Returns an unmeasured melody (alap, taksim): long and short notes with breaths between.

    Args:
        mode: of the melody.
        rng: source of randomness.
        seconds: length to fill.
        density: about notes for each half second.

    Returns:
        The notes, the last one ending at or before `seconds`.
    """
    onsets, durations, degrees = [], [], []
    position, start = float(rng.uniform(0.0, 0.4)), mode.start
    while position < seconds - 0.4:
        count = int(rng.integers(3, 9))
        line = walk(mode, count, rng, start=start, centre=mode.start + rng.uniform(-2, 3))
        lengths = np.exp(rng.normal(np.log(0.32 / density), 0.6, count)).clip(0.08, 1.6)
        lengths[-1] = max(lengths[-1], 0.8)
        begins = position + np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        onsets.append(begins)
        durations.append(lengths)
        degrees.append(line)
        position = float(begins[-1] + lengths[-1] + rng.uniform(0.05, 0.5))
        start = int(line[-1])
    onsets = np.concatenate(onsets)
    keep = onsets < seconds - 0.1
    onsets = onsets[keep]
    durations = np.minimum(np.concatenate(durations)[keep], seconds - onsets)
    velocities = rng.uniform(0.6, 1.0, len(onsets))
    return Notes(onsets, durations, np.concatenate(degrees)[keep], velocities)


def pitch_line(
    notes: Notes,
    mode: Mode,
    ornaments: Ornaments,
    rng: np.random.Generator,
    *,
    seconds: float,
    vibrato_rate_hz: float,
    vibrato_cents: float,
) -> np.ndarray:
    """Returns the pitch of a line, slides and oscillations included, at the control rate.

    Args:
        notes: the line.
        mode: gives the degrees' pitch and which of them are shaken.
        ornaments: of the tradition.
        rng: source of randomness.
        seconds: length of the result.
        vibrato_rate_hz: of the performer.
        vibrato_cents: half-width of the performer's vibrato.

    Returns:
        Cents above the tonic, float64, shape (round(seconds * CONTROL_RATE),).
    """
    num_frames = round(seconds * CONTROL_RATE)
    centre = mode.degree_cents(notes.degrees)
    line = np.full(num_frames, centre[0])
    size = len(mode.cents)
    for index in range(len(notes)):
        begin = round(notes.onsets[index] * CONTROL_RATE)
        end = num_frames
        if index + 1 < len(notes):
            end = min(num_frames, round(notes.onsets[index + 1] * CONTROL_RATE))
        if end <= begin:
            continue
        time = np.arange(end - begin) / CONTROL_RATE
        duration = notes.durations[index]
        target = np.full(len(time), centre[index])
        shaken = ornaments.shake_rate_hz[1] > 0 and notes.degrees[index] % size in mode.shaken
        if shaken and duration > 0.12:
            rate = rng.uniform(*ornaments.shake_rate_hz)
            depth = rng.uniform(*ornaments.shake_cents)
            target += depth * np.sin(2 * np.pi * rate * time + rng.uniform(-0.6, 0.6))
        elif duration > 0.22:
            grow = np.clip((time - 0.12) / 0.2, 0.0, 1.0)
            depth = vibrato_cents * ornaments.vibrato
            target += depth * grow * np.sin(2 * np.pi * vibrato_rate_hz * time)
        if duration > 0.25 and rng.random() < ornaments.turn_share:
            upper = mode.degree_cents(notes.degrees[index] + 1) - centre[index]
            target += upper * ((time > 0.05) & (time < 0.11))
        if index:
            slow = rng.random() < ornaments.glide_share
            glide = rng.uniform(*ornaments.glide_seconds) if slow else 0.02
            glide = min(glide, 0.7 * duration)
            rise = np.clip(time / max(glide, 1e-3), 0.0, 1.0)
            blend = 0.5 - 0.5 * np.cos(np.pi * rise)
            target = line[begin - 1] * (1 - blend) + target * blend if begin else target
        line[begin:end] = target
    return line
