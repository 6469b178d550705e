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

Drawn = Callable[[Array, Array], Array]
"""`(bits, audio (samples,)) -> audio (samples,)`: its parameters are of uint32 random bits."""

RandomOperation = Callable[[Array, Array], Array]
"""`(key, audio (samples,)) -> audio (samples,)`: draws its parameters by the key."""

Ranges = Mapping[str, Sequence[float]]
"""Parameter -> (low, high), or the values to draw from."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """A random operation.

    Attributes:
        make: (sample rate in Hz, ranges, impulse responses or None) -> the operation.
        num_draws: random numbers of 32 bits that it needs.
        ranges: the default ranges.
        is_costly: whether it is computed for those examples only that it is applied to.
    """

    make: Callable[[int, Ranges, np.ndarray | None], Drawn]
    num_draws: int
    ranges: Ranges = dataclasses.field(default_factory=dict)
    is_costly: bool = False


def make_operation(
    name: str,
    sample_rate: int,
    ranges: Ranges | None = None,
    responses: np.ndarray | None = None,
) -> RandomOperation:
    """Returns one random operation, which is always applied.

    Args:
        name: a key of `OPERATIONS`.
        sample_rate: in Hz.
        ranges: of parameters that have others than the default ones.
        responses: impulse responses float32 (responses, samples), for `room`.
    """
    operation = OPERATIONS[name]
    apply = operation.make(sample_rate, {**operation.ranges, **(ranges or {})}, responses)
    return lambda key, audio: apply(jax.random.bits(key, (operation.num_draws,)), audio)


def to_uniform(bits: Array) -> Array:
    """Returns float32 in [0, 1) of uint32 random bits, the first 24 of each."""
    return (bits >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)


def _between(bits: Array, limits: Sequence[float]) -> Array:
    low, high = limits
    return low + (high - low) * to_uniform(bits)


def _whole_between(bits: Array, limits: Sequence[float]) -> Array:
    """Returns a whole number, both limits included."""
    low, high = (int(limit) for limit in limits)
    return low + jnp.floor((high - low + 1) * to_uniform(bits)).astype(jnp.int32)


def _make_polarity(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    return lambda bits, audio: invert_polarity(audio)


def _make_noise(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    return lambda bits, audio: add_noise(bits[1:], audio, _between(bits[0], ranges["ratio"]))


def _make_gain(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    return lambda bits, audio: apply_gain(audio, _between(bits[0], ranges["decibels"]))


def _make_filter(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    lowest = min(limits[0] for limits in ranges.values())
    is_high = np.array([name == "high_pass" for name in ranges])

    def apply(bits: Array, audio: Array) -> Array:
        side = _whole_between(bits[0], (0, len(ranges) - 1))
        cutoffs = jnp.stack([_between(bits[1], limits) for limits in ranges.values()])
        low = low_pass(audio, cutoffs[side], sample_rate, lowest)
        return jnp.where(jnp.asarray(is_high)[side], audio - low, low)

    return apply


def _make_delay(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    delays = np.array([int(ms * sample_rate / 1000) for ms in ranges["milliseconds"]], np.int32)

    def apply(bits: Array, audio: Array) -> Array:
        return add_delay(audio, jnp.asarray(delays)[_whole_between(bits[0], (0, len(delays) - 1))])

    return apply


def _make_pitch_shift(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    most = max(abs(limit) for limit in ranges["cents"])
    return lambda bits, audio: shift_pitch(
        audio, _whole_between(bits[0], ranges["cents"]), sample_rate, most
    )


def _make_time_stretch(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    octaves = [math.log2(rate) for rate in ranges["rate"]]
    return lambda bits, audio: stretch_time(
        audio, jnp.exp2(_between(bits[0], octaves)), sample_rate
    )


def _make_reverb(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    names = ("reverberance", "damping", "room_size")

    def apply(bits: Array, audio: Array) -> Array:
        reverberance, damping, room_size = (
            _whole_between(bits[i], ranges[name]) for i, name in enumerate(names)
        )
        return reverberate(audio, reverberance, damping, room_size, sample_rate)

    return apply


def _make_room(sample_rate: int, ranges: Ranges, responses: np.ndarray | None) -> Drawn:
    if responses is None:
        raise ValueError(
            "The augmentation 'room' convolves with recorded impulse responses, and there are "
            "none: name a folder of them, or take 'reverb', a synthetic room."
        )
    bank = np.asarray(responses, np.float32)

    def apply(bits: Array, audio: Array) -> Array:
        return convolve(audio, jnp.asarray(bank)[_whole_between(bits[0], (0, len(bank) - 1))])

    return apply


OPERATIONS: Mapping[str, Operation] = {
    "polarity": Operation(_make_polarity, 0),
    "noise": Operation(_make_noise, 3, {"ratio": (0.3, 0.5)}, is_costly=True),
    "gain": Operation(_make_gain, 1, {"decibels": (-20, -1)}),
    "filter": Operation(
        _make_filter, 2, {"high_pass": (200, 1200), "low_pass": (2200, 4000)}, is_costly=True
    ),
    "high_pass": Operation(_make_filter, 2, {"high_pass": (200, 1200)}, is_costly=True),
    "low_pass": Operation(_make_filter, 2, {"low_pass": (2200, 4000)}, is_costly=True),
    "delay": Operation(_make_delay, 1, {"milliseconds": (200, 250, 300, 350, 400, 450)}),
    "pitch_shift": Operation(_make_pitch_shift, 1, {"cents": (-700, 700)}, is_costly=True),
    "time_stretch": Operation(_make_time_stretch, 1, {"rate": (0.8, 1.25)}, is_costly=True),
    "reverb": Operation(
        _make_reverb,
        3,
        {"reverberance": (0, 99), "damping": (0, 99), "room_size": (0, 99)},
        is_costly=True,
    ),
    "room": Operation(_make_room, 1, is_costly=True),
}
"""Operation by name; ranges are those of the published chain where that has the operation."""
