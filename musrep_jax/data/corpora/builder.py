"""Base class of real corpora: a folder provided by the user, with published labels and splits.

A corpus declares its facts (`LABEL_SETS`, `SPLIT_CARDS`, `FORMS`, `FILES`, license) and
writes one function, `read_tracks`, which reads its metadata. From these come its configs, one for
each label set, split and stored form, its builds, its split cards, its leakage report, what
`musrep download` fetches and what `musrep doctor` looks at.

A config is called LABELS-SPLIT-FORM; the first is the default:

    magnatagatune                       the same as magnatagatune/top50-cleaned-pcm16
    mtg_jamendo/moodtheme-split2-encoded
"""

import abc
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import pathlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from musrep_jax.data.audio.log_mel import FRONT_END
from musrep_jax.data.build.builder import BuildError, TrackBuilder
from musrep_jax.data.corpora.files import CorpusFiles
from musrep_jax.data.corpora.tracks import (
    CorpusLoader,
    CorpusTrack,
    SplitCard,
    count_labels,
    find_shared_sources,
    label_matrix,
)
from musrep_jax.data.dataset_files import read_spec
from musrep_jax.data.datasets import default_data_dir
from musrep_jax.data.doctor.quarantine import quarantine_path, read_quarantine
from musrep_jax.data.download.files import SourceFile
from musrep_jax.data.specs import ALL_SPLITS, UNLABELED, DatasetSpec
from musrep_jax.data.splits import FRACTIONS, make_splits, missing_labels
from musrep_jax.runtime.names import find_path, normalize_name

GENERATED_SPLIT = "made"
"""What `read_tracks` gives as the split of a track whose split is made here, by groups. Parts that
it gives itself (a published test part, say) stay as they are; the others are made of the rest."""

_MAX_MISSING_SHARE = 0.5
_MAX_LISTED_NAMES = 3


class CorpusBuilder(CorpusFiles, TrackBuilder):
    """Base class of the real corpora.

    A subclass sets the class attributes below and writes `read_tracks`.

    Attributes:
        folder: the corpus' folder.
        label_set: name of the label set of this config.
        split_name: name of the split of this config.
        stored_form: of this config.
    """

    CAN_BUILD_AUTOMATICALLY = False

    NAME = ""
    """As in `DATASETS`."""
    TITLE = ""
    """One sentence: what it is."""
    LICENCE = ""
    LABEL_SETS: Mapping[str, tuple[str, ...]] = {}
    """Name -> labels in the published order; the first is the default."""
    SPLIT_CARDS: Mapping[str, SplitCard] = {}
    """Name -> card; the first is the default."""
    FORMS: tuple[str, ...] = ("pcm16", "encoded", "log_mel")
    """Stored forms that can be built; the first is the default."""
    IS_LOG_MEL = False
    """Whether the corpus is distributed as log-mel spectrograms (.npy) instead of audio."""
    FILES: tuple[SourceFile, ...] = ()
    """The files that belong in the folder."""
    GROUP = ""
    """Kind of source that stands as the group of a track; "" for the track itself."""
    MAX_SECONDS: float | None = None
    """Seconds used of a recording, from its start."""
    KNOWN_BAD: Mapping[str, str] = {}
    """Path -> reason why this file is known not to be usable."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes the configs of a corpus from its label sets, splits and stored forms."""
        super().__init_subclass__(**kwargs)
        cls.BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(
                name=f"{labels}-{split}-{form}", description=f"{labels} labels, {split} split"
            )
            for labels in cls.LABEL_SETS
            for split, card in cls.SPLIT_CARDS.items()
            if not card.labels or labels in card.labels
            for form in cls.FORMS
        ]

    def __init__(
        self,
        *,
        data_dir: str | pathlib.Path,
        config: str | tfds.core.BuilderConfig | None = None,
        folder: str | pathlib.Path | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Describes the data set; neither metadata nor audio are touched yet.

        Args:
            data_dir: root folder of the built data sets.
            config: LABELS-SPLIT-FORM; None for the first.
            folder: that holds the corpus; None for `corpus_folder(data_dir, NAME)`.
            sample_rate: in Hz, of the form `pcm16`; the others have one of their own.
            seed: of a split that is made here; published splits do not depend on it.

        Raises:
            ValueError: if there is no such config.
        """
        chosen = config.name if isinstance(config, tfds.core.BuilderConfig) else config
        chosen = chosen or self.BUILDER_CONFIGS[0].name
        parts = chosen.split("-")
        self.label_set, self.split_name, self.stored_form = (*parts, "", "")[:3]
        self.folder = pathlib.Path(folder or corpus_folder(data_dir, self.NAME)).expanduser()
        self.quarantine_file = quarantine_path(data_dir, self.NAME)
        card = self.SPLIT_CARDS.get(self.split_name)
        super().__init__(
            data_dir=data_dir,
            config=config,
            sample_rate=sample_rate if self.stored_form == "pcm16" else None,
            seed=seed if card is not None and card.is_generated else None,
        )
        self.DOWNLOAD_HINT = self._format_download_hint(config, data_dir)

    def _format_download_hint(self, config: Any, data_dir: str | pathlib.Path) -> str:
        """Returns the sentence with the two commands, for just this config, rate, seed and root."""
        root = pathlib.Path(data_dir).expanduser()
        options = "" if root == default_data_dir() else f" --data-dir {shlex.quote(str(root))}"
        build = f"{self.NAME}/{self.config_name}" if config else self.NAME
        if self.sample_rate != self.DEFAULT_SAMPLE_RATE:
            options += f" --sample-rate {self.sample_rate}"
        if self.seed != self.DEFAULT_SEED:
            options += f" --seed {self.seed}"
        return (
            f"Get its files with `musrep download {self.NAME}`, then run "
            f"`musrep build {build}{options}`."
        )

    @abc.abstractmethod
    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns every track of a split, from the metadata in `folder`.

        Args:
            label_set: a key of `LABEL_SETS`.
            split_name: a key of `SPLIT_CARDS`. For one that is made here, the split of a track is
                `GENERATED_SPLIT`, and it must have the source that the card names.

        Raises:
            BuildError: if the metadata are not there or not as they should be; `read_text` and
                `need` say what is missing and how to get it.
        """

    # The facts.

    @property
    def card(self) -> SplitCard:
        """The card of this config's split."""
        return self.SPLIT_CARDS[self.split_name]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of this config in their published order."""
        return tuple(map(normalize_name, self.LABEL_SETS[self.label_set]))

    def spec(self) -> DatasetSpec:
        """Returns the facts about this config.

        The fingerprint covers the selection and, after a dash, the quarantine list. It does not
        cover the content of the folder: a built data set can be moved to where no corpus is.
        """
        is_log_mel = self.stored_form == "log_mel"
        chosen = [self.NAME, str(self.VERSION), self.config_name, self.sample_rate, self.seed]
        choice = _digest([*chosen, self.MAX_SECONDS, self.label_names])
        quarantined = sorted(read_quarantine(self.quarantine_file))
        return DatasetSpec(
            name=f"{self.NAME}/{self.config_name}",
            label_names=self.label_names,
            sample_rate=FRONT_END["sample_rate"] if is_log_mel else self.sample_rate,
            stored_form=self.stored_form,
            split_sizes={},
            licence=self.LICENCE,
            citation=self._read_sibling_file("CITATIONS.bib"),
            description=f"{self.TITLE} Split {self.split_name}: {self.card.rule}",
            front_end=dict(FRONT_END) if is_log_mel else None,
            fingerprint=f"{choice}-{_digest(quarantined)[:8]}" if quarantined else choice,
        )

    def is_built(self) -> bool:
        """Returns whether it is built, even with another quarantine list.

        The list stays behind when a built data set is moved; `build` takes a new one into account.
        """
        stored = read_spec(self.directory)
        wanted = self.spec().fingerprint.partition("-")[0]
        return stored is not None and stored.fingerprint.partition("-")[0] == wanted

    def _read_sibling_file(self, name: str) -> str:
        folder = pathlib.Path(inspect.getfile(type(self))).parent
        return (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""

    # The tracks.

    @functools.cached_property
    def tracks(self) -> tuple[CorpusTrack, ...]:
        """All tracks of this config, in the order of their ids, with labels of its label set only.

        Raises:
            BuildError: from `read_tracks`, or if a split that is made here lacks its groups.
        """
        used = set(self.label_names)
        found = [
            dataclasses.replace(
                track,
                labels=tuple(
                    dict.fromkeys(n for n in map(normalize_name, track.labels) if n in used)
                ),
                sources={kind: normalize_name(name) for kind, name in track.sources.items()},
            )
            for track in self.read_tracks(self.label_set, self.split_name)
        ]
        found.sort(key=lambda track: track.track_id)
        if not found:
            raise BuildError(f"the metadata of {self.NAME} in {self.folder} list no track.")
        if self.card.is_generated:
            found = self._assign_generated_splits(found)
        return tuple(found)

    def _assign_generated_splits(self, tracks: Sequence[CorpusTrack]) -> list[CorpusTrack]:
        """Returns the tracks with a split each: those that none was given get one of the parts
        that are not given, by groups."""
        given = {track.split for track in tracks}
        fractions = {split: share for split, share in FRACTIONS.items() if split not in given}
        made = [track for track in tracks if track.split == GENERATED_SPLIT]
        splits = make_splits(
            [self._group_for_split(track) for track in made],
            label_matrix(made, self.label_names),
            seed=self.seed,
            fractions=fractions,
        )
        split_of = {track.track_id: split for track, split in zip(made, splits, strict=True)}
        return [
            dataclasses.replace(track, split=split_of.get(track.track_id, track.split))
            for track in tracks
        ]

    def _group_for_split(self, track: CorpusTrack) -> str:
        group = track.sources.get(self.card.disjoint_by, "")
        return f"{self.card.disjoint_by} {group}" if group else f"track {track.track_id}"

    def list_all_tracks(self) -> Sequence[CorpusTrack]:
        """Returns the tracks of all splits, for the doctor."""
        return self.tracks

    def split_names(self) -> tuple[str, ...]:
        """Returns the splits that have a track."""
        there = {track.split for track in self.tracks}
        return tuple(split for split in ALL_SPLITS if split in there)

    def list_tracks(self, split: str) -> Sequence[CorpusTrack]:
        """Returns the tracks of a split.

        Raises:
            BuildError: if most of the corpus' files are missing.
        """
        self._check_files_exist()
        return [track for track in self.tracks if track.split == split]

    def track_loader(self) -> "CorpusLoader":
        """Returns what decodes a track; it can be sent to another process."""
        return CorpusLoader(
            folder=self.folder,
            stored_form=self.stored_form,
            is_log_mel=self.IS_LOG_MEL,
            sample_rate=FRONT_END["sample_rate"]
            if self.stored_form == "log_mel"
            else self.sample_rate,
            max_seconds=self.MAX_SECONDS,
            group=self.GROUP,
            refused={
                **self.KNOWN_BAD,
                **{
                    path: f"is quarantined by musrep doctor: {reason}"
                    for path, reason in read_quarantine(self.quarantine_file).items()
                },
            },
        )

    def estimate_bytes(self) -> int | None:
        """Returns about how large the built data set will be; None where lengths are unknown."""
        if self.stored_form == "encoded":
            paths = (self.folder / track.path for track in self.tracks)
            return sum(path.stat().st_size for path in paths if os.path.isfile(path))
        seconds = [track.seconds or self.MAX_SECONDS for track in self.tracks]
        if any(length is None for length in seconds):
            return None
        if self.MAX_SECONDS is not None:
            seconds = [min(length, self.MAX_SECONDS) for length in seconds]
        if self.stored_form == "log_mel":
            per_second = FRONT_END["sample_rate"] / FRONT_END["hop_length"] * FRONT_END["n_mels"]
            return int(2 * per_second * sum(seconds))
        return int(2 * self.sample_rate * sum(seconds))

    def extra_report_fields(self) -> dict[str, Any]:
        """Returns the split's card, label counts and leakage, and notes in words."""
        return {
            "split": {"name": self.split_name, **dataclasses.asdict(self.card)},
            "positives": count_labels(self.tracks, self.label_names),
            "leakage": find_shared_sources(self.tracks),
            "notes": [*self._notes()],
        }

    def _notes(self) -> list[str]:
        notes = []
        sizes = Counter(track.split for track in self.tracks)
        differing = [
            f"{split} {sizes[split]} instead of {size}"
            for split, size in self.card.sizes.items()
            if sizes[split] != size
        ]
        if differing:
            notes.append(f"sizes differ from the published ones: {', '.join(differing)}.")
        for kind, shared in find_shared_sources(self.tracks).items():
            if shared:
                names = _abbreviate_names([row["group"] for row in shared])
                notes.append(f"LEAKAGE by {kind}: {len(shared)} in more than one split ({names}).")
        matrix = label_matrix(self.tracks, self.label_names)
        splits = [track.split for track in self.tracks]
        for split, names in missing_labels(matrix, self.label_names, splits).items():
            if names and split != UNLABELED:
                notes.append(
                    f"labels without a track in {split}: {len(names)} ({_abbreviate_names(names)})."
                )
        return notes

    def _check_files_exist(self) -> None:
        missing = [
            t.path for t in self.tracks if not os.path.isfile(find_path(self.folder, t.path))
        ]
        if len(missing) > _MAX_MISSING_SHARE * len(self.tracks):
            raise BuildError(
                f"{len(missing)} of the {len(self.tracks)} files of {self.NAME} are not in "
                f"{self.folder} ({', '.join(missing[:_MAX_LISTED_NAMES])}, ...). `musrep download "
                f"{self.NAME}` says how to get them; give another place with --folder."
            )


def _abbreviate_names(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_LISTED_NAMES]) + ", ..." * (len(names) > _MAX_LISTED_NAMES)


def corpus_folder(data_dir: str | pathlib.Path, name: str) -> pathlib.Path:
    """Returns the default folder of a corpus' files.

    Args:
        data_dir: root folder of the built data sets.
        name: of the corpus.
    """
    return pathlib.Path(data_dir).expanduser() / "corpora" / name


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode("utf-8")).hexdigest()
