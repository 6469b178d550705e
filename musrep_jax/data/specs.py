"""What a data set is and what a model wants to see of it, as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

SPLITS = ("train", "validation", "test")
UNLABELED = "unlabelled"
"""A further split of some data sets: tracks without labels, for training that uses them."""
ALL_SPLITS = (*SPLITS, UNLABELED)
STORED_FORMS = ("pcm16", "encoded", "log_mel")


@dataclasses.dataclass(frozen=True)
class ChunkSpec:
    """The excerpt that a model sees.

    Attributes:
        sample_rate: of the waveform, in Hz.
        num_samples: length of one chunk, in samples.
        front_end: the model's spectrogram settings as plain data (at least `hop_length` and
            `n_mels`), or None for a model that reads the waveform. A data set that stores only
            spectrograms must have been made with the same settings.
    """

    sample_rate: int
    num_samples: int
    front_end: Mapping[str, Any] | None = None

    @property
    def num_frames(self) -> int:
        """Number of centred spectrogram frames of one chunk: `1 + num_samples // hop_length`."""
        return 1 + self.num_samples // int(self.front_end["hop_length"])

    @property
    def seconds(self) -> float:
        """Length of one chunk in seconds."""
        return self.num_samples / self.sample_rate


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """The facts about a data set that travel with results and with exported models.

    Attributes:
        name: as in configs, e.g. `synthetic_cultures/makam`.
        label_names: in the order of the output units.
        sample_rate: in Hz, of the stored audio (or of the audio the spectrograms came from).
        stored_form: one of `STORED_FORMS`.
        front_end: spectrogram settings of a `log_mel` data set, else None.
        split_sizes: tracks per split.
        licence: of the audio and labels.
        citation: BibTeX or a sentence.
        description: one or two sentences.
        is_synthetic: True when the audio was generated; results must say so.
        fingerprint: changes whenever the content changes.
    """

    name: str
    label_names: tuple[str, ...]
    sample_rate: int
    stored_form: str
    split_sizes: Mapping[str, int]
    licence: str
    citation: str
    description: str
    front_end: Mapping[str, Any] | None = None
    is_synthetic: bool = False
    fingerprint: str = ""
