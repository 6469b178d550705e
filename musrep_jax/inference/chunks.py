"""Prepares recordings for taggers: checked, resampled, cut into chunks."""

from collections.abc import Iterable, Iterator

import numpy as np

from musrep_jax.types import Chunking

SILENT = "cannot be judged: it is silent from its start to its end (below -80 dBFS)."
"""What is said of a silent recording, after its name."""


class AudioInputError(ValueError):
    """The input is not audio that a tagger accepts; the message says what is expected."""


def prepare(audio: np.ndarray, sample_rate: int, target_rate: int) -> np.ndarray:
    """Returns a checked waveform at the target rate.

    Args:
        audio: (samples,), mono.
        sample_rate: of the audio, in Hz.
        target_rate: in Hz.

    Returns:
        float32 (samples,).

    Raises:
        AudioInputError: if the audio is empty, not mono, not finite, or the rate is no rate.
    """
    values = np.asarray(audio)
    if values.ndim != 1:
        raise AudioInputError(
            f"The audio has shape {values.shape}; a tagger takes mono (samples,): average the "
            "channels first, e.g. audio.mean(axis=1)."
        )
    if values.size == 0:
        raise AudioInputError("The audio is empty: there is nothing to tag.")
    if np.issubdtype(values.dtype, np.integer):
        raise AudioInputError(
            f"The audio is {values.dtype}; a tagger takes floating point in [-1, 1]: divide "
            "16-bit samples by 32768."
        )
    values = values.astype(np.float32)
    broken = ~np.isfinite(values)
    if broken.any():
        first = int(np.argmax(broken))
        raise AudioInputError(
            f"The audio has {int(broken.sum())} samples that are not finite, the first at "
            f"{first / sample_rate:.3f} s: repair or leave out the recording."
        )
    from musrep_jax.data.audio.opening import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
    from musrep_jax.data.audio.resampling import resample

    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioInputError(
            f"The sample rate is {sample_rate}; one of sound lies from {MIN_SAMPLE_RATE:,} to "
            f"{MAX_SAMPLE_RATE:,} Hz."
        )
    resampled = resample(values, sample_rate, target_rate)
    if not len(resampled):
        raise AudioInputError(
            f"The audio is too short: its {len(values)} sample(s) at {sample_rate} Hz are none at "
            f"{target_rate} Hz."
        )
    return resampled


def find_silent_chunks(chunks: np.ndarray) -> np.ndarray:
    """Returns which chunks are silent, so that a tagger cannot judge them: bool (chunks,).

    Args:
        chunks: (chunks, samples).
    """
    from musrep_jax.data.audio.reading import is_silent

    return np.array([is_silent(chunk) for chunk in chunks])


def check_not_silent(silent: np.ndarray) -> None:
    """Raises if every chunk of a recording is silent.

    Args:
        silent: bool (chunks,).

    Raises:
        AudioInputError: if so.
    """
    if silent.all():
        raise AudioInputError(f"The audio {SILENT}")


def chunk_blocks(
    blocks: Iterable[np.ndarray], chunking: Chunking, silence: float = 0.0
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yields the chunks of a stream of blocks.

    Args:
        blocks: (samples,) or (frames, mels) each, of any lengths.
        chunking: how they are cut. The spans of chunks that overlap follow one on another.
        silence: what a recording shorter than a chunk is padded with.

    Returns:
        An iterator of chunks (length, ...) with start and end of what is not padding; of nothing
        if there is nothing.
    """
    length, step = chunking.length, chunking.length - chunking.overlap
    held, start, done = None, 0, 0  # the previous chunk is kept: the last one may overlap it
    num_read, is_cut = 0, False
    for block, num_new in _reflect_ends(blocks, chunking.margin):
        num_read += num_new
        held = block if held is None else np.concatenate([held, block])
        while len(held) - done >= length:
            first = start + done
            yield held[done : done + length], first, min(first + step, num_read)
            done, is_cut = done + step, True
        drop = max(0, done - length)
        held, start, done = held[drop:], start + drop, done - drop
    if held is None:
        return
    if not is_cut:
        pad = [(0, length - len(held))] + [(0, 0)] * (held.ndim - 1)
        yield np.pad(held, pad, constant_values=silence), 0, num_read
    elif chunking.keeps_rest and done < len(held):
        yield held[-length:], num_read - length, num_read


def _reflect_ends(blocks: Iterable[np.ndarray], margin: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields blocks with reflect padding at both ends, and how much of each is not padding."""
    if not margin:
        yield from ((block, len(block)) for block in blocks)
        return
    tail, is_open = None, False  # what the end is reflected from, or the start not yet
    for block in blocks:
        tail = block if tail is None else np.concatenate([tail, block])
        if len(tail) > margin:
            new = tail if not is_open else block
            yield (np.pad(new, (margin, 0), mode="reflect") if not is_open else new), len(new)
            tail, is_open = tail[-margin - 1 :], True
    if is_open:
        yield tail[-2::-1], 0
    elif tail is not None:
        yield np.pad(tail, margin, mode="reflect"), len(tail)


def cut(values: np.ndarray, chunking: Chunking, silence: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the chunks of a whole recording, as `chunk_blocks` does.

    Args:
        values: (samples,) or (frames, mels), not empty.
        chunking: how it is cut.
        silence: what a recording shorter than a chunk is padded with.

    Returns:
        float32 (chunks, length, ...) and the start and end of each in `values`, (chunks, 2).
    """
    chunks, starts, ends = zip(*chunk_blocks([values], chunking, silence), strict=True)
    return np.stack(chunks), np.stack([starts, ends], axis=1)
