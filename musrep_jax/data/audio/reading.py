"""Reading audio files: any format of libsndfile, any rate, whole or in excerpts.

The only file that reads with soundfile, imported on use. What libsndfile does not read (AAC, ALAC,
WMA) goes through the `ffmpeg` program where there is one.
"""

import io
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

_BLOCK_FRAMES = 1 << 18
_RESAMPLER_MARGIN_SECONDS = 0.05
"""Context read on either side of an excerpt that is resampled; soxr's HQ filter is shorter."""
_WARM_UP_FRAMES = {"MP3": 24 * 1152, "OPUS": 3840}
"""What must be decoded before an excerpt. MP3: its bit reservoir reaches back over several frames,
many where frames are small (measured; 24 gave no error). Opus: 80 ms (RFC 7845, 4.6)."""
_OGG_TAIL_BYTES = 2 * 65307
"""Two pages of the greatest size (RFC 3533, 6)."""
_MAX_LEADING_JUNK_BYTES = 1 << 16
_MAGIC = (b"RIFF", b"RIFX", b"fLaC", b"OggS", b"FORM", b".snd")
_FFMPEG_TIMEOUT_SECONDS = 600
_SF_ERR_UNRECOGNISED_FORMAT = 1
_SFE_BAD_FILE = 7
"""What libsndfile 1.2.2 also answers to an mp3 without a whole frame."""


class AudioError(ValueError):
    """Audio cannot be used; the message is one sentence that names the file and the reason.

    Attributes:
        reason: the sentence without the name of the file.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.reason = reason


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
        AudioError: if there is no such file, it is empty, damaged or of an unknown format, it
            holds no audio, or samples that are not finite.
    """
    if isinstance(source, bytes):
        name = name or "the audio"
    else:
        source = pathlib.Path(source)
        name = name or str(source)
    with open_audio(source, name) as file:
        rate = file.samplerate
        wanted = int(sample_rate or rate)
        if start == 0 and num_frames is None:
            audio = resample(_read(file, name, 0, 0, None, mono), rate, wanted)
        else:
            last_seekable_frame = _last_seekable_frame(file, source) if file.seekable() else 0
            audio = _read_excerpt(file, name, last_seekable_frame, wanted, start, num_frames, mono)
    if num_frames is None and start == 0 and not len(audio):
        raise no_audio(name)
    if not np.isfinite(audio).all():
        raise not_finite(name)
    return audio, wanted


def open_audio(source: pathlib.Path | bytes, name: str) -> Any:
    """Returns an open `soundfile.SoundFile`, after stripping tags or a run of ffmpeg if need be.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in messages.

    Raises:
        AudioError: if there is no such file, it may not be read, or it is empty or of an unknown
            format. Bytes without a header are unknown too: libsndfile takes any in a file called
            `.au` or `.snd` for mu-law, which makes noise of them.
    """
    if not isinstance(source, bytes) and not source.is_file():
        reason = "it is a folder" if source.is_dir() else "there is no such file"
        raise AudioError(name, f"cannot be read: {reason}.")
    if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
        raise AudioError(name, "cannot be read: the file is empty (0 bytes).")
    try:
        file = _open(source, name)
    except OSError as error:
        raise AudioError(name, f"cannot be read: {error.strerror}.") from error
    if file.format == "RAW":
        file.close()
        raise AudioError(name, "cannot be read: it has no header that says what it holds.")
    return file


def read_blocks(
    file: Any, name: str, start: int = 0, num_frames: int | None = None
) -> Iterator[np.ndarray]:
    """Yields the frames [start, start + num_frames) of an open file, block by block.

    The length in a header is not believed: some claim a year of audio. What is there is read.

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
    try:
        if start:
            file.seek(start)
        while num_frames is None or done < num_frames:
            size = _BLOCK_FRAMES if num_frames is None else min(_BLOCK_FRAMES, num_frames - done)
            block = file.read(size, dtype="float32", always_2d=True)
            if not len(block):
                return
            done += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        raise AudioError(
            name,
            f"cannot be read: it is damaged {(start + done) / file.samplerate:.1f} s "
            f"after its start ({_reason(error)}).",
        ) from error


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

    return soxr.resample(audio, from_rate, to_rate, quality="HQ")


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
    margin = int(_RESAMPLER_MARGIN_SECONDS * wanted)
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
    if not blocks:
        blocks = [np.zeros(0 if mono else (0, file.channels), np.float32)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


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


def _open(source: pathlib.Path | bytes, name: str) -> Any:
    """Returns an open `soundfile.SoundFile`, after stripping tags or a run of ffmpeg if need be."""
    import soundfile

    try:
        return soundfile.SoundFile(_to_libsndfile_source(source))
    except soundfile.LibsndfileError as error:
        first_error = error
    content = source if isinstance(source, bytes) else source.read_bytes()
    stripped = _strip_tags(content)
    if len(stripped) < len(content):
        try:
            return soundfile.SoundFile(io.BytesIO(stripped))
        except soundfile.LibsndfileError:
            # The first error is the one that describes the file as the user knows it.
            stripped = b""
    reason = _reason(first_error)
    if shutil.which("ffmpeg"):
        return _open_with_ffmpeg(source, name, reason)
    hint = " (m4a, mp4, aac and wma need the ffmpeg program)"
    is_unknown = first_error.code == _SF_ERR_UNRECOGNISED_FORMAT
    raise AudioError(
        name, f"cannot be read: {reason}{hint if is_unknown else ''}."
    ) from first_error


def _to_libsndfile_source(source: pathlib.Path | bytes) -> Any:
    """Returns what soundfile can open; a name that is not UTF-8 only as the bytes that it is."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return source if os.name == "nt" else os.fsencode(source)


def _strip_tags(content: bytes) -> bytes:
    """Returns a file's bytes from the first sign of audio on, past ID3v2 tags and leading junk."""
    start = 0
    while content[start : start + 3] == b"ID3" and len(content) >= start + 10:
        size = 0
        for byte in content[start + 6 : start + 10]:  # Four times 7 bits ("syncsafe").
            size = size << 7 | byte & 0x7F
        start += 10 + size
    window = content[start : start + _MAX_LEADING_JUNK_BYTES]
    for position in range(len(window) - 3):
        if window[position : position + 4] in _MAGIC or _is_mpeg_frame(window, position):
            return content[start + position :]
    return content[start:]


def _is_mpeg_frame(window: bytes, position: int) -> bool:
    """Returns whether an MPEG audio frame header may begin here (ISO 11172-3, 2.4.1.3)."""
    first, second, third = window[position], window[position + 1], window[position + 2]
    if first != 0xFF or second & 0xE0 != 0xE0:
        return False
    version, layer = second >> 3 & 3, second >> 1 & 3
    return version != 1 and layer != 0 and third >> 4 not in (0, 15) and third >> 2 & 3 != 3


def _open_with_ffmpeg(source: pathlib.Path | bytes, name: str, reason: str) -> Any:
    """Returns the open file that ffmpeg decoded into; raises `AudioError` if it cannot."""
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path = source
        if isinstance(source, bytes):
            # A file, not a pipe: the index of an mp4 may stand at its end.
            path = pathlib.Path(folder, "encoded")
            path.write_bytes(source)
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-vn"]
        command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        try:
            result = subprocess.run(command, capture_output=True, timeout=_FFMPEG_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise AudioError(
                name,
                f"cannot be read: {reason}, and ffmpeg took longer than "
                f"{_FFMPEG_TIMEOUT_SECONDS} s.",
            ) from error
    try:
        if result.returncode == 0:
            return soundfile.SoundFile(io.BytesIO(result.stdout))
    except soundfile.LibsndfileError:
        result.stderr += b" it wrote no audio"
    said = result.stderr.decode("utf-8", "replace").strip().splitlines()
    raise AudioError(
        name,
        f"cannot be read: {reason}, and ffmpeg cannot either"
        f" ({said[-1].strip() if said else f'exit status {result.returncode}'}).",
    )


def no_audio(name: str) -> AudioError:
    """Returns the error of a file that opens and has no frames."""
    return AudioError(name, "cannot be used: it holds no audio (0 frames were decoded).")


def not_finite(name: str) -> AudioError:
    """Returns the error of audio with samples that are no numbers."""
    return AudioError(name, "cannot be used: it holds samples that are not finite (NaN, Inf).")


def _reason(error: Any) -> str:
    """Returns what libsndfile says of an error, as a clause."""
    if error.code == _SFE_BAD_FILE:
        return "it is too short or damaged, no whole frame of audio was found"
    return str(error.error_string).strip().rstrip(".") or f"libsndfile error {error.code}"
