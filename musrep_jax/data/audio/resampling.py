"""Resampling, whole or block by block, that adds no sound to what is none.

A filter takes what lies before the start of a recording and after its end for zeros. Where a
recording begins or ends with a constant (an offset of a sound card, for one), the step between both
rings like a click, which would be heard and tagged. There the constant goes on beyond the end.
"""

import math

import numpy as np

SILENCE_LEVEL = 1e-4
"""-80 dBFS: three steps of 16 bits, which holds dither and what lossy decoders make of silence."""
MARGIN_SECONDS, MARGIN_FRAMES = 0.05, 256
"""What is looked at, and added, at either end: so many seconds, and so many frames of the lower
rate. soxr's HQ filter is shorter (measured; 50 frames leave 1e-3 of a constant)."""


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Returns audio at another sample rate (soxr, quality HQ).

    Args:
        audio: float (samples,) or (samples, channels).
        from_rate: of the audio, in Hz.
        to_rate: wanted, in Hz.

    Returns:
        float32, about `samples * to_rate / from_rate` long; the same array if the rates are equal.

    Raises:
        ValueError: if a rate is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(
            f"cannot resample from {from_rate} Hz to {to_rate} Hz: sample rates are positive."
        )
    audio = np.ascontiguousarray(audio, np.float32)
    if from_rate == to_rate or not len(audio):
        return audio
    import soxr

    ends = _Ends(from_rate, to_rate)
    head, tail = ends.extend(audio[: ends.margin]), ends.extend(audio[-ends.margin :])
    if len(head) or len(tail):
        audio = np.concatenate([head, audio, tail])
    resampled = soxr.resample(audio, from_rate, to_rate, quality="HQ")
    first = ends.num_added if len(head) else 0
    last = len(resampled) - (ends.num_added if len(tail) else 0)
    return resampled if last - first == len(resampled) else resampled[first:last].copy()


class Resampler:
    """Resamples blocks that follow one another; joined they are one resampled recording.

    Where the blocks are cut makes no difference.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int | None) -> None:
        """Prepares for blocks.

        Args:
            from_rate: of the blocks, in Hz.
            to_rate: wanted, in Hz.
            channels: of blocks (samples, channels); None for blocks (samples,).
        """
        import soxr

        self._stream = soxr.ResampleStream(from_rate, to_rate, channels or 1, quality="HQ")
        self._ends = _Ends(from_rate, to_rate)
        self._last = np.zeros(0 if channels is None else (0, channels), np.float32)
        self._is_open, self._skip = False, 0

    def feed(self, block: np.ndarray) -> np.ndarray:
        """Returns what is known of the resampled recording after a block; it may be empty.

        Args:
            block: float32 (samples,) or (samples, channels).
        """
        margin = self._ends.margin
        held = np.concatenate([self._last, block])
        if not self._is_open:
            if len(held) < margin:
                self._last = held
                return held[:0]
            block = self._open(held)
        self._last = held[-margin:].copy()
        return self._drop_start(self._stream.resample_chunk(block))

    def finish(self) -> np.ndarray:
        """Returns the rest of the resampled recording; it may be empty."""
        parts = [] if self._is_open else [self._stream.resample_chunk(self._open(self._last))]
        tail = self._ends.extend(self._last)
        parts += [self._stream.resample_chunk(tail)] if len(tail) else []
        parts.append(self._stream.resample_chunk(self._last[:0], last=True))
        rest = self._drop_start(np.concatenate(parts))
        return rest[: len(rest) - self._ends.num_added] if len(tail) else rest

    def _open(self, start: np.ndarray) -> np.ndarray:
        """Returns the start of the recording with what goes before it."""
        self._is_open = True
        head = self._ends.extend(start[: self._ends.margin])
        self._skip = self._ends.num_added if len(head) else 0
        return np.concatenate([head, start]) if len(head) else start

    def _drop_start(self, resampled: np.ndarray) -> np.ndarray:
        """Returns what does not belong to the samples added before the start."""
        dropped = min(self._skip, len(resampled))
        self._skip -= dropped
        return resampled[dropped:]


class _Ends:
    """What is added at the ends of a recording.

    Attributes:
        margin: samples at an end that are looked at.
        num_added: samples, at the new rate, that what is added becomes.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        divisor = math.gcd(from_rate, to_rate)
        step_in, step_out = from_rate // divisor, to_rate // divisor
        seconds = max(MARGIN_SECONDS, MARGIN_FRAMES / min(from_rate, to_rate))
        self.margin = math.ceil(seconds * from_rate)
        # A whole number of samples at both rates, so that all others keep their places.
        steps = -(-self.margin // step_in)
        self._length, self.num_added = steps * step_in, steps * step_out

    def extend(self, end: np.ndarray) -> np.ndarray:
        """Returns the constant that an end consists of, to be added; empty where it is none."""
        if not len(end):
            return end
        level = np.where(np.ptp(end, axis=0) < 2 * SILENCE_LEVEL, end.mean(axis=0), 0)
        if np.all(np.abs(level) < SILENCE_LEVEL):
            return end[:0]
        shape = (self._length, *end.shape[1:])
        return np.full(shape, level, np.float32)
