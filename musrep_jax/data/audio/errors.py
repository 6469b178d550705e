"""The error of audio that cannot be used, and what it says in cases that several readers meet."""


class AudioError(ValueError):
    """Audio cannot be used; the message is one sentence that names the file and the reason.

    Attributes:
        reason: the sentence without the name of the file.
        needs_ffmpeg: whether an ffmpeg program, which is not there, may read it.
    """

    def __init__(self, name: str, reason: str, needs_ffmpeg: bool = False) -> None:
        super().__init__(f"{name} {reason}")
        self.reason = reason
        self.needs_ffmpeg = needs_ffmpeg


def make_no_audio_error(name: str) -> AudioError:
    """Returns the error of a file that opens and has no frames."""
    return AudioError(name, "cannot be used: it holds no audio (0 frames were decoded).")


def make_too_short_error(name: str, num_frames: int, from_rate: int, to_rate: int) -> AudioError:
    """Returns the error of audio of which resampling leaves nothing.

    Args:
        name: of the file.
        num_frames: that it has.
        from_rate: its own sample rate in Hz.
        to_rate: wanted, in Hz.
    """
    return AudioError(
        name,
        f"cannot be used: it is too short, its {num_frames} sample(s) at {from_rate} Hz are none "
        f"at {to_rate} Hz.",
    )


def make_not_finite_error(name: str) -> AudioError:
    """Returns the error of audio with samples that are no numbers."""
    return AudioError(name, "cannot be used: it holds samples that are not finite (NaN, Inf).")
