"""Dynamic range compression: the effect `compand` of SoX, and the presets of the robustness study.

A follower of the level (attack and decay) drives a transfer function of the level in decibels,
which is made of straight segments with rounded corners. The gain acts on the signal `delay` seconds
before the level that it follows from, so that loud onsets are met in time.

Source: SoX 14.4.2, effect `compand`: sample for sample what `sox -D in.wav out.wav compand` writes
in 16 bits (`tests/golden/make_compand.py`), and one step away where SoX dithers; the presets are
those of the package muda, of which Won et al., "Evaluation of CNN-based automatic music tagging
models", SMC 2020, take two.
"""

import dataclasses
import math

import numpy as np

SCALE = 32768.0
"""16-bit steps of full scale."""
_NEPERS = math.log(10.0) / 20.0
"""Natural logarithm of a ratio of 1 dB."""
_CURVE_DECIBELS = 0.01
"""Radius of the corners: that of SoX where none is said."""

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Compressor:
    """Settings of `compand`.

    Attributes:
        name: of the preset.
        attack: seconds in which the level follows a rise.
        decay: seconds in which it follows a fall.
        points: input and output levels in dB, inputs rising; below the first the gain is that of
            the first.
        gain: in dB, of all levels.
        delay: in seconds, of the signal behind its level.
    """

    name: str
    attack: float
    decay: float
    points: tuple[tuple[float, float], ...]
    gain: float = 0.0
    delay: float = 0.0


def _standard(name: str, *points: tuple[float, float]) -> Compressor:
    """Returns a preset with the attack, decay and delay that all but one have."""
    return Compressor(name, 0.1, 0.3, ((-90, -90), *points), delay=0.1)


PRESETS: dict[int, Compressor] = {
    1: Compressor("radio", 0.01, 1.0, ((-90, -90), (-70, -70), (-60, -20), (0, 0)), gain=-5.0),
    2: _standard("film standard", (-70, -64), (-43, -37), (-31, -31), (-21, -21), (0, -20)),
    3: _standard("film light", (-70, -64), (-53, -47), (-41, -41), (-21, -21), (0, -20)),
    4: _standard("music standard", (-70, -58), (-55, -43), (-31, -31), (-21, -21), (0, -20)),
    5: _standard("music light", (-70, -58), (-65, -53), (-41, -41), (-21, -21), (0, -11)),
    6: _standard("speech", (-70, -55), (-50, -35), (-31, -31), (-21, -21), (0, -20)),
}
"""Number -> preset; the study has 4 and 6."""


def compress(audio: np.ndarray, sample_rate: int, compressor: Compressor) -> np.ndarray:
    """Returns a waveform with its dynamic range compressed, at the length and in steps of 16 bits.

    Args:
        audio: float (samples,); what lies beyond [-1, 1] is clipped, as in a file of 16 bits.
        sample_rate: in Hz.
        compressor: its settings.

    Returns:
        float32 (samples,), multiples of 1 / 32768 in [-1, 1).

    Source: see the top of this file. SoX dithers what it writes in 16 bits; here it is rounded.
    """
    pcm = quantize(np.asarray(audio, np.float64))
    level = follow_level(np.abs(pcm), sample_rate, compressor.attack, compressor.decay)
    delay = int(compressor.delay * sample_rate)
    # Behind the end of the signal the level stays as it was.
    behind = np.full(min(delay, len(level)), level[-1] if len(level) else 1.0)
    gain = compute_gain(np.concatenate([level[delay:], behind]), compressor)
    return quantize(pcm * gain).astype(np.float32)


def quantize(audio: np.ndarray) -> np.ndarray:
    """Returns a waveform in steps of 16 bits, clipped to what they hold.

    Args:
        audio: float (samples,), finite.
    """
    return np.clip(np.floor(audio * SCALE + 0.5), -SCALE, SCALE - 1) / SCALE


def follow_level(size: np.ndarray, sample_rate: int, attack: float, decay: float) -> np.ndarray:
    """Returns the level at every sample, which begins at full scale.

    Args:
        size: float64 (samples,), absolute values of the signal.
        sample_rate: in Hz.
        attack: seconds in which the level comes within 1 / e of a rise.
        decay: the same of a fall.

    Returns:
        float64 (samples,).
    """
    rise, fall = (
        1.0 - math.exp(-1.0 / (sample_rate * seconds)) if seconds * sample_rate > 1 else 1.0
        for seconds in (attack, decay)
    )
    level, levels = 1.0, []
    for value in size.tolist():  # each step depends on the one before
        difference = value - level
        level += difference * (rise if difference > 0 else fall)
        levels.append(level)
    return np.array(levels)


def compute_gain(level: np.ndarray, compressor: Compressor) -> np.ndarray:
    """Returns the factor that the transfer function gives at a level.

    Args:
        level: float64 (samples,), 0 to 1.
        compressor: with `points` and `gain`.

    Returns:
        float64 (samples,).
    """
    starts, gains, curvatures, slopes = _make_segments(compressor)
    lowest = math.exp(starts[1])
    nepers = np.log(np.maximum(level, lowest))
    place = np.clip(np.searchsorted(starts, nepers, side="left") - 1, 1, len(starts) - 1)
    beyond = nepers - starts[place]
    found = gains[place] + beyond * (curvatures[place] * beyond + slopes[place])
    return np.exp(np.where(level <= lowest, gains[1], found))


def _make_segments(compressor: Compressor) -> tuple[np.ndarray, ...]:
    """Returns start, gain, curvature and slope of each segment, in nepers.

    Every corner becomes a parabola between two lines, through the center of gravity of its ends and
    the corner.
    """
    points = [(x, y - x + compressor.gain) for x, y in compressor.points]
    if points[-1][0] != 0:
        points.append((0.0, compressor.gain))
    points.insert(0, (points[0][0] - 2 * _CURVE_DECIBELS, points[0][1]))
    points = _join_collinear(points)
    x, y = (np.array(values) * _NEPERS for values in zip(*points, strict=True))
    radius = _CURVE_DECIBELS * _NEPERS
    rows: list[tuple[float, float, float, float]] = []
    start: Point = (x[0], y[0])
    for corner in range(1, len(x) - 1):
        here, after = (x[corner], y[corner]), (x[corner + 1], y[corner + 1])
        rows.append((*start, 0.0, _slope(start, here)))
        enter = _step(here, start, min(radius, math.dist(here, start)))
        leave = _step(here, after, min(radius, math.dist(here, after) / 2))
        middle = (enter[0] + here[0] + leave[0]) / 3, (enter[1] + here[1] + leave[1]) / 3
        first, last = _slope(enter, middle), _slope(enter, leave)
        curvature = (last - first) / (leave[0] - middle[0])
        rows.append((*enter, curvature, first - curvature * (middle[0] - enter[0])))
        start = leave
    rows.append((*start, 0.0, _slope(start, (x[-1], y[-1]))))
    rows.insert(0, (-math.inf, y[0], 0.0, 0.0))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def _join_collinear(points: list[Point]) -> list[Point]:
    """Returns the points without those that lie on the line between their neighbors."""
    kept = points[:2]
    for point in points[2:]:
        if math.isclose(_slope(kept[-2], kept[-1]), _slope(kept[-1], point), abs_tol=1e-12):
            kept.pop()
        kept.append(point)
    return kept


def _slope(one: Point, other: Point) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def _step(start: Point, end: Point, size: float) -> Point:
    """Returns the point at a distance from a start, on the way to an end."""
    share = size / math.dist(start, end)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
