"""Plans: the facts of a track, from which both its sound and its labels follow."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import Ornaments
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import Metre
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import Mode

ROLES = ("melody", "heterophony", "chords", "pad", "bass", "tanpura", "drone", "drums")


@dataclasses.dataclass(frozen=True)
class Part:
    """One sounding layer of a track.

    Attributes:
        sound: a name in `SOUNDS`, or in `KITS` for drums.
        role: one of `ROLES`.
        gain: amplitude in the mix.
    """

    sound: str
    role: str
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(
                f"part {self.sound!r} has the unknown role {self.role!r}; choose one of "
                f"{', '.join(ROLES)}"
            )


@dataclasses.dataclass(frozen=True)
class TrackPlan:
    """Everything that is decided about a track before a sound is made.

    Attributes:
        labels: facts about the track, before the vocabulary is cut.
        mode: of the melody.
        metre: None for unmeasured music.
        pulse_seconds: length of one pulse of the metre.
        tonic_hz: before the performer's tuning offset.
        parts: the layers, loudest first by habit.
        ornaments: how the melody moves between notes.
        density: notes for each pulse.
        chords: cents above the tonic of each chord, one for each cycle, in turn.
        level_db: root mean square of the track against full scale, in dB.
    """

    labels: tuple[str, ...]
    mode: Mode
    metre: Metre | None
    pulse_seconds: float
    tonic_hz: float
    parts: tuple[Part, ...]
    ornaments: Ornaments = dataclasses.field(default_factory=Ornaments)
    density: float = 1.0
    chords: tuple[tuple[float, ...], ...] = ()
    level_db: float = -22.0


@dataclasses.dataclass(frozen=True)
class Option:
    """One value of something that a tradition chooses for each track.

    Attributes:
        value: what is chosen.
        share: of the tracks of a split.
        is_rare: chosen only for the few tracks made of what is too rare to be in the vocabulary;
            shares count among the rare options then.
        is_train_only: never chosen outside the training split, so that its label has no positives
            there, as happens in real collections.
    """

    value: str
    share: float
    is_rare: bool = False
    is_train_only: bool = False


PlanFunction = Callable[[Mapping[str, str], bool, np.random.Generator], TrackPlan]


@dataclasses.dataclass(frozen=True)
class Tradition:
    """A synthetic music culture.

    Attributes:
        name: of the builder config.
        title: for descriptions.
        choices: name of a choice -> its options. Every split gets each option in its share, so
            that rare labels are not missing from small splits by chance.
        plan: makes a track's plan from (chosen values, whether the track is a rare one, the track's
            random generator).
        num_labels: size of the vocabulary.
        num_tracks: in all splits together, unless another number is asked for.
        stored_form: `pcm16` or `log_mel`.
    """

    name: str
    title: str
    choices: Mapping[str, tuple[Option, ...]]
    plan: PlanFunction
    num_labels: int
    num_tracks: int = 576
    stored_form: str = "pcm16"


def pick(rng: np.random.Generator, table: Mapping[Any, float]) -> Any:
    """Returns a key of `table`, drawn with its values as weights."""
    names = list(table)
    weights = np.array(list(table.values()), np.float64)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def triad(mode: Mode, degree: int) -> tuple[float, ...]:
    """Returns the cents of the triad on a degree of a mode of seven degrees."""
    return tuple(float(c) for c in mode.degree_cents(np.array([degree, degree + 2, degree + 4])))


def draw_pulse(metre: Metre, rng: np.random.Generator) -> float:
    """Returns a pulse length in seconds inside the metre's range, uniform in its logarithm."""
    low, high = np.log(metre.pulse_seconds)
    return float(np.exp(rng.uniform(low, high)))


def name_tempo(
    pulse_seconds: float, *, slow: tuple[str, float], fast: tuple[str, float]
) -> set[str]:
    """Returns the label of a tempo that is slow or fast, nothing for what lies between.

    Args:
        pulse_seconds: length of a pulse.
        slow: label, and length above which a pulse is slow, in seconds.
        fast: label, and length below which a pulse is fast, in seconds.

    Example:
        >>> name_tempo(0.5, slow=("laya--Vilambit", 0.42), fast=("laya--Drut", 0.28))
        {'laya--Vilambit'}
    """
    (slow_label, longest), (fast_label, shortest) = slow, fast
    if pulse_seconds > longest:
        return {slow_label}
    return {fast_label} if pulse_seconds < shortest else set()
