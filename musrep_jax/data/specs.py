"""What a data set is and what a model wants to see of it, as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from musrep_jax.runtime.suggestions import suggest_name

SPLITS = ("train", "validation", "test")
UNLABELED = "unlabelled"
"""A further split of some data sets: tracks without labels, for training that uses them."""
ALL_SPLITS = (*SPLITS, UNLABELED)
LABELS = "labels"
"""The target set that every data set has."""
_OPTIONAL = ("target_sets", "has_texts")
"""Facts that most data sets do not have, and that are not written then."""
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
        """Number of centered spectrogram frames of one chunk: `1 + num_samples // hop_length`."""
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
        label_names: in the order of the output units: the target set "labels", which every data
            set has.
        sample_rate: in Hz, of the stored audio (or of the audio the spectrograms came from).
        stored_form: one of `STORED_FORMS`.
        front_end: spectrogram settings of a `log_mel` data set, else None.
        split_sizes: tracks per split.
        licence: of the audio and labels.
        citation: BibTeX or a sentence.
        description: one or two sentences.
        is_synthetic: True when the audio was generated; results must say so.
        fingerprint: changes whenever the content changes.
        target_sets: further things to learn of a track: name -> names of its columns. Their rows
            may be soft, such as probabilities of artist groups.
        has_texts: whether tracks have a text, such as a caption.
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
    target_sets: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    has_texts: bool = False

    def __post_init__(self) -> None:
        """Checks the names of the target sets.

        Raises:
            ValueError: if a target set is called "labels", or has no columns or one of them twice.
        """
        for name, columns in self.target_sets.items():
            if name == LABELS:
                raise ValueError(
                    f"a target set of data set {self.name!r} is called {LABELS!r}, which stands "
                    "for `label_names`; give it another name."
                )
            if not columns or len(set(columns)) != len(columns):
                raise ValueError(
                    f"the target set {name!r} of data set {self.name!r} has no columns, or one of "
                    "them twice; name each once."
                )

    def target_names(self, name: str = LABELS) -> tuple[str, ...]:
        """Returns the names of the columns of a target set.

        Args:
            name: of the set; "labels" for `label_names`.

        Raises:
            ValueError: if there is none of that name; the message lists those there are.
        """
        sets = {LABELS: self.label_names, **self.target_sets}
        if name not in sets:
            raise ValueError(
                f"data set {self.name!r} has no target set {name!r}.{suggest_name(name, sets)} It "
                f"has {', '.join(sets)}."
            )
        return tuple(sets[name])

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts as plain data, without what a data set does not have."""
        facts = dataclasses.asdict(self)
        return {key: facts[key] for key in facts if key not in _OPTIONAL or facts[key]}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "DatasetSpec":
        """Returns the spec of what `to_dict` returned, also after it was JSON."""
        sets = {name: tuple(columns) for name, columns in facts.get("target_sets", {}).items()}
        facts = {**facts, "label_names": tuple(facts["label_names"]), "target_sets": sets}
        return cls(**facts)
