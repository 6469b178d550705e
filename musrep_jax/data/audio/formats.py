"""Audio formats, their decoders, and the information in file headers."""

import dataclasses

SUFFIXES = {
    "wav": (".wav", ".wave", ".bwf", ".rf64"),
    "aiff": (".aif", ".aifc", ".aiff"),
    "au": (".au", ".snd"),
    "flac": (".flac",),
    "ogg": (".ogg", ".oga", ".opus", ".spx", ".oggflac"),
    "mpeg": (".mp3", ".mp2", ".mp1", ".mpga"),
    "mp4": (".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".m4r"),
    "adts": (".aac",),
    "asf": (".wma", ".asf"),
    "matroska": (".mka", ".mkv", ".webm", ".weba"),
    "ac3": (".ac3",),
    "eac3": (".eac3", ".ec3"),
    "wavpack": (".wv",),
    "tta": (".tta",),
    "ape": (".ape",),
    "amr": (".amr", ".awb"),
    "dsf": (".dsf",),
    "dts": (".dts",),
    "caf": (".caf",),
    "w64": (".w64",),
}
"""Format -> suffixes that such a file may have."""
_VIDEO_SUFFIXES = (".mkv", ".mov", ".asf", ".3gp")
AUDIO_SUFFIXES = tuple(
    suffix for suffixes in SUFFIXES.values() for suffix in suffixes if suffix not in _VIDEO_SUFFIXES
)
"""By which the recordings of a folder are found; a video is taken where it is named itself."""
TITLES = {
    "mp4": "MP4/M4A (AAC, ALAC)",
    "adts": "AAC",
    "asf": "WMA",
    "matroska": "Matroska/WebM",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "wavpack": "WavPack",
    "tta": "True Audio",
    "ape": "Monkey's Audio",
    "amr": "AMR",
    "dsf": "DSD (DSF)",
    "dts": "DTS",
}
"""Formats that ffmpeg reads and libsndfile does not -> their display names."""
FFMPEG_FORMATS = tuple(TITLES)
DEMUXERS = {
    "mp4": "mov",
    "adts": "aac",
    "wavpack": "wv",
    "mpeg": "mp3",
    **{
        name: name for name in ("asf", "matroska", "ac3", "eac3", "tta", "ape", "amr", "dsf", "dts")
    },
    **{name: name for name in ("wav", "aiff", "au", "flac", "ogg", "caf", "w64")},
}
"""Format -> the one demuxer that ffmpeg may use for it: none follows a reference out of the file,
as those of playlists do."""


@dataclasses.dataclass(frozen=True)
class Container:
    """Information from a file's headers.

    Attributes:
        format: a key of `SUFFIXES`, or "" when it is none of them.
        foreign: what it is instead, in words, where that is plain to see.
        declared_seconds: length that the headers state; None where they state none.
        actual_seconds: length of the data present; None where it is known only after decoding.
        tolerance_seconds: what the actual or the decoded length may lack without meaning anything.
        truncation: how the end can be seen to be missing, in words; "".
        corruption: how something can be seen to be missing on the way, in words; "".
        is_estimate: whether the length that a decoder announces is a guess: an mp3 of variable bit
            rate without a header that states it.
        junk: bytes before the first audio that are no tag.
        end_seconds: where the recording ends by its container, beyond which what a decoder gives is
            its encoder's filling of the last frame; None where it does not say.
        padding_seconds: delay and padding that decoders leave out of the actual length.
    """

    format: str
    foreign: str = ""
    declared_seconds: float | None = None
    actual_seconds: float | None = None
    tolerance_seconds: float = 0.0
    truncation: str = ""
    corruption: str = ""
    is_estimate: bool = False
    junk: int = 0
    end_seconds: float | None = None
    padding_seconds: float = 0.0
