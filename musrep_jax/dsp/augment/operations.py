"""The table of random operations: what each draws, and from which range where none is named."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.dsp.augment.filters import convolve, low_pass
from musrep_jax.dsp.augment.reverb import reverberate
from musrep_jax.dsp.augment.splicing import shift_pitch, stretch_time
from musrep_jax.dsp.augment.waveform import add_delay, add_noise, apply_gain, invert_polarity
from musrep_jax.types import Array

RandomOp = Callable[[Array, Array], Array]
"""`(key, audio (samples,)) -> audio (samples,)`: draws its parameters by the key."""

Ranges = Mapping[str, Sequence[float]]
"""Parameter -> (low, high), or the values to draw from."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """A random operation.

    Attributes:
        make: (sample rate in Hz, ranges, impulse responses or None) -> the operation.
        ranges: the default ranges.
        is_costly: whether it is computed for those examples only that it is applied to.
    """

    make: Callable[[int, Ranges, np.ndarray | None], RandomOp]
    ranges: Ranges = dataclasses.field(default_factory=dict)
    is_costly: bool = False


def _make_polarity(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    return lambda key, audio: invert_polarity(audio)


def _make_noise(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    def add(key: Array, audio: Array) -> Array:
        first, second = jax.random.split(key)
        return add_noise(second, audio, _draw_between(first, ranges["ratio"]))

    return add


def _make_gain(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    return lambda key, audio: apply_gain(audio, _draw_between(key, ranges["decibels"]))


def _make_filter(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    sides = {name: limits for name, limits in ranges.items() if name in ("low_pass", "high_pass")}
    lowest = min(limits[0] for limits in sides.values())

    def apply(key: Array, audio: Array) -> Array:
        keys = jax.random.split(key)
        cutoffs = [_draw_between(keys[0], limits) for limits in sides.values()]
        is_high = jnp.array([name == "high_pass" for name in sides])
        side = jax.random.randint(keys[1], (), 0, len(sides))
        low = low_pass(audio, jnp.stack(cutoffs)[side], sample_rate, lowest)
        return jnp.where(is_high[side], audio - low, low)

    return apply


def _make_delay(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    delays = np.array([int(ms * sample_rate / 1000) for ms in ranges["milliseconds"]], np.int32)

    def apply(key: Array, audio: Array) -> Array:
        delay = jnp.asarray(delays)[jax.random.randint(key, (), 0, len(delays))]
        return add_delay(audio, delay)

    return apply


def _make_pitch_shift(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    low, high = ranges["cents"]
    most = max(abs(low), abs(high))

    def apply(key: Array, audio: Array) -> Array:
        cents = jax.random.randint(key, (), int(low), int(high) + 1)
        return shift_pitch(audio, cents, sample_rate, most)

    return apply


def _make_time_stretch(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    octaves = [math.log2(rate) for rate in ranges["rate"]]
    return lambda key, audio: stretch_time(
        audio, jnp.exp2(_draw_between(key, octaves)), sample_rate
    )


def _make_reverb(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    names = ("reverberance", "damping", "room_size")

    def apply(key: Array, audio: Array) -> Array:
        reverberance, damping, room_size = (
            jax.random.randint(own, (), int(ranges[name][0]), int(ranges[name][1]) + 1)
            for own, name in zip(jax.random.split(key, 3), names, strict=True)
        )
        return reverberate(audio, reverberance, damping, room_size, sample_rate)

    return apply


def _make_room(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> RandomOp:
    if responses is None:
        raise ValueError(
            "The augmentation 'room' convolves with recorded impulse responses, and there are "
            "none: name a folder of them, or take 'reverb', a synthetic room."
        )
    bank = jnp.asarray(responses, jnp.float32)
    return lambda key, audio: convolve(audio, bank[jax.random.randint(key, (), 0, len(bank))])


def _draw_between(key: Array, limits: Sequence[float]) -> Array:
    low, high = limits
    return jax.random.uniform(key, minval=low, maxval=high)


OPERATIONS: Mapping[str, Operation] = {
    "polarity": Operation(_make_polarity),
    "noise": Operation(_make_noise, {"ratio": (0.3, 0.5)}, is_costly=True),
    "gain": Operation(_make_gain, {"decibels": (-20, -1)}),
    "filter": Operation(
        _make_filter, {"high_pass": (200, 1200), "low_pass": (2200, 4000)}, is_costly=True
    ),
    "high_pass": Operation(_make_filter, {"high_pass": (200, 1200)}, is_costly=True),
    "low_pass": Operation(_make_filter, {"low_pass": (2200, 4000)}, is_costly=True),
    "delay": Operation(_make_delay, {"milliseconds": (200, 250, 300, 350, 400, 450)}),
    "pitch_shift": Operation(_make_pitch_shift, {"cents": (-700, 700)}, is_costly=True),
    "time_stretch": Operation(_make_time_stretch, {"rate": (0.8, 1.25)}, is_costly=True),
    "reverb": Operation(
        _make_reverb,
        {"reverberance": (0, 99), "damping": (0, 99), "room_size": (0, 99)},
        is_costly=True,
    ),
    "room": Operation(_make_room, is_costly=True),
}
"""Operation by name; ranges are those of the published chain where that has the operation."""
