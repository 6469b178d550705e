"""Lengths that containers of boxes state: MP4 and its kin, Matroska and WebM, ASF (WMA).

Their audio may lie anywhere in them, so only the index is read. A file that ends within a box that
it opened is cut.

Sources: MP4 (ISO 14496-12: 4.2, 8.2.2, 8.3.2, 8.4.2, 8.5.2, 8.6.1.2, 8.6.6, 8.8.3, 8.8.7, 8.8.8;
iTunSMPB, Apple's note of delay and padding: mov.c of FFmpeg), Matroska (RFC 9559; EBML, RFC 8794),
ASF (Microsoft, revision 01.20.05: 2.2, 3.1 to 3.3, 5.1).
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

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


class _Track(NamedTuple):
    """What the boxes of a track say.

    Attributes:
        kind: of its handler, b"soun" for audio.
        entry: name of its first sample entry.
        scale: ticks in a second of its media.
        media: length of its samples in these ticks; None where nothing says it.
        played: length that its edit list plays, in the ticks of the movie; 0 without a list.
        skipped: what its edit list leaves out at the start, in the ticks of its media.
        number: by which fragments name it.
    """

    kind: bytes
    entry: bytes
    scale: int
    media: int | None
    played: int
    skipped: int
    number: int

    def measure(self, movie_scale: int) -> float | None:
        """Returns its length in seconds; None where nothing says it.

        The movie counts in ticks that are coarse beside those of the media (often milliseconds), so
        what the two agree on is taken from the media.
        """
        from_media = None
        if self.media is not None and self.scale:
            from_media = max(0, self.media - self.skipped) / self.scale
        if not (self.played and movie_scale):
            return from_media
        played = self.played / movie_scale
        if from_media is not None and from_media < played + 1 / movie_scale:
            return from_media
        return played


def read_mp4(data: bytes, start: int) -> Container:
    """Reads the boxes of an MP4 file.

    Args:
        data: the file's content; a memory map will do.
        start: where its first box begins.
    """
    cut, index, fragments = "", None, []
    for name, first, end in _boxes(data, start, len(data)):
        if end > len(data):
            # Trailing bytes that form no box are padding that players skip.
            cut = "it ends within one of its boxes" if name in TOP_BOXES else cut
        elif name == b"moov":
            index = (first, end)
        elif name == b"moof":
            fragments.append((first, end))
    if index is None:
        return Container("mp4", truncation=cut or "its index (moov) is missing")
    scale, track, lengths, tagged = 0, None, {}, None
    for name, first, end in _boxes(data, *index):
        if name == b"mvhd":
            scale, _ = _read_times(data, first, end)
        elif name == b"mvex":
            lengths = _read_default_lengths(data, first, end)
        elif name == b"udta":
            tagged = tagged or _read_tagged_length(data, first, end)
        elif name == b"trak" and (track is None or track.kind != b"soun"):
            track = _read_track(data, first, end)
            if track.kind == b"soun" and track.entry in _PROTECTED:
                return Container("mp4", foreign="protected against copying (DRM)")
    if track is None or track.kind != b"soun":
        return Container("mp4", foreign="an MP4 file without a track of audio", truncation=cut)
    if fragments or cut:
        # The index of a fragmented file is written before its audio, and may state any length.
        ticks = _measure_fragments(data, fragments, track.number, lengths)
        exact = (ticks - track.skipped) / track.scale if ticks and track.scale else None
        declared = None if fragments else track.measure(scale) or None
        return Container("mp4", declared_seconds=declared, truncation=cut, end_seconds=exact)
    seconds = track.measure(scale) or None
    if tagged and track.scale and (seconds is None or tagged / track.scale < seconds):
        seconds = tagged / track.scale
    return Container("mp4", declared_seconds=seconds, end_seconds=seconds)


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


def _read_track(data: bytes, first: int, end: int) -> _Track:
    kind, entry, scale, media, number = b"", b"", 0, None, 0
    played = skipped = 0
    for name, inner, inner_end in _boxes(data, first, end):
        if name == b"tkhd":
            (number,) = struct.unpack_from(">I", data, inner + (20 if data[inner] == 1 else 12))
        elif name == b"edts":
            for edit, place, place_end in _boxes(data, inner, inner_end):
                if edit == b"elst":
                    played, skipped = _read_edits(data, place, place_end)
        if name != b"mdia":
            continue
        for part, place, place_end in _boxes(data, inner, inner_end):
            if part == b"hdlr":
                kind = bytes(data[place + 8 : place + 12])
            elif part == b"mdhd":
                scale, duration = _read_times(data, place, place_end)
                media = None if duration in _UNKNOWN_DURATION else duration
            elif part == b"minf":
                entry, ticks = _read_samples(data, place, place_end)
                media = ticks or media
    return _Track(kind, entry, scale, media, played, skipped, number)


def _read_edits(data: bytes, first: int, end: int) -> tuple[int, int]:
    """Returns how much an edit list plays, in the movie's time scale, and where in the media."""
    is_long = data[first] == 1
    layout = ">Qq4x" if is_long else ">Ii4x"
    (count,) = struct.unpack_from(">I", data, first + 4)
    size, total, starts = struct.calcsize(layout), 0, []
    for index in range(min(count, max(0, end - first - 8) // size)):
        duration, media_time = struct.unpack_from(layout, data, first + 8 + index * size)
        if media_time >= 0:
            total += duration
            starts.append(media_time)
    return total, min(starts, default=0)


def _read_samples(data: bytes, first: int, end: int) -> tuple[bytes, int]:
    """Returns the name of the first sample entry, and the length of all samples in ticks."""
    entry, ticks = b"", 0
    for name, inner, inner_end in _boxes(data, first, end):
        for part, place, stop in _boxes(data, inner, inner_end) if name == b"stbl" else ():
            if part == b"stsd":
                entry = bytes(data[place + 12 : place + 16])
            elif part == b"stts":
                (count,) = struct.unpack_from(">I", data, place + 4)
                count = min(count, max(0, stop - place - 8) // 8)
                numbers = struct.unpack_from(f">{2 * count}I", data, place + 8)
                ticks = sum(
                    n * length for n, length in zip(numbers[::2], numbers[1::2], strict=True)
                )
    return entry, ticks


def _read_default_lengths(data: bytes, first: int, end: int) -> dict[int, int]:
    """Returns number of a track -> length of its samples in fragments that state none."""
    return dict(
        struct.unpack_from(">I4xI", data, place + 4)
        for name, place, _ in _boxes(data, first, end)
        if name == b"trex"
    )


def _measure_fragments(
    data: bytes, fragments: list[tuple[int, int]], number: int, lengths: dict[int, int]
) -> int:
    """Returns the length of all samples of a track in a fragmented file, in ticks."""
    total = 0
    for fragment in fragments:
        for name, first, end in _boxes(data, *fragment):
            length, is_ours = 0, False
            for part, place, _ in _boxes(data, first, end) if name == b"traf" else ():
                flags = int.from_bytes(data[place + 1 : place + 4])
                if part == b"tfhd":
                    (found,) = struct.unpack_from(">I", data, place + 4)
                    is_ours, length = found == number, lengths.get(found, 0)
                    if flags & 0x8:
                        skip = 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
                        (length,) = struct.unpack_from(">I", data, place + 8 + skip)
                elif part == b"trun" and is_ours:
                    (count,) = struct.unpack_from(">I", data, place + 4)
                    if not flags & 0x100:
                        total += count * length
                        continue
                    width = (flags >> 8 & 15).bit_count()
                    row = place + 8 + 4 * (bool(flags & 0x1) + bool(flags & 0x4))
                    total += sum(struct.unpack_from(f">{count * width}I", data, row)[::width])
    return total


def _read_tagged_length(data: bytes, first: int, end: int) -> int | None:
    """Returns the number of samples that iTunes notes beside what its encoder added; None without.

    Args:
        data: the file's content.
        first: where the content of the box of user data (udta) begins.
        end: of that box.
    """
    lists = [
        part
        for name, place, stop in _boxes(data, first, end)
        for part in (_boxes(data, place + 4, stop) if name == b"meta" else ())
    ]
    for name, place, stop in lists:
        for key, entry, entry_end in _boxes(data, place, stop) if name == b"ilst" else ():
            if key != b"----":
                continue
            parts = {part: data[a:b] for part, a, b in _boxes(data, entry, entry_end)}
            note = bytes(parts.get(b"data", b"")[8:]).decode("ascii", "replace").split()
            is_note = len(note) > 3 and re.fullmatch("[0-9A-Fa-f]{1,16}", note[3])
            if bytes(parts.get(b"name", b"")[4:]) == b"iTunSMPB" and is_note:
                return int(note[3], 16)
    return None


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
    declared = until = None
    if duration and kinds == {2}:
        declared = duration * scale / 1e9
        until = declared + scale / 1e9  # it is rounded to a tick
    return Container(
        "matroska", declared_seconds=declared, truncation=truncation, end_seconds=until
    )


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
