"""What an audio file is, whatever its name, and how long its container says that it is.

Only headers are read here: chunk sizes, page and frame headers. What they promise is compared with
what was decoded by `musrep_jax.data.doctor.diagnosis`.

Sources: RIFF and RF64 (Microsoft/IBM 1991; EBU Tech 3306), AIFF-C (Apple 1991), Sun AU, FLAC (RFC
9639, 8.2), Ogg (RFC 3533, 6), MP4 boxes (ISO 14496-12, 4.2), MPEG audio: see `mpeg.py`.
"""

import dataclasses
import struct

from musrep_jax.data.audio.mpeg import find_frame, read_mpeg, skip_id3

SUFFIXES = {
    "wav": (".wav", ".wave", ".bwf", ".rf64"),
    "aiff": (".aif", ".aifc", ".aiff"),
    "au": (".au", ".snd"),
    "flac": (".flac",),
    "ogg": (".ogg", ".oga", ".opus", ".spx", ".oggflac"),
    "mpeg": (".mp3", ".mp2", ".mp1", ".mpga"),
    "mp4": (".m4a", ".m4b", ".mp4"),
    "adts": (".aac",),
    "asf": (".wma", ".asf"),
    "caf": (".caf",),
    "w64": (".w64",),
}
"""Format -> suffixes that such a file may have."""
AUDIO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
FFMPEG_FORMATS = ("mp4", "adts", "asf")
"""Formats that libsndfile does not read."""
MAGIC_BYTES = 16
"""From the start of a file, that tell what it is."""
_MAGIC = (
    (b"RIFF", b"WAVE", "wav"), (b"RIFX", b"WAVE", "wav"), (b"RF64", b"WAVE", "wav"),
    (b"FORM", b"AIFF", "aiff"), (b"FORM", b"AIFC", "aiff"), (b"fLaC", b"", "flac"),
    (b"OggS", b"", "ogg"), (b"caff", b"", "caf"), (b".snd", b"", "au"),
    (b"riff\x2e\x91\xcf\x11", b"", "w64"), (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"", "asf"),
)  # fmt: skip
"""(first bytes, bytes 8 to 12, format)."""
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
    (b"\x00\x05\x16\x07", "what macOS keeps about a file, not the file"),
)
_UNKNOWN_SIZE = 0x7FFFF000
"""A data size from here on stands for "not known" (ffmpeg and sox write such into pipes)."""
_SIZE_TOLERANCE_BYTES = 64
"""Headers that count themselves in are common; what they promise too much is no loss."""
_JUNK_WINDOW = 1 << 16


@dataclasses.dataclass(frozen=True)
class Container:
    """What a file's headers say.

    Attributes:
        format: a key of `SUFFIXES`, or "" when it is none of them.
        foreign: what it is instead, in words, where that is plain to see.
        promised: length in seconds that the headers state; None where they state none.
        held: length in seconds of what is there of it; None where only decoding tells.
        slack: what `held` or the decoded length may lack without meaning anything, in seconds.
        cut: how the end can be seen to be missing, in words; "".
        broken: how something can be seen to be missing on the way, in words; "".
        is_estimate: whether the length that a decoder announces is a guess: an mp3 of variable bit
            rate without a header that states it.
        junk: bytes before the first audio that are no tag.
        trimmed: seconds of delay and padding that decoders leave out of `held`.
    """

    format: str
    foreign: str = ""
    promised: float | None = None
    held: float | None = None
    slack: float = 0.0
    cut: str = ""
    broken: str = ""
    is_estimate: bool = False
    junk: int = 0
    trimmed: float = 0.0


def read_container(data: bytes) -> Container:
    """Returns what a file's headers say.

    Args:
        data: the file's content, not empty; a memory map will do.
    """
    tagged = start = skip_id3(data)
    name = _detect_format(data, start)
    if not name:
        head = bytes(data[:32]).lstrip()
        foreign = next(
            (words for magic, words in _NON_AUDIO_SIGNATURES if head.startswith(magic)), ""
        )
        if foreign:
            return Container("", foreign)
        start, name = _find_audio_after_junk(data, start)
    if not name:
        return Container("", "nothing but zeros" if not any(data[:4096]) else "")
    if name == "mpeg":
        return _read_mpeg(data)
    reader = _READERS.get(name)
    found = reader(data, start) if reader else Container(name)
    return dataclasses.replace(found, junk=start - tagged)


def has_audio_signature(head: bytes) -> bool:
    """Returns whether the first `MAGIC_BYTES` of a file can be of nothing but audio."""
    return head.startswith(b"ID3") or _match_magic(head) not in ("", "au", "asf")


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
    if head[4:8] == b"ftyp":
        return "mp4"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "adts"
    if head[:1] == b"\xff" and find_frame(data, start, len(data)) == start:
        return "mpeg"
    return ""


def _find_audio_after_junk(data: bytes, start: int) -> tuple[int, str]:
    """Returns where audio begins behind junk, and its format; (start, "") if nowhere near."""
    window = bytes(data[start : start + _JUNK_WINDOW])
    found = []
    for first, _, name in _MAGIC:
        position = window.find(first)
        if position >= 0 and _match_magic(window[position : position + MAGIC_BYTES]):
            found.append((position, name))
    frame = find_frame(data, start, min(len(data), start + _JUNK_WINDOW))
    if frame is not None:
        found.append((frame - start, "mpeg"))
    if not found:
        return start, ""
    position, name = min(found)
    return start + position, name


def _read_mpeg(data: bytes) -> Container:
    stream = read_mpeg(data)
    if stream is None:
        return Container("mpeg")
    frame = stream.samples_per_frame / stream.sample_rate
    held = stream.num_frames * frame
    per_second = stream.stream_bytes / held if held else 0.0
    cut = ""
    if stream.missing_bytes:
        cut = f"its last frame is cut: {stream.missing_bytes} bytes of it are missing"
    broken = ""
    if per_second and stream.inner_junk > 0.5 * per_second:
        broken = f"{stream.inner_junk} bytes inside it are no audio"
    return Container(
        "mpeg",
        promised=None if stream.header_frames is None else stream.header_frames * frame,
        held=held,
        # Some encoders count their own header frame.
        slack=0.0 if stream.missing_bytes else 1.5 * frame,
        cut=cut,
        broken=broken,
        is_estimate=stream.is_variable and stream.header_frames is None,
        junk=stream.leading_junk,
        trimmed=stream.trimmed / stream.sample_rate,
    )


def _read_riff(data: bytes, start: int) -> Container:
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    position, per_second, long_size = start + 12, 0, None
    while position + 8 <= len(data):
        name = bytes(data[position : position + 4])
        (size,) = struct.unpack_from(f"{order}I", data, position + 4)
        body = position + 8
        if name == b"ds64" and body + 16 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, body + 8)
        elif name == b"fmt " and body + 12 <= len(data):
            (per_second,) = struct.unpack_from(f"{order}I", data, body + 8)
        elif name == b"data":
            if long_size is not None and size == 0xFFFFFFFF:
                return _make_sized_container("wav", long_size, len(data) - body, per_second)
            return _make_sized_container(
                "wav", size if size < _UNKNOWN_SIZE else 0, len(data) - body, per_second
            )
        position = body + size + size % 2
    return Container("wav", cut="it ends before its audio data begin")


def _read_aiff(data: bytes, start: int) -> Container:
    position, frames, rate = start + 12, 0, 0.0
    there = size = None
    while position + 8 <= len(data):
        name = bytes(data[position : position + 4])
        (length,) = struct.unpack_from(">I", data, position + 4)
        body = position + 8
        if name == b"COMM" and body + 18 <= len(data):
            (frames,) = struct.unpack_from(">I", data, body + 2)
            rate = _parse_extended_float(data[body + 8 : body + 18])
        elif name == b"SSND" and length < _UNKNOWN_SIZE:
            there, size = max(0, len(data) - body - 8), length - 8
        position = body + length + length % 2
    if size is None:
        return Container("aiff", cut="it ends before its audio data begin")
    return _make_sized_container(
        "aiff", size, there, size * rate / frames if frames and rate else 0
    )


def _read_au(data: bytes, start: int) -> Container:
    if len(data) < start + 24:
        return Container("au", cut="it ends within its header")
    offset, size, encoding, rate, channels = struct.unpack_from(">5I", data, start + 4)
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    size = size if size < _UNKNOWN_SIZE else 0
    return _make_sized_container("au", size, len(data) - start - offset, width * rate * channels)


def _make_sized_container(name: str, size: int, there: int, per_second: float) -> Container:
    """Returns the facts of a container that states the size of its data; 0 states nothing."""
    there = max(0, there)
    if not size:
        return Container(name)
    cut = f"{size - there} of its {size} bytes of audio are missing" if there < size else ""
    if not per_second:
        return Container(name, cut=cut if size - there > _SIZE_TOLERANCE_BYTES else "")
    return Container(
        name,
        promised=size / per_second,
        held=min(size, there) / per_second,
        slack=min(_SIZE_TOLERANCE_BYTES, 0.01 * size) / per_second,
        cut=cut,
    )


def _parse_extended_float(number: bytes) -> float:
    """Returns the value of an 80-bit IEEE number, in which AIFF writes its sample rate."""
    exponent, mantissa = struct.unpack(">HQ", number)
    return mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446)


def _read_flac(data: bytes, start: int) -> Container:
    if len(data) < start + 26:
        return Container("flac", cut="it ends within its header")
    packed = int.from_bytes(data[start + 18 : start + 26])
    rate, total = packed >> 44, packed & (1 << 36) - 1
    return Container("flac", promised=total / rate if rate and total else None)


def _read_ogg(data: bytes, start: int) -> Container:
    """Walks the pages: each says where it ends, its number, and whether it is the last."""
    position, is_over, cut, broken = start, set(), "", ""
    number: dict[bytes, int] = {}
    while position < len(data):
        if data[position : position + 4] != b"OggS"[: len(data) - position]:
            found = data.find(b"OggS", position)
            if found < 0 and len(is_over) == len(number):
                break  # what follows the end of the stream is no concern of a decoder
            broken = broken or f"what begins at byte {position} is no page of it"
            if found < 0:
                break
            position = found
        segments = data[position + 26 : position + 27]
        table = data[position + 27 : position + 27 + (segments[0] if segments else 0)]
        length = 27 + len(table) + sum(table)
        if not segments or len(table) < segments[0] or position + length > len(data):
            cut = "its last page is cut"
            break
        serial, (count,) = (
            data[position + 14 : position + 18],
            struct.unpack_from("<I", data, position + 18),
        )
        if serial in number and count != number[serial] + 1:
            broken = broken or f"pages are missing before byte {position}"
        number[serial] = count
        if data[position + 5] & 4:
            is_over.add(serial)
        position += length
    if not cut and len(is_over) < len(number):
        cut = "its last page does not end the stream"
    return Container("ogg", cut=cut, broken=broken)


def _read_mp4(data: bytes, start: int) -> Container:
    position, names = start, set()
    while position + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        names.add(bytes(data[position + 4 : position + 8]))
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
        size = size or len(data) - position
        if size < 8 or position + size > len(data):
            return Container("mp4", cut="it ends within one of its boxes")
        position += size
    return Container("mp4", cut="" if b"moov" in names else "its index (moov) is missing")


_READERS = {
    "wav": _read_riff,
    "aiff": _read_aiff,
    "au": _read_au,
    "flac": _read_flac,
    "ogg": _read_ogg,
    "mp4": _read_mp4,
}
