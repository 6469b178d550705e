"""Writing audio as small files, for pages that carry it with them."""

import io

import numpy as np

_BLOCK_SAMPLES = 1 << 14
"""libsndfile's Vorbis encoder overflows the stack on much longer pieces."""


def compress(audio: np.ndarray, sample_rate: int) -> tuple[bytes, str]:
    """Returns audio as a small file and its media type: Ogg/Vorbis, else FLAC.

    Args:
        audio: float32 (samples,), in [-1, 1]; values outside are clipped.
        sample_rate: in Hz.
    """
    import soundfile

    has_vorbis = "VORBIS" in soundfile.available_subtypes("OGG")
    kind, subtype = ("OGG", "VORBIS") if has_vorbis else ("FLAC", "PCM_16")
    clipped = np.clip(audio, -1.0, 1.0)
    content = io.BytesIO()
    with soundfile.SoundFile(
        content, "w", sample_rate, channels=1, format=kind, subtype=subtype
    ) as file:
        for first in range(0, len(clipped), _BLOCK_SAMPLES):
            file.write(clipped[first : first + _BLOCK_SAMPLES])
    return content.getvalue(), f"audio/{kind.lower()}"
