"""Pitch: three tuning systems, and modes as degrees in cents above a tonic.

Source: textbook constants. Twelve equal semitones of 100 cents; the Turkish theory's grid of 53
Holdrian commas to the octave; five-limit just intonation for the Indian modes. Deliberate
simplification: every mode has fixed degrees, the same going up and down.
"""

import dataclasses

import numpy as np

OCTAVE_CENTS = 1200.0
HOLDRIAN_COMMAS = 53
HOLDRIAN_COMMA_CENTS = OCTAVE_CENTS / HOLDRIAN_COMMAS

JUST_RATIOS = (
    (1, 1), (16, 15), (9, 8), (6, 5), (5, 4), (4, 3),
    (45, 32), (3, 2), (8, 5), (5, 3), (9, 5), (15, 8),
)  # fmt: skip
"""Just ratios of the twelve semitone positions above the tonic."""


def tempered_cents(semitones: tuple[int, ...]) -> tuple[float, ...]:
    """Returns the cents of equal-tempered semitones.

    Args:
        semitones: steps above the tonic.

    Returns:
        Cents above the tonic, 100 for each semitone.
    """
    return tuple(100.0 * step for step in semitones)


def comma_cents(intervals: tuple[int, ...]) -> tuple[float, ...]:
    """Returns the degrees of a scale given by its successive intervals in Holdrian commas.

    Args:
        intervals: commas between neighbouring degrees, tonic to octave; they sum to 53.

    Returns:
        Cents above the tonic of every degree below the octave.

    Raises:
        ValueError: when the intervals do not make one octave.
    """
    if sum(intervals) != HOLDRIAN_COMMAS:
        raise ValueError(
            f"comma intervals {intervals} sum to {sum(intervals)}; an octave has "
            f"{HOLDRIAN_COMMAS} Holdrian commas, so make them sum to that"
        )
    commas = np.concatenate([[0], np.cumsum(intervals)[:-1]])
    return tuple(float(comma) * HOLDRIAN_COMMA_CENTS for comma in commas)


def just_cents(semitones: tuple[int, ...]) -> tuple[float, ...]:
    """Returns the cents of the just ratios at semitone positions.

    Args:
        semitones: positions 0 to 11 above the tonic.

    Returns:
        Cents above the tonic.
    """
    return tuple(
        float(OCTAVE_CENTS * np.log2(JUST_RATIOS[step][0] / JUST_RATIOS[step][1]))
        for step in semitones
    )


def frequency_hz(tonic_hz: float, cents: np.ndarray | float) -> np.ndarray | float:
    """Returns the frequency in Hz that lies `cents` above `tonic_hz`."""
    return tonic_hz * 2.0 ** (np.asarray(cents) / OCTAVE_CENTS)


@dataclasses.dataclass(frozen=True)
class Mode:
    """A scale, makam or raga, reduced to what the synthesis uses.

    Attributes:
        name: as in the labels.
        cents: of each degree above the tonic, ascending, first 0, all below 1200.
        weights: how often each degree is visited, same length as `cents`, not normalised.
        finals: degrees (indices into `cents`) on which phrases may end; the first is the tonic.
        start: degree around which a melody begins; large for modes that descend.
        shaken: degrees that carry an oscillation in traditions that use one.
    """

    name: str
    cents: tuple[float, ...]
    weights: tuple[float, ...]
    finals: tuple[int, ...] = (0,)
    start: int = 0
    shaken: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.cents) != len(self.weights):
            raise ValueError(
                f"mode {self.name!r} has {len(self.cents)} degrees and {len(self.weights)} "
                "weights; give one weight for each degree"
            )

    def degree_cents(self, degrees: np.ndarray) -> np.ndarray:
        """Returns the cents of degrees that may lie in any octave.

        Args:
            degrees: integers; 0 is the tonic, `len(self.cents)` its octave, negatives lie below.

        Returns:
            Cents above the tonic, same shape.
        """
        octave, step = np.divmod(np.asarray(degrees), len(self.cents))
        return OCTAVE_CENTS * octave + np.asarray(self.cents)[step]
