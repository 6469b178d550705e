"""Opens audio files with the decoder for their content, regardless of their names.

libsndfile reads what it can, ffmpeg the rest, through the demuxer of the format that was found. The
only file that opens with soundfile, imported on use.
"""

import contextlib
import io
import mmap
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from musrep_jax.data.audio.containers import detect_audio, read_container
from musrep_jax.data.audio.errors import AudioError
from musrep_jax.data.audio.ffmpeg import FFMPEG_ADVICE, FfmpegFile, find_ffmpeg
from musrep_jax.data.audio.formats import DEMUXERS, FFMPEG_FORMATS, TITLES, Container
from musrep_jax.data.audio.stderr_filter import silence_libmpg123

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 768000
"""In Hz; a rate outside this range indicates a damaged header."""
_ENDING_FORMATS = ("mp4", "matroska")
"""Formats that say where their audio ends within its last frame."""
_CHANCE_FORMATS = ("MP3", "RAW")
"""Formats that libsndfile reports for nearly any content."""
_UNKNOWN = "it is of no format of audio that is known here"
_UNKNOWN_CODES = (1, 4)
"""SF_ERR_UNRECOGNISED_FORMAT, SF_ERR_UNSUPPORTED_ENCODING."""
_SFE_BAD_FILE = 7
"""An error that libsndfile 1.2.2 also reports for an mp3 without a complete frame."""


def open_audio(source: pathlib.Path | bytes, name: str, container: Container | None = None) -> Any:
    """Returns an open `soundfile.SoundFile`, or an `FfmpegFile`, which is used in the same way.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in messages.
        container: what `inspect_audio` returned of it; None to find out no more than is needed.

    Raises:
        AudioError: if there is no such file, it may not be read, it is empty, of an unknown format,
            or of an implausible sample rate; or it needs ffmpeg, and there is none. Bytes without a
            header are unknown too: libsndfile takes any in a file called `.au` or `.snd` for
            mu-law, which makes noise of them.
    """
    with _content(source, name) as data:
        start, found = detect_audio(data)
        if found.format in _ENDING_FORMATS:
            found = container or read_container(data)
    if found.foreign:
        raise AudioError(name, f"cannot be read: it is {found.foreign}.")
    if found.format in FFMPEG_FORMATS:
        file = _open_with_ffmpeg(source, name, found.format, "", found.end_seconds)
    elif container is not None and container.is_estimate and find_ffmpeg():
        # libsndfile 1.2.2 reads no further than the length that it guesses from the first frame.
        file = _open_with_ffmpeg(source, name, found.format, "")
    else:
        file = _open_with_libsndfile(source, name, found.format, start)
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        file.close()
        raise AudioError(
            name,
            f"cannot be used: its header says {file.samplerate} Hz, which is no sample rate of "
            f"sound ({MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,} Hz).",
        )
    return file


def inspect_audio(source: pathlib.Path | bytes, name: str) -> Container:
    """Returns what the headers of a file say; nothing is decoded.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in messages.

    Raises:
        AudioError: if there is no such file, it may not be read, it is empty, or plainly something
            else than audio.
    """
    with _content(source, name) as data:
        container = read_container(data)
    if container.foreign:
        raise AudioError(name, f"cannot be read: it is {container.foreign}.")
    return container


@contextlib.contextmanager
def _content(source: pathlib.Path | bytes, name: str) -> Iterator[Any]:
    """Yields the content of a file as a bytes-like map; only accessed pages are read."""
    if isinstance(source, bytes):
        if not source:
            raise AudioError(name, "cannot be read: the file is empty (0 bytes).")
        yield source
        return
    if not os.path.isfile(source):  # which raises nothing, however long a name is
        raise AudioError(name, f"cannot be read: {_describe_what_is_no_file(source)}.")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(source, "rb"))
        except OSError as error:
            raise AudioError(name, f"cannot be read: {error.strerror}.") from error
        if not os.fstat(file.fileno()).st_size:
            raise AudioError(name, "cannot be read: the file is empty (0 bytes).")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _describe_what_is_no_file(source: pathlib.Path) -> str:
    if os.path.isdir(source):
        return "it is a folder"
    if os.path.exists(source):
        return "it is no file, but a pipe or device"
    if os.path.islink(source):
        return "it is a link that leads to no file"
    return "there is no such file"


def _open_with_libsndfile(
    source: pathlib.Path | bytes, name: str, audio_format: str, start: int
) -> Any:
    """Returns the open file; ffmpeg is asked where libsndfile knows the format and not the codec.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in messages.
        audio_format: that was found; "" for none.
        start: where the audio begins, past tags and junk.
    """
    import soundfile

    try:
        file = _open_from(source, start, audio_format)
    except soundfile.LibsndfileError as error:
        reason = format_libsndfile_error(error)
        is_unknown = error.code in _UNKNOWN_CODES or not audio_format
        if audio_format in DEMUXERS and (is_unknown or find_ffmpeg()):
            return _open_with_ffmpeg(source, name, audio_format, reason)
        reason = _UNKNOWN if is_unknown else reason
        raise AudioError(name, f"cannot be read: {reason}.") from error
    if file.format in _CHANCE_FORMATS and audio_format != "mpeg":
        reason = "it has no header that says what it holds" if file.format == "RAW" else _UNKNOWN
        file.close()
        raise AudioError(name, f"cannot be read: {reason}.")
    return file


def _open_from(source: pathlib.Path | bytes, start: int, audio_format: str) -> Any:
    """Returns an open `soundfile.SoundFile` of what begins at a byte of a file."""
    import soundfile

    quiet = silence_libmpg123() if audio_format in ("mpeg", "") else contextlib.nullcontext()
    with quiet:
        try:
            return soundfile.SoundFile(_to_libsndfile_source(source))
        except soundfile.LibsndfileError:
            if not start:
                raise
        if isinstance(source, bytes):
            return soundfile.SoundFile(io.BytesIO(source[start:]))
        return soundfile.SoundFile(_Tail(open(source, "rb"), start))


class _Tail(io.RawIOBase):
    """A file without its first bytes, which are a tag or junk."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start
        file.seek(start)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        offset += self._start if whence == os.SEEK_SET else 0
        return self._file.seek(offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _to_libsndfile_source(source: pathlib.Path | bytes) -> Any:
    """Returns what soundfile can open; a name that is not UTF-8 only as the bytes that it is."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return source if os.name == "nt" else os.fsencode(source)


def _open_with_ffmpeg(
    source: pathlib.Path | bytes,
    name: str,
    audio_format: str,
    reason: str,
    end_seconds: float | None = None,
) -> FfmpegFile:
    """Returns the open file that ffmpeg decodes.

    Args:
        source: path of a file, or the bytes of one.
        name: what to call it in messages.
        audio_format: a key of `DEMUXERS`.
        reason: why libsndfile cannot open it; "" where it does not know the format.
        end_seconds: where the recording ends by its container; None where it does not say.
    """
    program = find_ffmpeg()
    if program is None:
        title = TITLES.get(audio_format, audio_format)
        reason = reason or f"it is {title}, which takes ffmpeg to decode"
        raise AudioError(name, f"cannot be read: {reason}: {FFMPEG_ADVICE}.", needs_ffmpeg=True)
    try:
        return FfmpegFile(program, source, name, audio_format, end_seconds)
    except AudioError as error:
        if not reason:
            raise
        why = error.reason.removeprefix("cannot be read: ")
        raise AudioError(name, f"cannot be read: {reason}, and {why}") from error


def format_libsndfile_error(error: Any) -> str:
    """Returns what libsndfile says of an error, as a clause."""
    if error.code == _SFE_BAD_FILE:
        return "it is too short or damaged, no whole frame of audio was found"
    return str(error.error_string).strip().rstrip(".") or f"libsndfile error {error.code}"
