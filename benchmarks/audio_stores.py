"""The same tracks in every form that `benchmarks/data.py` reads them from, made once in a folder.

files/FORM/00003.mp3     a file per track: what decoding is measured on
data/FORM/               a data set, built as all data sets of this project are
memmap/00003.npy         float32 at 16 kHz: what the PyTorch originals read
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus
from musrep_jax.tfds_builders.synthetic_cultures.synthetic_cultures_dataset_builder import (
    TrackRenderer,
)

from musrep_jax.data.audio.log_mel import FRONT_END
from musrep_jax.data.audio.reading import read_audio
from musrep_jax.data.audio.resampling import resample
from musrep_jax.data.build.builder import TrackBuilder
from musrep_jax.data.corpora.tracks import CorpusLoader, CorpusTrack
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import DatasetSpec

RATE = 16000
"""Of crops, in Hz."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How files are encoded.

    Attributes:
        suffix: of the files.
        sample_rate: in Hz.
        channels: 1 or 2.
        options: of `soundfile.SoundFile`.
    """

    suffix: str
    sample_rate: int
    channels: int
    options: dict[str, str]


ENCODINGS = {
    "mp3": Encoding("mp3", 44100, 2, {"format": "MP3"}),
    "mp3_16k": Encoding("mp3", 16000, 1, {"format": "MP3"}),
    "ogg": Encoding("ogg", 44100, 2, {"format": "OGG", "subtype": "VORBIS"}),
    "flac": Encoding("flac", 44100, 2, {"format": "FLAC", "subtype": "PCM_16"}),
    "wav": Encoding("wav", 44100, 2, {"format": "WAV", "subtype": "PCM_16"}),
}
"""As music is distributed; `mp3_16k` as MagnaTagATune is."""

FORMS = ("pcm16", "log_mel", *ENCODINGS)
_WRITE_FRAMES = 1 << 14
"""libsndfile overflows its stack when it is given long pieces of Vorbis."""


def make_files(folder: pathlib.Path, num_tracks: int, seconds: float) -> None:
    """Writes the files of every encoding and the float32 arrays, unless they stand already.

    Args:
        folder: to write into.
        num_tracks: of synthetic music, 3 or more.
        seconds: length of each, about.
    """
    import soundfile

    (folder / "memmap").mkdir(parents=True, exist_ok=True)
    corpus = make_corpus("western", num_tracks=num_tracks, seconds=seconds, sample_rate=44100)
    make = TrackRenderer(dataclasses.replace(corpus, tracks=()))
    for number, track in enumerate(corpus.tracks):
        last = folder / "memmap" / f"{number:05d}.npy"
        if last.is_file():
            continue
        mono = np.asarray(make(track).audio, np.float32)
        stereo = np.stack([mono, 0.8 * np.roll(mono, 300)], axis=1)
        for name, encoding in ENCODINGS.items():
            audio = stereo if encoding.channels == 2 else mono[:, None]
            audio = resample(audio, 44100, encoding.sample_rate)
            path = folder / "files" / name / f"{number:05d}.{encoding.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with soundfile.SoundFile(
                path, "w", encoding.sample_rate, encoding.channels, **encoding.options
            ) as file:
                for start in range(0, len(audio), _WRITE_FRAMES):
                    file.write(audio[start : start + _WRITE_FRAMES])
        wav = folder / "files/wav" / f"{number:05d}.wav"
        np.save(last, read_audio(wav, sample_rate=RATE)[0])


class StoreBuilder(TrackBuilder):
    """Builds the files of a folder in one stored form."""

    def __init__(self, *, data_dir: pathlib.Path, form: str) -> None:
        """Takes `wav` files for `pcm16` and `log_mel`, and the form's own otherwise."""
        self.form = form
        self.files = data_dir.parent / "files" / (form if form in ENCODINGS else "wav")
        super().__init__(data_dir=data_dir / form)

    def spec(self) -> DatasetSpec:
        """Returns the facts, as far as the benchmark needs them."""
        return DatasetSpec(
            name=self.form,
            label_names=("any",),
            sample_rate=RATE,
            stored_form="encoded" if self.form in ENCODINGS else self.form,
            split_sizes={},
            licence="generated",
            citation="none",
            description="The same tracks in another form.",
            front_end=dict(FRONT_END) if self.form == "log_mel" else None,
            is_synthetic=True,
            fingerprint=self.form,
        )

    def split_names(self) -> tuple[str, ...]:
        """Returns the one split."""
        return ("train",)

    def list_tracks(self, split: str) -> Sequence[CorpusTrack]:
        """Returns a track for every file."""
        names = sorted(path.name for path in self.files.iterdir())
        return [CorpusTrack(name, name, ("any",), split) for name in names]

    def track_loader(self) -> Callable[[CorpusTrack], Any]:
        """Returns the loader of all corpora."""
        return CorpusLoader(
            folder=self.files,
            stored_form=self.spec().stored_form,
            is_log_mel=False,
            sample_rate=RATE,
            max_seconds=None,
            group="",
            refused={},
        )


def open_tracks(folder: pathlib.Path, form: str) -> Tracks:
    """Returns the tracks of a form, built if need be, with nothing kept in memory.

    Args:
        folder: that `make_files` filled.
        form: one of `FORMS`.
    """
    directory = StoreBuilder(data_dir=folder / "data", form=form).build(num_workers=1)
    return Dataset(directory, cache_megabytes=0).tracks("train")
