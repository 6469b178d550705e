"""Lengths of files whose audio lies in one chunk of a stated size: WAV, RF64, W64, AIFF, CAF, AU.

Sources: RIFF and RF64 (Microsoft/IBM 1991; EBU Tech 3306), Wave64 (Sony 2003), AIFF-C (Apple 1991),
Core Audio Format (Apple, version 1), Sun AU.
"""

import struct

from musrep_jax.data.audio.formats import Container

_UNKNOWN_SIZE = 0x7FFFF000
"""A data size from here on stands for "not known" (ffmpeg and sox write such into pipes)."""
_SIZE_TOLERANCE_BYTES = 64
"""Headers that count themselves in are common; what they promise too much is no loss."""
_FOREIGN_BYTES, _FOREIGN_SHARE = 4096, 0.05
"""Of what may follow the audio without a name: less is no part of a recording."""
_EVEN_CODECS = (1, 3, 6, 7)
"""PCM, floating point, A-law and mu-law: every second has as many bytes as the header says."""
_EXTENSIBLE = 0xFFFE
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""Of the names of the chunks of Wave64, after their four letters; that of `riff` differs."""


def read_riff(data: bytes, start: int) -> Container:
    """Reads the chunks of a WAV file (RIFF, RIFX, RF64).

    Args:
        data: the file's content; a memory map will do.
        start: where its first chunk begins.
    """
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    position, per_second, long_size = start + 12, 0, None
    while position + 8 <= len(data):
        name = bytes(data[position : position + 4])
        (size,) = struct.unpack_from(f"{order}I", data, position + 4)
        body = position + 8
        if name == b"ds64" and body + 16 <= len(data):
            (long_size,) = struct.unpack_from("<Q", data, body + 8)
        elif name == b"fmt ":
            per_second = _read_byte_rate(data, body, size, order)
        elif name == b"data":
            if long_size is not None and size == 0xFFFFFFFF:
                size = long_size
            elif size >= _UNKNOWN_SIZE:
                size = 0
            return make_sized_container("wav", size, data, body, per_second)
        position = body + size + size % 2
    return Container("wav", truncation="it ends before its audio data begin")


def _read_byte_rate(data: bytes, body: int, size: int, order: str) -> int:
    """Returns the bytes per second of a chunk `fmt `; 0 where they are no more than an average."""
    if body + 16 > len(data):
        return 0
    codec, _, _, per_second = struct.unpack_from(f"{order}HHII", data, body)
    if codec == _EXTENSIBLE and size >= 26 and body + 26 <= len(data):
        (codec,) = struct.unpack_from(f"{order}H", data, body + 24)
    return per_second if codec in _EVEN_CODECS else 0


def read_w64(data: bytes, start: int) -> Container:
    """Reads the chunks of a Wave64 file; see `read_riff`."""
    position, per_second = start + 40, 0
    while position + 24 <= len(data):
        name, tail = bytes(data[position : position + 4]), data[position + 4 : position + 16]
        (size,) = struct.unpack_from("<Q", data, position + 16)
        if tail != _W64_TAIL or size < 24:
            break
        if name == b"fmt ":
            per_second = _read_byte_rate(data, position + 24, size - 24, "<")
        elif name == b"data":
            known = size - 24 if size < 1 << 62 else 0
            return make_sized_container("w64", known, data, position + 24, per_second)
        position += size + -size % 8
    return Container("w64", truncation="it ends before its audio data begin")


def read_aiff(data: bytes, start: int) -> Container:
    """Reads the chunks of an AIFF or AIFF-C file; see `read_riff`."""
    position, frames, rate = start + 12, 0, 0.0
    place = size = None
    while position + 8 <= len(data):
        name = bytes(data[position : position + 4])
        (length,) = struct.unpack_from(">I", data, position + 4)
        body = position + 8
        if name == b"COMM" and body + 18 <= len(data):
            (frames,) = struct.unpack_from(">I", data, body + 2)
            rate = _parse_extended_float(data[body + 8 : body + 18])
        elif name == b"SSND" and length < _UNKNOWN_SIZE:
            place, size = body + 8, length - 8
        position = body + length + length % 2
    if size is None:
        return Container("aiff", truncation="it ends before its audio data begin")
    per_second = size * rate / frames if frames and rate else 0
    return make_sized_container("aiff", size, data, place, per_second)


def read_caf(data: bytes, start: int) -> Container:
    """Reads the chunks of a Core Audio file; see `read_riff`."""
    position, rate, bytes_per_packet, frames_per_packet = start + 8, 0.0, 0, 0
    valid_frames, found = 0, None
    while position + 12 <= len(data):
        name = bytes(data[position : position + 4])
        (size,) = struct.unpack_from(">q", data, position + 4)
        body = position + 12
        if name == b"desc" and body + 32 <= len(data):
            rate, bytes_per_packet, frames_per_packet = struct.unpack_from(">d8xII", data, body)
        elif name == b"pakt" and body + 16 <= len(data):
            (valid_frames,) = struct.unpack_from(">q", data, body + 8)
        elif name == b"data":
            per_second = rate * bytes_per_packet / frames_per_packet if frames_per_packet else 0
            found = make_sized_container("caf", max(0, size - 4), data, body + 4, per_second)
        if size < 0:
            break  # to the end of the file, as in a recording that was not finished
        position = body + size
    if found is None:
        return Container("caf", truncation="it ends before its audio data begin")
    if found.declared_seconds is None and valid_frames > 0 and rate > 0:
        return Container(
            "caf",
            declared_seconds=valid_frames / rate,
            # libsndfile 1.2.2 leaves out a last packet that is not full.
            tolerance_seconds=frames_per_packet / rate,
            truncation=found.truncation,
        )
    return found


def read_au(data: bytes, start: int) -> Container:
    """Reads the header of an AU file; see `read_riff`."""
    if len(data) < start + 24:
        return Container("au", truncation="it ends within its header")
    offset, size, encoding, rate, channels = struct.unpack_from(">5I", data, start + 4)
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0)
    size = size if size < _UNKNOWN_SIZE else 0
    return make_sized_container("au", size, data, start + offset, width * rate * channels)


def make_sized_container(
    name: str, size: int, data: bytes, place: int, per_second: float
) -> Container:
    """Returns the facts of a container that states the size of its data.

    Args:
        name: of the format.
        size: stated, in bytes; 0 states nothing.
        data: the file's content.
        place: where its audio begins.
        per_second: bytes; 0 where they differ from second to second.
    """
    there = max(0, len(data) - place)
    if not size:
        return Container(name)
    missing, end = size - there, place + size + size % 2
    if -missing > max(_FOREIGN_BYTES, _FOREIGN_SHARE * size):
        following = bytes(data[end : end + 4])
        is_named = all(0x20 <= byte < 0x7F for byte in following)  # another chunk, or a tag
        if not is_named and any(data[end : end + _FOREIGN_BYTES]):
            corruption = f"its header promises {size} bytes of audio, and {-missing} more follow"
            return Container(name, corruption=corruption)
    truncation = f"{missing} of its {size} bytes of audio are missing" if missing > 0 else ""
    if not per_second:
        return Container(name, truncation=truncation if missing > _SIZE_TOLERANCE_BYTES else "")
    return Container(
        name,
        declared_seconds=size / per_second,
        actual_seconds=min(size, there) / per_second,
        tolerance_seconds=min(_SIZE_TOLERANCE_BYTES, 0.01 * size) / per_second,
        truncation=truncation,
    )


def _parse_extended_float(number: bytes) -> float:
    """Returns the value of an 80-bit IEEE number, in which AIFF writes its sample rate."""
    exponent, mantissa = struct.unpack(">HQ", number)
    return mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446)
