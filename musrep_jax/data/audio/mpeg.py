"""Reads the length and format of an MPEG audio file (mp1, mp2, mp3) from its frame headers.

A decoder plays the frames that are present and does not report missing ones. The frames tell: how
many there are, how many the header of the encoder promises (Xing, Info, VBRI), whether the last one
is cut.

Source: ISO 11172-3, 2.4; ISO 13818-3 (lower rates); the rate bits `00` mean MPEG 2.5 (Fraunhofer).
"""

import dataclasses
import functools
import struct

_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(1 for MPEG-1 else 2, layer) -> bit rates in kbit/s of the indices 1 to 14."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Version bits -> sample rates in Hz."""
_VBRI_OFFSET = 36
_LAME_OFFSET = 120
"""From the word Xing or Info, when all optional fields are there."""
_MIN_CONSECUTIVE_FRAMES = 3
"""Frames in a row that make it certain that what looks like a frame header is one."""


@dataclasses.dataclass(frozen=True)
class FrameHeader:
    """One frame header.

    Attributes:
        length: of the frame in bytes, with the header.
        samples: that the frame decodes to, per channel.
        sample_rate: in Hz.
        kind: version, layer and rate, which stay the same through a stream.
    """

    length: int
    samples: int
    sample_rate: int
    kind: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class MpegStream:
    """The frames of a file.

    Attributes:
        sample_rate: in Hz.
        samples_per_frame: per channel.
        num_frames: complete frames of audio, not counting the encoder's header frame.
        header_frames: what that header says, or None.
        is_variable: whether frames differ in bit rate.
        trimmed: samples of delay and padding that a decoder leaves out, as the header says.
        missing_bytes: bytes missing from the last frame; 0 if it is complete.
        leading_junk: bytes before the first frame that are no tag.
        inner_junk: bytes between and after the frames that are neither frame nor tag.
        stream_bytes: from the first frame to the last byte that is no tag.
    """

    sample_rate: int
    samples_per_frame: int
    num_frames: int
    header_frames: int | None
    is_variable: bool
    trimmed: int
    missing_bytes: int
    leading_junk: int
    inner_junk: int
    stream_bytes: int


def read_mpeg(data: bytes) -> MpegStream | None:
    """Reads the frames of a file; returns None if it contains no frame.

    Args:
        data: the file's content; a memory map will do.
    """
    end = _find_audio_end(data)
    start = skip_id3(data)
    first = find_frame(data, start, end)
    if first is None:
        return None
    header = read_frame_header(data[first : first + 4])
    promised, trimmed = _read_encoder_header(data[first : first + header.length])
    position = first if promised is None else first + header.length
    bit_rates: set[int] = set()
    num_frames, inner_junk, missing_bytes = 0, 0, 0
    while position < end:
        head = data[position : position + 4]
        frame = read_frame_header(head) if position + 4 <= end else None
        if frame is not None and frame.kind == header.kind:
            if position + frame.length > end:
                missing_bytes = position + frame.length - end
                break
            num_frames += 1
            bit_rates.add(head[2] >> 4)
            position += frame.length
            continue
        if position + 4 > end and head[:2] == data[first : first + 2][: len(head)]:
            missing_bytes = header.length - len(head)
            break
        after_tag = skip_id3(data, position)
        found = find_frame(data, after_tag, end, header.kind)
        inner_junk += (end if found is None else found) - after_tag
        position = end if found is None else found
    return MpegStream(
        sample_rate=header.sample_rate,
        samples_per_frame=header.samples,
        num_frames=num_frames,
        header_frames=promised or None,
        is_variable=len(bit_rates) > 1,
        trimmed=trimmed,
        missing_bytes=missing_bytes,
        leading_junk=first - start,
        inner_junk=inner_junk,
        stream_bytes=end - first,
    )


@functools.lru_cache(maxsize=4096)
def read_frame_header(head: bytes) -> FrameHeader | None:
    """Returns the meaning of four bytes, or None if they are no frame header.

    A frame in "free format", whose length is not stated, counts as none.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, bit_rate_index = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    generation = 1 if version == 3 else 2
    rate = _RATES[version][rate_index]
    bits = 1000 * _KILOBITS[generation, layer][bit_rate_index - 1]
    samples = {1: 384, 2: 1152, 3: 1152 // generation}[layer]
    padding = head[2] >> 1 & 1
    if layer == 1:
        length = (12 * bits // rate + padding) * 4
    else:
        length = samples // 8 * bits // rate + padding
    return FrameHeader(length, samples, rate, (version, layer, rate_index))


def find_frame(
    data: bytes,
    start: int,
    end: int,
    kind: tuple[int, int, int] | None = None,
    min_frames: int = 1,
) -> int | None:
    """Returns where the next frame begins, or None; a chance likeness is not taken for one.

    Args:
        data: the file's content.
        start: where to begin to look.
        end: where to end; the frames that follow are looked at beyond it.
        kind: of the frames to search for; None for any.
        min_frames: that must follow one another where the file ends soon.
    """
    position, audio_end = data.find(b"\xff", start, end), _find_audio_end(data)
    while position >= 0:
        if _is_frame(data, position, audio_end, kind, min_frames):
            return position
        position = data.find(b"\xff", position + 1, end)
    return None


def skip_id3(data: bytes, position: int = 0) -> int:
    """Returns where the ID3v2 tags that begin at a position end; the position if there is none."""
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        size = 0
        for byte in data[position + 6 : position + 10]:  # Four times 7 bits ("syncsafe").
            size = size << 7 | byte & 0x7F
        footer = 10 if data[position + 5] & 0x10 else 0
        position += 10 + size + footer
    return min(position, len(data))


def _is_frame(
    data: bytes, position: int, end: int, kind: tuple[int, int, int] | None, min_frames: int
) -> bool:
    """Returns whether frames of one kind follow one another from here, to the end if it is near."""
    for count in range(_MIN_CONSECUTIVE_FRAMES):
        frame = read_frame_header(data[position : position + 4])
        if frame is None or (kind is not None and frame.kind != kind):
            return False
        kind = frame.kind
        position += frame.length
        if position + 4 > end:
            # At the end one frame may be enough, if it is whole or others came before it.
            return count + 1 >= min_frames and (count > 0 or position <= end)
    return True


def _find_audio_end(data: bytes) -> int:
    """Returns where the tags at the end of a file begin: ID3v1, Lyrics3v2, APEv2."""
    end = len(data)
    if data[max(0, end - 128) : end][:3] == b"TAG":
        end -= 128
    if data[max(0, end - 9) : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
        end = max(0, end - 15 - int(data[end - 15 : end - 9]))
    if data[max(0, end - 32) : end][:8] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
        end = max(0, end - size - (32 if flags & 1 << 31 else 0))
    return end


def _read_encoder_header(frame: bytes) -> tuple[int | None, int]:
    """Returns the number of frames in an encoder's header frame, and the samples to be trimmed.

    The number is None if the frame is no such header, and 0 if it does not state one.
    """
    if frame[_VBRI_OFFSET : _VBRI_OFFSET + 4] == b"VBRI":
        (count,) = struct.unpack_from(">I", frame, _VBRI_OFFSET + 14)
        return count, 0
    # After the side information, whose length depends on version and channels: at most 38 bytes.
    word = max(frame.find(b"Xing", 0, 42), frame.find(b"Info", 0, 42))
    if word < 0 or len(frame) < word + 12:
        return None, 0
    flags, count = struct.unpack_from(">II", frame, word + 4)
    trimmed = 0
    if flags & 15 == 15 and len(frame) >= word + _LAME_OFFSET + 24:
        delays = int.from_bytes(frame[word + _LAME_OFFSET + 21 :][:3])
        trimmed = (delays >> 12) + (delays & 0xFFF)
    return (count if flags & 1 else 0), trimmed
