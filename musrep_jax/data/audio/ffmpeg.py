"""Decoding by the ffmpeg program, as a stream: what libsndfile does not read.

The program is the one on the PATH, else that of the package `imageio-ffmpeg` (extra `ffmpeg`). It
is told which demuxer to use and may open nothing but the file itself: left to guess, it would take
text for a playlist and play what that names.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
from typing import Any

import numpy as np

from musrep_jax.data.audio.errors import AudioError
from musrep_jax.data.audio.formats import DEMUXERS

FFMPEG_ADVICE = 'pip install "musrep_jax[ffmpeg]", or put an ffmpeg program on the PATH'
_AU_HEADER = ">4s5I"
_SECONDS_TO_END = 5
_MAX_FILLING_SECONDS = 0.25
"""More behind a stated end is no filling of a frame: then what was stated is wrong."""
_PREFIXES = re.compile(r"^(\[[^\]]*\] *)+")


def find_ffmpeg() -> str | None:
    """Returns the path of an ffmpeg program; None if it is not installed."""
    return shutil.which("ffmpeg") or _find_installed_ffmpeg()


def _find_installed_ffmpeg() -> str | None:
    """Returns the program that `imageio-ffmpeg` brings; None without the package."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:  # the package was installed from source, without the program
        return None
    return program if os.access(program, os.X_OK) else None


class FfmpegFile:
    """Audio that ffmpeg decodes while it is read; used as an open `soundfile.SoundFile` is.

    Decoding stays close to reading: the pipe between the two holds a few kilobytes.

    Attributes:
        samplerate: in Hz.
        channels: number of them.
        frames: its length in frames at most; what it is comes out at the end.
        format: as in `formats.SUFFIXES`.
        subtype: "FFMPEG".
    """

    subtype = "FFMPEG"
    frames = 1 << 62

    def __init__(
        self,
        program: str,
        source: pathlib.Path | bytes,
        name: str,
        audio_format: str,
        end_seconds: float | None = None,
    ) -> None:
        """Starts the program and reads until it says what comes.

        Args:
            program: path of ffmpeg.
            source: path of a file, or the bytes of one.
            name: what to call it in messages.
            audio_format: a key of `DEMUXERS`.
            end_seconds: where the recording ends by its container. Whether the filling behind it
                comes out of the program depends on its version.

        Raises:
            AudioError: if the program cannot decode it.
        """
        self.format = audio_format
        self._program, self._source, self._name = program, source, name
        self._end_seconds = end_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._path: pathlib.Path | None = None
        self._files, self._run = contextlib.ExitStack(), contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        if self._path is None and isinstance(self._source, bytes):
            # A file, not a pipe: the index of an mp4 may stand at its end.
            folder = self._files.enter_context(tempfile.TemporaryDirectory())
            self._path = pathlib.Path(folder, "encoded")
            self._path.write_bytes(self._source)
        path = self._path or self._source
        command = [self._program, "-nostdin", "-hide_banner", "-v", "error", "-threads", "1"]
        command += ["-protocol_whitelist", "file", "-f", DEMUXERS[self.format]]
        command += ["-i", f"file:{path.absolute()}", "-map", "0:a:0"]
        command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        with contextlib.ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._run = stack.pop_all()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
        self._position, self._end, self._ahead = 0, self.frames, b""
        header = self._read_bytes(struct.calcsize(_AU_HEADER))
        if len(header) < struct.calcsize(_AU_HEADER):
            raise self._make_error()
        _, offset, _, _, self.samplerate, self.channels = struct.unpack(_AU_HEADER, header)
        self._read_bytes(offset - len(header))
        if self._end_seconds is not None and self.samplerate:
            self._end = round(self._end_seconds * self.samplerate)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Returns the next frames, float32 (frames, channels); fewer only at the end.

        Raises:
            AudioError: if the program gives up.
        """
        width = 4 * self.channels
        content = self._read_bytes(frames * width)
        if len(content) < frames * width and self._process.wait() != 0:
            raise self._make_error()
        whole = len(content) // width * width
        if self._position + whole // width > self._end:
            self._check_end(self._position + whole // width)
        kept = min(whole // width, max(0, self._end - self._position))
        self._position += whole // width
        samples = np.frombuffer(content, ">f4", kept * self.channels).astype(dtype)
        return samples.reshape(-1, self.channels)

    def seek(self, frame: int) -> int:
        """Decodes up to a frame, from the start if it lies before; returns it."""
        if frame < self._position:
            self._stop()
            self._start()
        while self._position < frame and len(self.read(min(1 << 18, frame - self._position))):
            pass
        return frame

    def seekable(self) -> bool:
        """Returns whether `seek` costs less than decoding on."""
        return False

    def close(self) -> None:
        """Ends the program and removes its temporary files."""
        self._stop()
        self._files.close()

    def __enter__(self) -> "FfmpegFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _read_bytes(self, size: int) -> bytes:
        begin, self._ahead = self._ahead[: max(0, size)], self._ahead[max(0, size) :]
        rest = size - len(begin)
        return begin + self._process.stdout.read(rest) if rest > 0 else begin

    def _check_end(self, position: int) -> None:
        """Reads ahead from a frame past the stated end, which no longer counts if much follows."""
        most = self._end + round(_MAX_FILLING_SECONDS * self.samplerate)
        width = 4 * self.channels
        self._ahead = self._read_bytes(max(0, most + 1 - position) * width)
        if position + len(self._ahead) // width > most:
            self._end = self.frames

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.stdout.close()
            process.wait()
        self._run.close()

    def _make_error(self) -> AudioError:
        """Returns the error that the program ended with."""
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            code = "none"
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        # The first line names the cause; before it stand the part of ffmpeg and an address.
        why = _PREFIXES.sub("", said[0]).strip().rstrip(".") if said else f"exit status {code}"
        return AudioError(self._name, f"cannot be read: ffmpeg cannot decode it ({why}).")
