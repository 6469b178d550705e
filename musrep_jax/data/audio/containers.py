"""Detects the format of an audio file from its content, and the length that its container states.

Only headers are read here: chunk sizes, boxes, page and frame headers. `find_missing_audio`
compares what they declare with what was decoded.

Sources: FLAC (RFC 9639, 8.2), Ogg (RFC 3533, 6), MPEG audio: see `mpeg.py`; the others are named in
the files that read them.
"""

import dataclasses
import struct

from musrep_jax.data.audio.chunk_files import read_aiff, read_au, read_caf, read_riff, read_w64
from musrep_jax.data.audio.formats import FFMPEG_FORMATS, Container
from musrep_jax.data.audio.media_boxes import (
    TOP_BOXES,
    read_asf,
    read_matroska,
    read_mp4,
)
from musrep_jax.data.audio.mpeg import find_frame, read_mpeg, skip_id3
from musrep_jax.data.audio.packet_streams import (
    is_chain,
    read_ac3,
    read_ac3_header,
    read_adts,
    read_adts_header,
    read_amr,
    read_dts,
    read_tta,
    read_wavpack,
)

MAGIC_BYTES = 16
"""From the start of a file, that tell what it is."""
_MAGIC = (
    (b"RIFF", b"WAVE", "wav"), (b"RIFX", b"WAVE", "wav"), (b"RF64", b"WAVE", "wav"),
    (b"FORM", b"AIFF", "aiff"), (b"FORM", b"AIFC", "aiff"), (b"fLaC", b"", "flac"),
    (b"OggS", b"", "ogg"), (b"caff", b"", "caf"), (b".snd", b"", "au"),
    (b"riff\x2e\x91\xcf\x11", b"", "w64"), (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"", "asf"),
    (b"\x1a\x45\xdf\xa3", b"", "matroska"), (b"wvpk", b"", "wavpack"), (b"TTA1", b"", "tta"),
    (b"MAC ", b"", "ape"), (b"#!AMR", b"", "amr"), (b"DSD ", b"", "dsf"),
    (b"\x7f\xfe\x80\x01", b"", "dts"),
)  # fmt: skip
"""(first bytes, bytes 8 to 12, format)."""
_AMBIGUOUS_FORMATS = ("", "au", "asf", "matroska", "ape")
"""A text may begin so, or a video."""
_NON_AUDIO_SIGNATURES = (
    (b"<!DOCTYPE", "a web page, as servers send in place of a file"),
    (b"<!doctype", "a web page, as servers send in place of a file"),
    (b"<html", "a web page, as servers send in place of a file"),
    (b"<?xml", "an XML file, as servers send in place of a file"),
    (b"{", "text (JSON), as servers send in place of a file"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself with git lfs pull"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"MThd", "a MIDI file: notes, not sound"),
    (b"#EXT", "a playlist, not a recording"),
    (b"[playlist]", "a playlist, not a recording"),
    (b"ffconcat", "a playlist, not a recording"),
    (b"<asx", "a playlist, not a recording"),
    (b"<ASX", "a playlist, not a recording"),
    (b"<smil", "a playlist, not a recording"),
    (b"v=0", "a description of a stream (SDP), not a recording"),
    (b"FLV\x01", "a video (FLV); take the audio out of it first"),
    (b"\x00\x00\x01\xba", "a video (MPEG); take the audio out of it first"),
    (b".RMF", "RealMedia, which is not read here; convert it first"),
    (b".ra\xfd", "RealAudio, which is not read here; convert it first"),
    (b"\x00\x05\x16\x07", "what macOS keeps about a file, not the file"),
)
_JUNK_WINDOW = 1 << 16
_TOLERANCE_SECONDS = 0.1
_CODEC_DELAY_SECONDS = 0.25
"""Delay and padding, which some containers count in and some decoders leave out."""
_MIN_CHAINED_FRAMES = 2
"""Of MPEG audio, before bytes behind junk are taken for it."""


def read_container(data: bytes) -> Container:
    """Reads a file's headers.

    Args:
        data: the file's content, not empty; a memory map will do.
    """
    start, found = detect_audio(data)
    if not found.format:
        return found
    reader = _READERS.get(found.format)
    if reader is None:
        return found
    try:
        container = reader(data, start)
    except (struct.error, IndexError):  # there are fewer bytes than a header has
        container = Container(found.format, truncation="it ends within a header")
    return dataclasses.replace(container, junk=container.junk or found.junk)


def detect_audio(data: bytes) -> tuple[int, Container]:
    """Returns where the audio of a file begins, and its format; little of the file is read.

    Args:
        data: the file's content, not empty; a memory map will do.

    Returns:
        A byte, past tags and junk, and a container with `format`, `foreign` and `junk` alone.
    """
    tagged = start = skip_id3(data)
    name = _detect_format(data, start)
    if name:
        return start, Container(name)
    head = bytes(data[:32]).removeprefix(b"\xef\xbb\xbf").lstrip()
    foreign = next((words for magic, words in _NON_AUDIO_SIGNATURES if head.startswith(magic)), "")
    if not foreign and data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        foreign = "a video (AVI); take the audio out of it first"
    if not foreign and not any(data[:4096]):
        foreign = "nothing but zeros"
    if foreign:
        return 0, Container("", foreign)
    start, name = _find_audio_after_junk(data, start)
    return start, Container(name, junk=start - tagged if name else 0)


def find_missing_audio(
    container: Container, seconds: float, decoder_seconds: float | None = None
) -> tuple[str, str] | None:
    """Returns what of a file is missing: ("truncated" or "damaged", a clause); None if nothing is.

    Args:
        container: what its headers say.
        seconds: length that was decoded.
        decoder_seconds: length that the decoder announced, where it can tell more than the headers.
    """
    actual, tolerance = container.actual_seconds, container.tolerance_seconds
    declared = container.declared_seconds
    if actual is None:
        declared = decoder_seconds if declared is None else declared
        if container.format in FFMPEG_FORMATS and declared is not None:
            tolerance = min(_CODEC_DELAY_SECONDS, declared / 2)
        if declared is not None and seconds < declared - tolerance - 1e-9:
            return "truncated", _tell_shortfall(container, seconds, declared)
    damage = find_visible_damage(container)
    if damage is not None or actual is None:
        return damage
    if seconds < actual - container.padding_seconds - _TOLERANCE_SECONDS - tolerance:
        told = f"only {seconds:.2f} s of its {actual:.2f} s can be decoded"
        # libsndfile 1.2.2 reads no further than the length that it guesses from the first frame.
        remedy = "; ffmpeg -i FILE -c copy NEW.mp3 writes the header that it lacks"
        return "damaged", told + (remedy if container.is_estimate else "")
    return None


def find_visible_damage(container: Container) -> tuple[str, str] | None:
    """Returns what can be seen to be missing before anything is decoded; as `find_missing_audio`.

    Args:
        container: what the headers of a file say.
    """
    declared, actual = container.declared_seconds, container.actual_seconds
    if declared is not None and actual is not None:
        if actual < declared - container.tolerance_seconds - 1e-9:
            return "truncated", _tell_shortfall(container, actual, declared)
        return None  # all that was promised is there, whatever its end looks like
    if container.truncation:
        return "truncated", container.truncation
    if container.corruption:
        return "damaged", container.corruption
    return None


def _tell_shortfall(container: Container, actual: float, declared: float) -> str:
    cut = f" ({container.truncation})" if container.truncation else ""
    return f"it holds {actual:.2f} s of the {declared:.2f} s it promises{cut}"


def has_audio_signature(head: bytes) -> bool:
    """Returns whether the first `MAGIC_BYTES` of a file can be of nothing but audio."""
    return head.startswith(b"ID3") or _match_magic(head) not in _AMBIGUOUS_FORMATS


def _match_magic(head: bytes) -> str:
    for first, second, name in _MAGIC:
        if head.startswith(first) and head[8:12].startswith(second):
            return name
    return ""


def _detect_format(data: bytes, start: int) -> str:
    head = bytes(data[start : start + MAGIC_BYTES])
    name = _match_magic(head)
    if name:
        return name
    if head[4:8] == b"ftyp" or _is_quicktime(data, start):
        return "mp4"
    if is_chain(data, start, read_adts_header, len(data)):
        return "adts"
    if is_chain(data, start, read_ac3_header, len(data)):
        return "eac3" if data[start + 5] >> 3 > 10 else "ac3"
    if head[:1] == b"\xff" and find_frame(data, start, start + 1) == start:
        return "mpeg"
    return ""


def _is_quicktime(data: bytes, start: int) -> bool:
    """Returns whether two boxes follow one another, as in files older than `ftyp`."""
    size = int.from_bytes(data[start : start + 4])
    following = data[start + size + 4 : start + size + 8]
    return size >= 8 and data[start + 4 : start + 8] in TOP_BOXES and following in TOP_BOXES


def _find_audio_after_junk(data: bytes, start: int) -> tuple[int, str]:
    """Returns where audio begins behind junk, and its format; (start, "") if nowhere near."""
    window = bytes(data[start : start + _JUNK_WINDOW])
    found = []
    for first, _, name in _MAGIC:
        position = window.find(first)
        if position >= 0 and _match_magic(window[position : position + MAGIC_BYTES]):
            found.append((position, name))
    frame = find_frame(data, start, start + _JUNK_WINDOW, min_frames=_MIN_CHAINED_FRAMES)
    if frame is not None:
        found.append((frame - start, "mpeg"))
    if not found:
        return start, ""
    position, name = min(found)
    return start + position, name


def _read_mpeg(data: bytes, _: int) -> Container:
    stream = read_mpeg(data)
    if stream is None:
        return Container("mpeg")
    frame = stream.samples_per_frame / stream.sample_rate
    seconds = stream.num_frames * frame
    per_second = stream.stream_bytes / seconds if seconds else 0.0
    truncation = ""
    if stream.missing_bytes:
        truncation = f"its last frame is cut: {stream.missing_bytes} bytes of it are missing"
    corruption = ""
    if per_second and stream.inner_junk > 0.5 * per_second:
        corruption = f"{stream.inner_junk} bytes inside it are no audio"
    return Container(
        "mpeg",
        declared_seconds=None if stream.header_frames is None else stream.header_frames * frame,
        actual_seconds=seconds,
        # Some encoders count their own header frame.
        tolerance_seconds=0.0 if stream.missing_bytes else 1.5 * frame,
        truncation=truncation,
        corruption=corruption,
        is_estimate=stream.is_variable and stream.header_frames is None,
        junk=stream.leading_junk,
        padding_seconds=stream.trimmed / stream.sample_rate,
    )


def _read_flac(data: bytes, start: int) -> Container:
    if len(data) < start + 26:
        return Container("flac", truncation="it ends within its header")
    packed = int.from_bytes(data[start + 18 : start + 26])
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return Container("flac", declared_seconds=total / rate if rate and total else None)


def _read_ogg(data: bytes, start: int) -> Container:
    """Walks the pages: each says where it ends, its number, and whether it is the last."""
    position, is_over, truncation, corruption = start, set(), "", ""
    number: dict[bytes, int] = {}
    while position < len(data):
        if data[position : position + 4] != b"OggS"[: len(data) - position]:
            found = data.find(b"OggS", position)
            if found < 0 and len(is_over) == len(number):
                break  # what follows the end of the stream is no concern of a decoder
            corruption = corruption or f"what begins at byte {position} is no page of it"
            if found < 0:
                break
            position = found
        segments = data[position + 26 : position + 27]
        table = data[position + 27 : position + 27 + (segments[0] if segments else 0)]
        length = 27 + len(table) + sum(table)
        if not segments or len(table) < segments[0] or position + length > len(data):
            truncation = "its last page is cut"
            break
        serial, (count,) = (
            data[position + 14 : position + 18],
            struct.unpack_from("<I", data, position + 18),
        )
        if serial in number and count != number[serial] + 1:
            corruption = corruption or f"pages are missing before byte {position}"
        number[serial] = count
        if data[position + 5] & 4:
            is_over.add(serial)
        position += length
    if not truncation and len(is_over) < len(number):
        truncation = "its last page does not end the stream"
    return Container("ogg", truncation=truncation, corruption=corruption)


_READERS = {
    "wav": read_riff,
    "aiff": read_aiff,
    "au": read_au,
    "w64": read_w64,
    "caf": read_caf,
    "flac": _read_flac,
    "ogg": _read_ogg,
    "mpeg": _read_mpeg,
    "mp4": read_mp4,
    "matroska": read_matroska,
    "asf": read_asf,
    "adts": read_adts,
    "ac3": read_ac3,
    "eac3": read_ac3,
    "dts": read_dts,
    "wavpack": read_wavpack,
    "tta": read_tta,
    "amr": read_amr,
}
