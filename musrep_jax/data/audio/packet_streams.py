"""Lengths of streams of packets that have a header each: AAC (ADTS), AC-3, DTS, WavPack, AMR, TTA.

Sources: ADTS (ISO 14496-3, 1.A.2.2), AC-3 and E-AC-3 (ETSI TS 102 366: 4.4.1, 5.4.1, E.1.2), DTS
(ETSI TS 102 114, 5.3), WavPack (WavPack 4 & 5 file format), AMR (RFC 4867, 5), TTA1 (format of the
True Audio codec).
"""

import dataclasses
import struct
from collections.abc import Callable

from musrep_jax.data.audio.formats import Container

_HEADER_BYTES = 9
_MAX_JUNK_SECONDS = 0.5
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000,
              7350)  # fmt: skip
_AAC_FRAME = 1024
_AC3_RATES = (48000, 44100, 32000)
_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576,
                 640)  # fmt: skip
_AC3_BLOCK = 256
_DTS_RATES = {1: 8000, 2: 16000, 3: 32000, 6: 11025, 7: 22050, 8: 44100, 11: 12000, 12: 24000,
              13: 48000}  # fmt: skip
_WAVPACK_RATES = (6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000,
                  88200, 96000, 192000)  # fmt: skip
_AMR_BYTES = {
    "amr": (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
    "amr-wb": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
}
"""Of a frame with its header, by its type."""
_AMR_SECONDS = 0.02

Packet = tuple[int, int, int, object]
"""Bytes with the header, samples, rate in Hz, and what stays the same through a stream."""


def read_adts_header(head: bytes) -> Packet | None:
    """Returns the meaning of the first 7 bytes of an ADTS frame; None if they are no such."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    index = head[2] >> 2 & 15
    if index >= len(_AAC_RATES) or length < 7:
        return None
    kind = (head[1], head[2] & 0xFD, head[3] & 0xC0)  # without the private bit
    return length, _AAC_FRAME * ((head[6] & 3) + 1), _AAC_RATES[index], kind


def read_ac3_header(head: bytes) -> Packet | None:
    """Returns the meaning of the first 6 bytes of a frame of AC-3 or E-AC-3; None if no such."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    version = head[5] >> 3
    if version <= 10:
        rate_code, size_code = head[4] >> 6, head[4] & 63
        if rate_code == 3 or size_code >= 2 * len(_AC3_KILOBITS):
            return None
        rate, kilobits = _AC3_RATES[rate_code], _AC3_KILOBITS[size_code // 2]
        words = kilobits * 1000 * 6 * _AC3_BLOCK // (16 * rate)
        words += size_code & 1 if rate_code == 1 else 0
        return 2 * words, 6 * _AC3_BLOCK, rate >> max(0, version - 8), ("ac3", rate)
    if version > 16:
        return None
    length = 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate_code, blocks_code = head[4] >> 6, head[4] >> 4 & 3
    if rate_code == 3:
        rate, blocks = (24000, 22050, 16000, 0)[blocks_code], 6
    else:
        rate, blocks = _AC3_RATES[rate_code], (1, 2, 3, 6)[blocks_code]
    # Dependent frames belong to the one before them, and add no time.
    is_dependent = head[2] >> 6 == 1
    return (
        (length, 0 if is_dependent else _AC3_BLOCK * blocks, rate, ("eac3", rate)) if rate else None
    )


def read_dts_header(head: bytes) -> Packet | None:
    """Returns the meaning of the first 9 bytes of a frame of DTS; None if they are no such."""
    if len(head) < 9 or head[:4] != b"\x7f\xfe\x80\x01":
        return None
    samples = 32 * (((head[4] & 1) << 6 | head[5] >> 2) + 1)
    length = ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1
    rate = _DTS_RATES.get(head[8] >> 2 & 15, 0)
    return (length, samples, rate, ("dts", rate)) if rate and length > 95 else None


def is_chain(
    data: bytes, position: int, read_header: Callable[[bytes], Packet | None], end: int
) -> bool:
    """Returns whether two packets of one kind follow one another, or one fills all there is.

    Args:
        data: the file's content.
        position: of the first.
        read_header: `read_adts_header`, or that of another format.
        end: of the audio.
    """
    first = read_header(bytes(data[position : position + _HEADER_BYTES]))
    if first is None:
        return False
    position += first[0]
    if position + _HEADER_BYTES > end:
        return position <= end
    second = read_header(bytes(data[position : position + _HEADER_BYTES]))
    return second is not None and second[3] == first[3]


def read_adts(data: bytes, start: int) -> Container:
    """Reads the frames of an AAC stream.

    Args:
        data: the file's content; a memory map will do.
        start: where its first frame begins.
    """
    return _walk("adts", data, start, read_adts_header)


def read_ac3(data: bytes, start: int) -> Container:
    """Reads the frames of an AC-3 or E-AC-3 stream; see `read_adts`."""
    name = "eac3" if data[start + 5] >> 3 > 10 else "ac3"
    return _walk(name, data, start, read_ac3_header)


def read_dts(data: bytes, start: int) -> Container:
    """Reads the frames of a DTS stream; see `read_adts`."""
    found = _walk("dts", data, start, read_dts_header)
    # Between the frames may lie extensions, which add no time.
    return dataclasses.replace(found, corruption="")


def _walk(
    name: str, data: bytes, start: int, read_header: Callable[[bytes], Packet | None]
) -> Container:
    position, seconds, junk = start, 0.0, 0
    truncation = corruption = ""
    sync = bytes(data[start : start + 1])
    while position + _HEADER_BYTES <= len(data):
        packet = read_header(bytes(data[position : position + _HEADER_BYTES]))
        if packet is None:
            if data[position : position + 3] in (b"TAG", b"ID3", b"APE"):
                break
            found = data.find(sync, position + 1)
            while found >= 0 and not is_chain(data, found, read_header, len(data)):
                found = data.find(sync, found + 1)
            junk += (len(data) if found < 0 else found) - position
            position = len(data) if found < 0 else found
            continue
        length, samples, rate, _ = packet
        if position + length > len(data):
            break
        seconds += samples / rate
        position += length
    if position < len(data) and data[position : position + 1] == sync:
        truncation = "its last frame is cut"
    if junk > _MAX_JUNK_SECONDS * (position - start) / max(seconds, 1e-9):
        corruption = f"{junk} bytes inside it are no audio"
    return Container(name, actual_seconds=seconds, truncation=truncation, corruption=corruption)


def read_wavpack(data: bytes, start: int) -> Container:
    """Reads the blocks of a WavPack file.

    Args:
        data: the file's content; a memory map will do.
        start: where its first block begins.
    """
    position, declared, done, truncation, rate = start, None, 0, "", 0
    while data[position : position + 4] == b"wvpk":
        if position + 32 > len(data):
            truncation = "it ends within the header of a block"
            break
        size, _, index_high, total_high, total, index, samples, flags = struct.unpack_from(
            "<IHBBIIII", data, position + 4
        )
        if position == start:
            code = flags >> 23 & 15
            rate = _WAVPACK_RATES[code] if code < len(_WAVPACK_RATES) else 0
            rate *= 8 if flags >> 31 else 1
            declared = None if total == 0xFFFFFFFF else total + (total_high << 32) - total_high
        if position + 8 + size > len(data):
            truncation = "its last block is cut"
            break
        done = max(done, index + (index_high << 32) + samples)
        position += 8 + size
    if not rate:
        return Container("wavpack", truncation=truncation)
    return Container(
        "wavpack",
        declared_seconds=None if declared is None else declared / rate,
        actual_seconds=done / rate,
        truncation=truncation,
    )


def read_amr(data: bytes, start: int) -> Container:
    """Reads the frames of an AMR file (narrow band or wide band).

    Args:
        data: the file's content; a memory map will do.
        start: where its magic number begins.
    """
    is_wide = data[start : start + 9] == b"#!AMR-WB\n"
    sizes = _AMR_BYTES["amr-wb" if is_wide else "amr"]
    position, count = start + (9 if is_wide else 6), 0
    while position < len(data):
        position += sizes[data[position] >> 3 & 15]
        count += position <= len(data)
    truncation = "its last frame is cut" if position > len(data) else ""
    return Container("amr", actual_seconds=count * _AMR_SECONDS, truncation=truncation)


def read_tta(data: bytes, start: int) -> Container:
    """Reads the header of a True Audio file, and checks that its frames are present.

    Args:
        data: the file's content; a memory map will do.
        start: where its header begins.
    """
    if start + 22 > len(data):
        return Container("tta", truncation="it ends within its header")
    rate, samples = struct.unpack_from("<II", data, start + 10)
    if not rate:
        return Container("tta")
    frame = 256 * rate // 245
    count = -(-samples // frame) if frame else 0
    table_end = start + 22 + 4 * count + 4
    if table_end > len(data):
        return Container(
            "tta", declared_seconds=samples / rate, truncation="it ends within its seek table"
        )
    size = sum(struct.unpack_from(f"<{count}I", data, start + 22))
    truncation = "" if table_end + size <= len(data) else "it ends before its last frame"
    return Container("tta", declared_seconds=samples / rate, truncation=truncation)
