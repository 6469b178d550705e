"""Reading audio files: any format, any rate, whole or in excerpts.

A completely decoded recording is compared with the length that the file's headers state: half a
recording is refused.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from musrep_jax.data.audio.containers import find_missing_audio, find_visible_damage
from musrep_jax.data.audio.errors import AudioError as AudioError
from musrep_jax.data.audio.errors import (
    make_no_audio_error,
    make_not_finite_error,
    make_too_short_error,
)
from musrep_jax.data.audio.formats import Container
from musrep_jax.data.audio.opening import format_libsndfile_error, inspect_audio
from musrep_jax.data.audio.opening import open_audio as open_audio
from musrep_jax.data.audio.resampling import (
    MARGIN_SECONDS,
    SILENCE_LEVEL,
    Resampler,
    resample,
)
from musrep_jax.data.audio.stderr_filter import silence_libmpg123

_BLOCK_FRAMES = 1 << 18
_WARM_UP_FRAMES = {"MP3": 24 * 1152, "OPUS": 3840}
"""What must be decoded before an excerpt. MP3: its bit reservoir reaches back over several frames,
many where frames are small (measured; 24 gave no error). Opus: 80 ms (RFC 7845, 4.6)."""
_OGG_TAIL_BYTES = 2 * 65307
"""Two pages of the greatest size (RFC 3533, 6)."""


def read_audio(
    source: str | os.PathLike | bytes,
    *,
    sample_rate: int | None = None,
    start: int = 0,
    num_frames: int | None = None,
    mono: bool = True,
    name: str | None = None,
) -> tuple[np.ndarray, int]:
    """Returns audio as float32 and its sample rate.

    The level is the file's: decoders of lossy formats give values beyond 1, and they are kept. An
    excerpt is found by seeking, so that only its own frames are decoded, and equals the same
    excerpt of the whole file (to about 1e-3 of full scale where it is resampled too).

    Args:
        source: path of a file, or the bytes of one.
        sample_rate: in Hz; the audio is resampled to it (soxr, HQ). None keeps the file's.
        start: first frame of the excerpt, counted at the returned rate.
        num_frames: length of the excerpt at the returned rate; None reads to the end. The excerpt
            is shorter, or empty, where the file is over.
        mono: average the channels.
        name: what to call the file in messages; by default its path.

    Returns:
        float32 (samples,), or (samples, channels) unless `mono`; and the sample rate in Hz.

    Raises:
        AudioError: if there is no such file, it is empty, damaged, cut short or of an unknown
            format, it holds no audio, or samples that are not finite.
    """
    if isinstance(source, bytes):
        name = name or "the audio"
    else:
        source = pathlib.Path(source)
        name = name or str(source)
    if start == 0 and num_frames is None:
        blocks, rate = _stream_whole(source, name, sample_rate, mono)
        return _join(blocks), rate
    with open_audio(source, name) as file:
        wanted = int(sample_rate or file.samplerate)
        seekable_to = _last_seekable_frame(file, source) if file.seekable() else 0
        audio = _read_excerpt(file, name, seekable_to, wanted, start, num_frames, mono)
    if not np.isfinite(audio).all():
        raise make_not_finite_error(name)
    if num_frames is None or len(audio) < num_frames:
        # The file is over: is that where it should be?
        _check_length(inspect_audio(source, name), name, (start + len(audio)) / wanted)
    return audio, wanted


def stream_audio(
    path: str | os.PathLike, sample_rate: int, name: str | None = None
) -> Iterator[np.ndarray]:
    """Yields a whole file, mono, block by block, in memory that does not grow with its length.

    The blocks joined are bit for bit what `read_audio` returns for the same file and rate.

    Args:
        path: of a file.
        sample_rate: in Hz; the audio is resampled to it.
        name: what to call the file in messages; by default its path.

    Returns:
        An iterator of float32 (samples,); no block is empty.

    Raises:
        AudioError: as `read_audio`, when the place of the damage is reached.
    """
    blocks, _ = _stream_whole(pathlib.Path(path), name or str(path), sample_rate, mono=True)
    yield from blocks


def measure_length(path: str | os.PathLike) -> float | None:
    """Returns how long a file says that it is, in seconds; nothing is decoded.

    Args:
        path: of a file.

    Returns:
        None where its headers do not tell.

    Raises:
        AudioError: if it cannot be read, or is plainly no audio.
    """
    container = inspect_audio(pathlib.Path(path), str(path))
    told = (container.declared_seconds, container.actual_seconds)
    return min((seconds for seconds in told if seconds is not None), default=None)


def _stream_whole(
    source: pathlib.Path | bytes, name: str, sample_rate: int | None, mono: bool
) -> tuple[Iterator[np.ndarray], int]:
    """Returns the blocks of a file, of which none is empty, and their rate; see `read_audio`."""
    container = inspect_audio(source, name)
    damage = find_visible_damage(container)
    if damage is not None:
        raise AudioError(name, f"cannot be used: it is {damage[0]}: {damage[1]}.")
    file = open_audio(source, name, container)
    rate = int(sample_rate or file.samplerate)

    def blocks() -> Iterator[np.ndarray]:
        with file:
            yield from _resample_blocks(file, name, container, rate, mono)

    return blocks(), rate


def _resample_blocks(
    file: Any, name: str, container: Container, wanted: int, mono: bool
) -> Iterator[np.ndarray]:
    stream, num_frames, has_any = None, 0, False
    if file.samplerate != wanted:
        stream = Resampler(file.samplerate, wanted, None if mono else file.channels)
    for block in read_blocks(file, name):
        num_frames += len(block)
        block = mix_down(block) if mono else block
        if not np.isfinite(block).all():
            raise make_not_finite_error(name)
        block = stream.feed(block) if stream else block
        if len(block):
            has_any = True
            yield block
    if not num_frames:
        raise make_no_audio_error(name)
    announced = file.frames / file.samplerate if file.format in ("FLAC", "OGG") else None
    _check_length(container, name, num_frames / file.samplerate, announced)
    if stream:
        rest = stream.finish()
        if len(rest):
            has_any = True
            yield rest
    if not has_any:
        raise make_too_short_error(name, num_frames, file.samplerate, wanted)


def _check_length(
    container: Container, name: str, seconds: float, announced: float | None = None
) -> None:
    """Raises if a file holds less than its headers, or what decodes it, announced."""
    missing = find_missing_audio(container, seconds, announced)
    if missing is not None:
        raise AudioError(name, f"cannot be used: it is {missing[0]}: {missing[1]}.")


def _join(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Returns blocks, of which there is at least one, as one array.

    It grows in place, so that hours of audio are not held twice.
    """
    rest = iter(blocks)
    joined, is_ours = next(rest), False
    done, shape = len(joined), joined.shape[1:]
    for block in rest:
        end = done + len(block)
        if end > len(joined):
            joined, is_ours = joined if is_ours else joined.copy(), True
            joined.resize((max(end, len(joined) + len(joined) // 8), *shape), refcheck=False)
        joined[done:end] = block
        done = end
    if is_ours:
        joined.resize((done, *shape), refcheck=False)
    return joined


def read_blocks(
    file: Any, name: str, start: int = 0, num_frames: int | None = None
) -> Iterator[np.ndarray]:
    """Yields the frames [start, start + num_frames) of an open file, block by block.

    The length in a header is not trusted, since some claim a year of audio: all data present are
    read.

    Args:
        file: as `open_audio` gives it.
        name: what to call it in messages.
        start: first frame, at the file's own rate.
        num_frames: None reads to the end.

    Returns:
        An iterator of float32 (frames, channels); no block is empty.

    Raises:
        AudioError: where the file is damaged.
    """
    import soundfile

    done = 0
    quiet = silence_libmpg123 if file.format == "MP3" else contextlib.nullcontext
    try:
        if start:
            with quiet():
                file.seek(start)
        while num_frames is None or done < num_frames:
            size = _BLOCK_FRAMES if num_frames is None else min(_BLOCK_FRAMES, num_frames - done)
            with quiet():
                block = file.read(size, dtype="float32", always_2d=True)
            if not len(block):
                return
            done += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        raise AudioError(
            name,
            f"cannot be read: it is damaged {(start + done) / file.samplerate:.1f} s "
            f"after its start ({format_libsndfile_error(error)}).",
        ) from error


def _read_excerpt(
    file: Any,
    name: str,
    last_seekable_frame: int,
    wanted: int,
    start: int,
    num_frames: int | None,
    mono: bool,
) -> np.ndarray:
    """Returns frames [start, start + num_frames) at the wanted rate; see `read_audio`."""
    rate = file.samplerate
    warm_up = _WARM_UP_FRAMES.get(file.format, _WARM_UP_FRAMES.get(file.subtype, 0))

    def read(first: int, length: int | None) -> np.ndarray:
        return _read(
            file, name, min(max(0, first - warm_up), last_seekable_frame), first, length, mono
        )

    if wanted == rate:
        return read(start, num_frames)
    # Frame n at the wanted rate lies on frame n * step_in / step_out of the file: begin where that
    # is a whole number, with some context for the filter.
    divisor = math.gcd(rate, wanted)
    step_in, step_out = rate // divisor, wanted // divisor
    margin = int(MARGIN_SECONDS * wanted)
    first_step = max(0, start - margin) // step_out
    offset = start - first_step * step_out
    length = None
    if num_frames is not None:
        length = math.ceil((offset + num_frames + margin) * rate / wanted)
    audio = read(first_step * step_in, length)
    end = None if num_frames is None else offset + num_frames
    return np.ascontiguousarray(resample(audio, rate, wanted)[offset:end])


def _read(
    file: Any, name: str, seek_to: int, first: int, length: int | None, mono: bool
) -> np.ndarray:
    """Returns frames [first, first + length) of an open file, decoded from `seek_to` on.

    Channels are averaged block by block, so that memory stays within bounds.
    """
    blocks, done, skip = [], 0, first - seek_to
    if first < file.frames:
        whole = None if length is None else skip + length
        for block in read_blocks(file, name, seek_to, whole):
            kept = block[max(0, skip - done) :]
            done += len(block)
            blocks.append(mix_down(kept) if mono else kept)
    return _join(blocks or [np.zeros(0 if mono else (0, file.channels), np.float32)])


def is_silent(audio: np.ndarray) -> bool:
    """Returns whether a waveform swings by less than `SILENCE_LEVEL` about a constant.

    A constant is heard as silence whatever its value, also where zeros pad it to a chunk.

    Args:
        audio: of any shape.
    """
    if not audio.size:
        return True
    heard = audio if audio.ndim > 1 else audio[: len(audio) - np.argmax(audio[::-1] != 0)]
    return bool(np.ptp(heard) < 2 * SILENCE_LEVEL)


def mix_down(audio: np.ndarray) -> np.ndarray:
    """Returns the average of the channels, as `np.mean` gives it, and many times faster.

    Args:
        audio: float32 (frames, channels).

    Returns:
        float32 (frames,).
    """
    if audio.shape[1] == 1:
        return audio[:, 0]
    # Channel by channel: a reduction over so short an axis costs as much as decoding an mp3.
    mixed = audio[:, 0] + audio[:, 1]
    for channel in range(2, audio.shape[1]):
        mixed += audio[:, channel]
    mixed /= np.float32(audio.shape[1])
    return mixed


def _last_seekable_frame(file: Any, source: pathlib.Path | bytes) -> int:
    """Returns the last frame that seeking finds exactly.

    libsndfile 1.2.2 is up to a block off when it seeks into the last page of an Ogg stream, whose
    end may be trimmed; what lies there is reached by decoding on from the page before.
    """
    if file.format != "OGG":
        return file.frames
    if isinstance(source, bytes):
        tail = source[-_OGG_TAIL_BYTES:]
    else:
        with open(source, "rb") as opened:
            opened.seek(max(0, source.stat().st_size - _OGG_TAIL_BYTES))
            tail = opened.read()
    page = tail.rfind(b"OggS", 0, max(0, tail.rfind(b"OggS")))
    if page < 0:
        return 0
    position = int.from_bytes(tail[page + 6 : page + 14], "little", signed=True)
    if file.subtype == "OPUS":
        position = position * file.samplerate // 48000 - _WARM_UP_FRAMES["OPUS"]
    return max(0, position)
