"""A data set of tiny tracks that writes down which ones it makes, for tests of builds.

Also a program, so that it can be killed: `python -c "import toy_builds; toy_builds.main()" ...`
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time

import numpy as np

from musrep_jax.data.build.builder import BuildError, RefusedTrack, TrackBuilder, TrackRecord
from musrep_jax.data.specs import DatasetSpec

RATE = 1000


@dataclasses.dataclass(frozen=True)
class ToyTrack:
    """A planned track; what is said of it here happens when it is made."""

    track_id: str
    number: int
    failure_mode: str = ""


@dataclasses.dataclass(frozen=True)
class ToyLoader:
    """Makes noise, and notes in a log that it did."""

    log: pathlib.Path = dataclasses.field(repr=False)
    seconds: float = dataclasses.field(repr=False)

    def __call__(self, track):
        """Returns the track, unless its failure_mode is another."""
        with open(self.log, "a") as log:
            log.write(f"{track.track_id}\n")
        time.sleep(self.seconds)
        if track.failure_mode == "refused":
            return RefusedTrack(track.track_id, "cannot be used: it was refused.")
        if track.failure_mode == "error":
            raise BuildError("it cannot be built")
        if track.failure_mode:
            mark = self.log.with_name(track.failure_mode)
            if mark.exists():
                mark.unlink()
                os.kill(os.getpid(), getattr(signal, track.failure_mode))
        audio = np.random.default_rng(track.number).uniform(-2, 1, 50 + track.number)
        labels = ("loud",) if track.number % 2 else ("loud", "soft")
        return TrackRecord(track.track_id, f"group {track.number // 2}", labels, audio)


class ToyBuilder(TrackBuilder):
    """Tracks of noise in two splits; `failure_modes` says what happens to which number."""

    def __init__(
        self,
        *,
        log,
        num_tracks=40,
        seconds=0.0,
        failure_modes=None,
        estimate=None,
        content="",
        **kwargs,
    ):
        self.log, self.num_tracks, self.seconds = pathlib.Path(log), num_tracks, seconds
        self.failure_modes, self.estimate, self.content = failure_modes or {}, estimate, content
        super().__init__(sample_rate=RATE, **kwargs)

    def spec(self):
        return DatasetSpec(
            name="toy",
            label_names=("loud", "soft"),
            sample_rate=RATE,
            stored_form="pcm16",
            split_sizes={},
            licence="CC0",
            citation="none",
            description="noise of a test",
            fingerprint=f"{self.num_tracks} {self.content}",
        )

    def split_names(self):
        return ("train", "test")

    def list_tracks(self, split):
        return [
            ToyTrack(f"track {number}", number, self.failure_modes.get(number, ""))
            for number in range(self.num_tracks)
            if (number % 4 == 0) == (split == "test")
        ]

    def track_loader(self):
        return ToyLoader(self.log, self.seconds)

    def estimate_bytes(self):
        return self.estimate


def main():
    """Builds as its arguments say: DATA_DIR LOG NUM_TRACKS SECONDS WORKERS."""
    build(*sys.argv[1:])


def build(data_dir, log, num_tracks, seconds, workers):
    """Builds with settings given as text."""
    builder = ToyBuilder(
        data_dir=data_dir, log=log, num_tracks=int(num_tracks), seconds=float(seconds)
    )
    builder.build(num_workers=int(workers))


def serve():
    """Starts a build for every line of settings that comes, and prints its process id.

    A process that is ready to build, so that a test which kills twenty need not wait for imports.
    """
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            build(*line.split())
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
