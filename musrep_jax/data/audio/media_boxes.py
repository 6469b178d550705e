"""Lengths that containers of boxes state: MP4 and its kin, Matroska and WebM, ASF (WMA).

Their audio may lie anywhere in them, so only the index is read. A file that ends within a box that
it opened is cut.

Sources: MP4 (ISO 14496-12: 4.2, 8.2.2, 8.4.2, 8.5.2, 8.6.6), Matroska (RFC 9559; EBML, RFC 8794),
ASF (Microsoft, revision 01.20.05: 2.2, 3.1 to 3.3, 5.1).
"""

import struct
from collections.abc import Iterator

from musrep_jax.data.audio.formats import Container

_PROTECTED = (b"enca", b"drms")
"""Sample entries of audio that is encrypted."""
TOP_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"udta",
              b"meta", b"sidx", b"styp", b"mfra", b"pdin")  # fmt: skip
_UNKNOWN_DURATION = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_EBML_SEGMENT, _EBML_INFO, _EBML_TRACKS = 0x18538067, 0x1549A966, 0x1654AE6B
_EBML_TIMESTAMP_SCALE, _EBML_DURATION = 0x2AD7B1, 0x4489
_EBML_TRACK_ENTRY, _EBML_TRACK_TYPE, _EBML_CLUSTER = 0xAE, 0x83, 0x1F43B675
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")


def read_mp4(data: bytes, start: int) -> Container:
    """Reads the boxes of an MP4 file.

    Args:
        data: the file's content; a memory map will do.
        start: where its first box begins.
    """
    cut, index, is_fragmented = "", None, False
    for name, first, end in _boxes(data, start, len(data)):
        if end > len(data):
            # Trailing bytes that form no box are padding that players skip.
            cut = "it ends within one of its boxes" if name in TOP_BOXES else cut
        elif name == b"moov":
            index = (first, end)
        is_fragmented |= name == b"moof"
    if index is None:
        return Container("mp4", truncation=cut or "its index (moov) is missing")
    scale, seconds, is_audible, has_others = 0, None, False, False
    for name, first, end in _boxes(data, *index):
        if name == b"mvhd":
            scale, _ = _read_times(data, first, end)
        elif name == b"trak" and not is_audible:
            kind, seconds, entry = _read_track(data, first, end, scale)
            is_audible = kind == b"soun"
            has_others |= not is_audible
            if is_audible and entry in _PROTECTED:
                return Container("mp4", foreign="protected against copying (DRM)")
    if not is_audible:
        return Container("mp4", foreign="an MP4 file without a track of audio", truncation=cut)
    # The index of a fragmented file is written before its audio, and may state any length.
    declared = None if is_fragmented else seconds
    return Container("mp4", declared_seconds=declared or None, truncation=cut)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, first byte of the content, and end of each box; the last may end too late."""
    while position + 8 <= end:
        (size,) = struct.unpack_from(">I", data, position)
        name, first = bytes(data[position + 4 : position + 8]), position + 8
        if size == 1 and position + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, position + 8)
            first += 8
        size = size or end - position
        if size < first - position:
            return
        yield name, first, position + size
        position += size


def _read_times(data: bytes, first: int, end: int) -> tuple[int, int]:
    """Returns time scale and duration of a header box (mvhd, mdhd)."""
    layout, skip = (">IQ", 20) if data[first] == 1 else (">II", 12)
    if first + skip + struct.calcsize(layout) > end:
        return 0, 0
    return struct.unpack_from(layout, data, first + skip)


def _read_track(
    data: bytes, first: int, end: int, movie_scale: int
) -> tuple[bytes, float | None, bytes]:
    """Returns kind of a track, its length in seconds, and the name of its first sample entry."""
    kind, entry, seconds, edited = b"", b"", None, 0
    for name, inner, inner_end in _boxes(data, first, end):
        if name == b"edts":
            for edit, place, place_end in _boxes(data, inner, inner_end):
                edited += _read_edits(data, place, place_end) if edit == b"elst" else 0
        if name != b"mdia":
            continue
        for part, place, place_end in _boxes(data, inner, inner_end):
            if part == b"hdlr":
                kind = bytes(data[place + 8 : place + 12])
            elif part == b"mdhd":
                scale, duration = _read_times(data, place, place_end)
                if scale and duration not in _UNKNOWN_DURATION:
                    seconds = duration / scale
            elif part == b"minf":
                entry = _read_sample_entry(data, place, place_end)
    if edited and movie_scale:
        played = edited / movie_scale
        seconds = played if seconds is None else min(played, seconds)
    return kind, seconds, entry


def _read_edits(data: bytes, first: int, end: int) -> int:
    """Returns how much of the media an edit list plays, in the movie's time scale."""
    is_long = data[first] == 1
    layout = ">Qq4x" if is_long else ">Ii4x"
    (count,) = struct.unpack_from(">I", data, first + 4)
    size, total = struct.calcsize(layout), 0
    for index in range(min(count, max(0, end - first - 8) // size)):
        duration, media_time = struct.unpack_from(layout, data, first + 8 + index * size)
        total += duration if media_time >= 0 else 0
    return total


def _read_sample_entry(data: bytes, first: int, end: int) -> bytes:
    for name, inner, inner_end in _boxes(data, first, end):
        if name == b"stbl":
            for part, place, _ in _boxes(data, inner, inner_end):
                if part == b"stsd":
                    return bytes(data[place + 12 : place + 16])
    return b""


def read_matroska(data: bytes, start: int) -> Container:
    """Reads the elements of a Matroska or WebM file.

    The length that it states is that of all tracks together, so it is a promise of audio only where
    there is no other track.

    Args:
        data: the file's content; a memory map will do.
        start: where its EBML header begins.
    """
    truncation, scale, duration, kinds = "", 1_000_000, None, set()
    for name, first, end in _elements(data, start, len(data)):
        if name != _EBML_SEGMENT:
            continue
        if end > len(data):
            truncation = "it ends within its segment"
        for part, inner, inner_end in _elements(data, first, min(end, len(data))):
            if part == _EBML_INFO:
                for key, place, stop in _elements(data, inner, inner_end):
                    if key == _EBML_TIMESTAMP_SCALE:
                        scale = int.from_bytes(data[place:stop])
                    elif key == _EBML_DURATION and stop - place in (4, 8):
                        layout = ">f" if stop - place == 4 else ">d"
                        (duration,) = struct.unpack_from(layout, data, place)
            elif part == _EBML_TRACKS:
                for key, place, stop in _elements(data, inner, inner_end):
                    if key == _EBML_TRACK_ENTRY:
                        kinds |= _read_track_types(data, place, stop)
            elif inner_end > len(data):
                truncation = "it ends within one of its clusters"
    if kinds and 2 not in kinds:
        return Container("matroska", foreign="a Matroska file without a track of audio")
    declared = None
    if duration and kinds == {2}:
        declared = duration * scale / 1e9
    return Container("matroska", declared_seconds=declared, truncation=truncation)


def _read_track_types(data: bytes, first: int, end: int) -> set[int]:
    return {
        int.from_bytes(data[place:stop])
        for key, place, stop in _elements(data, first, end)
        if key == _EBML_TRACK_TYPE
    }


def _elements(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields id, first byte of the content, and end of each element; the last may end too late.

    An element of unknown size, as live recordings have, ends where its parent ends.
    """
    while position < end:
        id_length = 9 - data[position].bit_length()
        place = position + id_length
        if id_length > 4 or place >= end:
            return
        name = int.from_bytes(data[position:place])
        size_length = 9 - data[place].bit_length()
        if size_length > 8 or place + size_length > end:
            return
        size = int.from_bytes(data[place : place + size_length]) & (1 << 7 * size_length) - 1
        first = place + size_length
        stop = end if size == (1 << 7 * size_length) - 1 else first + size
        yield name, first, stop
        position = stop


def read_asf(data: bytes, start: int) -> Container:
    """Reads the objects of an ASF file (WMA).

    Args:
        data: the file's content; a memory map will do.
        start: where its header object begins.
    """
    position, declared, truncation, kinds = start, None, "", set()
    while position + 24 <= len(data):
        name = bytes(data[position : position + 16])
        (size,) = struct.unpack_from("<Q", data, position + 16)
        if size < 24 and not (name == _ASF_DATA and size == 0):  # 0: a live recording
            break
        if name == _ASF_HEADER:
            position += 30  # its parts stand inside it, one after the other
            continue
        if position + size > len(data):
            truncation = "it ends within one of its objects"
            break
        if name == _ASF_FILE and size >= 88:
            duration, _, preroll = struct.unpack_from("<QQQ", data, position + 64)
            declared = max(0.0, duration / 1e7 - preroll / 1e3)
        elif name == _ASF_STREAM:
            kinds.add(bytes(data[position + 24 : position + 40]))
        position += size or len(data)
    if kinds and _ASF_AUDIO not in kinds:
        return Container("asf", foreign="an ASF file without a track of audio")
    is_audio_alone = kinds == {_ASF_AUDIO}
    return Container(
        "asf", declared_seconds=declared if is_audio_alone else None, truncation=truncation
    )
