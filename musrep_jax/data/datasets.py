"""The table of data sets, and how one is opened by its name."""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import os
import pathlib
import sys
from typing import Any

from musrep_jax.data.dataset_files import read_report, read_spec
from musrep_jax.data.deformed.deformations import (
    Deformation,
    DeformationError,
    split_deformation,
)
from musrep_jax.data.deformed.tracks import DeformedStore
from musrep_jax.data.input.tracks import Tracks, TrackStore
from musrep_jax.data.specs import SPLITS, DatasetSpec
from musrep_jax.runtime.places import default_data_dir as default_data_dir
from musrep_jax.runtime.suggestions import suggest_name

BUILDERS = "musrep_jax.tfds_builders"
DATASETS = {
    "artists_1517": ".artists_1517.artists_1517_dataset_builder:Builder",
    "audio_folder": ".audio_folder.audio_folder_dataset_builder:Builder",
    "carnatic": ".carnatic.carnatic_dataset_builder:Builder",
    "dcase2017_task4": ".dcase2017_task4.dcase2017_task4_dataset_builder:Builder",
    "fma": ".fma.fma_dataset_builder:Builder",
    "gtzan": ".gtzan.gtzan_dataset_builder:Builder",
    "hindustani": ".hindustani.hindustani_dataset_builder:Builder",
    "homburg": ".homburg.homburg_dataset_builder:Builder",
    "lyra": ".lyra.lyra_dataset_builder:Builder",
    "magnatagatune": ".magnatagatune.magnatagatune_dataset_builder:Builder",
    "million_song": ".million_song.million_song_dataset_builder:Builder",
    "mtg_jamendo": ".mtg_jamendo.mtg_jamendo_dataset_builder:Builder",
    "speech_commands": ".speech_commands.speech_commands_dataset_builder:Builder",
    "synthetic_cultures": ".synthetic_cultures.synthetic_cultures_dataset_builder:Builder",
    "turkish_makam": ".turkish_makam.turkish_makam_dataset_builder:Builder",
    "unique": ".unique.unique_dataset_builder:Builder",
}
"""Name of the data set -> its TFDS builder, "module:class" in `BUILDERS`. `name/config` chooses a
config, `audio_folder:FOLDER` a folder."""

DEFAULT_CACHE_MEGABYTES = 1024.0


class DatasetError(ValueError):
    """A data set cannot be opened as asked; the message is one sentence that says why."""


class Dataset:
    """A built data set.

    Attributes:
        spec: the `DatasetSpec`.
        directory: where it is stored.
        deformation: of every track, or None.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        sample_rate: int | None = None,
        cache_megabytes: float = DEFAULT_CACHE_MEGABYTES,
        deformation: Deformation | None = None,
        seed: int = 0,
        keeps_deformed: bool = True,
    ) -> None:
        """Opens a directory that a builder made.

        Args:
            directory: of the built data set.
            sample_rate: rate in Hz that an `encoded` data set is resampled to as it is read; None
                for its own. Other data sets keep the rate that they are stored at.
            cache_megabytes: memory for decoded audio, per split; 0 keeps none.
            deformation: of every track, or None.
            seed: of a deformation that is random.
            keeps_deformed: whether deformed tracks are kept beside the data, for later runs.

        Raises:
            DatasetError: if there is no built data set.
        """
        spec = read_spec(directory)
        if spec is None:
            raise DatasetError(f"{directory} holds no built data set (no metadata.json).")
        self.directory = pathlib.Path(directory)
        self._stored_rate = spec.sample_rate
        if sample_rate and spec.stored_form == "encoded":
            spec = dataclasses.replace(spec, sample_rate=int(sample_rate))
        self.spec: DatasetSpec = spec
        self.deformation, self._seed, self._keeps = deformation, seed, keeps_deformed
        self._cache_megabytes = cache_megabytes
        self._stores: dict[str, TrackStore] = {}

    def deformed(self, deformation: Deformation, seed: int = 0) -> "Dataset":
        """Returns the same data set with every track deformed when it is read; none is kept.

        Args:
            deformation: of every track.
            seed: of a deformation that is random.

        Raises:
            DatasetError: if the tracks are deformed already, or are spectrograms.
        """
        if self.deformation is not None:
            raise DatasetError(
                f"data set {self.spec.name!r} is deformed by {self.deformation.name} already, and "
                f"{deformation.name} would come on top: name it without."
            )
        check_deformable(self.spec, deformation)
        return Dataset(
            self.directory,
            sample_rate=self.spec.sample_rate,
            cache_megabytes=self._cache_megabytes,
            deformation=deformation,
            seed=seed,
            keeps_deformed=False,
        )

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """The build report: refused tracks with reasons, leakage, notes."""
        return read_report(self.directory)

    def tracks(self, split: str) -> Tracks:
        """Returns the tracks of a split.

        Args:
            split: "train", "validation", "test", or "unlabelled" where there is such a part.

        Raises:
            DatasetError: if the data set has no such split, or no track of it has a label.
        """
        if split not in self.spec.split_sizes:
            raise DatasetError(
                f"data set {self.spec.name!r} has no split {split!r}; it has "
                f"{', '.join(self.spec.split_sizes)}."
            )
        store = self._store(split)
        matrices = (store.label_matrix, *store.targets.values())
        if split in SPLITS and not any(matrix.any() for matrix in matrices):
            raise DatasetError(
                f"no track in split {split!r} of data set {self.spec.name!r} has a label, so "
                "nothing can be learned or measured on it; label some of its tracks."
            )
        return Tracks(store)

    def _store(self, split: str) -> TrackStore:
        """Returns the store of a split, opened once."""
        if split not in self._stores:
            store = TrackStore(self.directory, split, self.spec, self._cache_megabytes)
            if self.spec.sample_rate != self._stored_rate:
                ratio = self.spec.sample_rate / self._stored_rate
                store.num_samples = (store.num_samples * ratio).astype(store.num_samples.dtype)
            if self.deformation is not None:
                store = DeformedStore(store, self.deformation, self._seed, keeps=self._keeps)
            self._stores[split] = store
        return self._stores[split]

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Identifies this content, independent of the time and place of the build.

        `fingerprint` of all of it, and `splits`: split -> hashes of its `tracks` (ids), `labels`,
        `groups` and `records` (all of that with the audio), and of further target sets and `texts`
        where there are any. Times and places of files do not count.
        """
        facts: list[Any] = [self.spec.label_names, self.spec.sample_rate, self.spec.stored_form]
        names = _hash_json(facts + ([self.spec.target_sets] if self.spec.target_sets else []))
        splits = {split: self._store(split).hash_content() for split in self.spec.split_sizes}
        return {"fingerprint": _hash_json([names, splits]), "splits": splits}

    def facts(self) -> dict[str, Any]:
        """Returns what tells two copies of a data set apart, in processes that share a training."""
        return {"build": self.spec.fingerprint, **self.identity}

    def __repr__(self) -> str:
        return f"Dataset({self.spec.name}, {dict(self.spec.split_sizes)})"


def _hash_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def load_builder_class(name: str) -> type:
    """Returns the TFDS builder class of a data set, importing it.

    Args:
        name: key of `DATASETS`.

    Raises:
        DatasetError: if there is no such data set; the message names the nearest.
    """
    if name not in DATASETS:
        hint = suggest_name(name, DATASETS)
        raise DatasetError(
            f"there is no data set {name!r}.{hint} There are {', '.join(sorted(DATASETS))} "
            "(your own recordings: audio_folder:FOLDER)."
        )
    module, attribute = DATASETS[name].split(":")
    return getattr(importlib.import_module(module, package=BUILDERS), attribute)


def open_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    sample_rate: int = 16000,
    seed: int = 0,
    cache_megabytes: float = DEFAULT_CACHE_MEGABYTES,
    **options: Any,
) -> Dataset:
    """Returns a data set, building it first when it is not there or its content has changed.

    Args:
        name: `NAME`, `NAME/CONFIG`, or `audio_folder:FOLDER`; followed by `@` and a deformation,
            as in `NAME@pitch:2`, all of its tracks are deformed.
        data_dir: root of the built data sets; None for `default_data_dir()`.
        sample_rate: of the audio in Hz: the model's.
        seed: of the random parts of a build: synthesis, or the splits generated for a folder; and
            of a deformation.
        cache_megabytes: memory for decoded audio, per split; 0 keeps none.
        **options: the builder's own, such as `labels` of `audio_folder`.

    Raises:
        DatasetError: if there is no such data set, or it cannot be built on the spot.
        ValueError: from the builder, when its material is not as it should be.
    """
    builder = make_builder(name, data_dir=data_dir, sample_rate=sample_rate, seed=seed, **options)
    deformation = split_deformation(name)[1]
    if not builder.is_built():
        if not builder.CAN_BUILD_AUTOMATICALLY:
            where = f"{builder.directory} holds another state of it"
            if not builder.directory.exists():
                where = f"it is not in {builder.directory.parent}"
            raise DatasetError(f"data set {name!r} must be built: {where}. {builder.DOWNLOAD_HINT}")
        builder.build()
    elif read_spec(builder.directory).fingerprint != builder.spec().fingerprint:
        print(
            f"{name} was built with another quarantine list; `musrep build` takes today's",
            file=sys.stderr,
        )
    dataset = Dataset(
        builder.directory,
        sample_rate=sample_rate,
        cache_megabytes=cache_megabytes,
        deformation=deformation,
        seed=seed,
    )
    if deformation is not None:
        check_deformable(dataset.spec, deformation)
    return dataset


def check_deformable(spec: DatasetSpec, deformation: Deformation) -> None:
    """Raises `DatasetError` if a data set holds no audio that could be deformed."""
    if spec.stored_form == "log_mel":
        raise DatasetError(
            f"data set {spec.name!r} holds log-mel spectrograms only, and {deformation.name} is "
            "applied to audio; take a data set with audio."
        )


def make_builder(name: str, *, data_dir: str | os.PathLike | None = None, **options: Any) -> Any:
    """Returns the TFDS builder of a data set; nothing is built yet.

    Args:
        name: `NAME`, `NAME/CONFIG`, or `audio_folder:FOLDER`; a deformation behind it is checked,
            and nothing of the builder.
        data_dir: root of the built data sets; None for `default_data_dir()`.
        **options: the builder's own, such as `sample_rate`, or `labels` of `audio_folder`.

    Raises:
        DatasetError: if there is no such data set, config or option; the message names the nearest.
        ValueError: from the builder, when its material is not as it should be.
    """
    try:
        name, _ = split_deformation(name)
    except DeformationError as error:
        raise DatasetError(f"data set {name!r}: {error}") from error
    key, colon, folder = name.partition(":")
    key, slash, config = key.partition("/")
    builder_class = load_builder_class(key)
    root = pathlib.Path(data_dir).expanduser() if data_dir else default_data_dir()
    arguments = dict(options)
    if colon:
        arguments["folder"] = folder
    if slash:
        known = [entry.name for entry in builder_class.BUILDER_CONFIGS]
        if config not in known:
            hint = suggest_name(config, known)
            has = (
                f"has {', '.join(known)}"
                if known
                else f"has none (a folder is given as {key}:FOLDER)"
            )
            raise DatasetError(f"data set {key!r} has no config {config!r}.{hint} It {has}.")
        arguments["config"] = config
    allowed = set(inspect.signature(builder_class).parameters) - {"data_dir"}
    for option in sorted(arguments.keys() - allowed):
        hint = suggest_name(option, allowed)
        raise DatasetError(
            f"data set {key!r} has no option {option!r}.{hint} It has {', '.join(sorted(allowed))}."
        )
    return builder_class(data_dir=root, **arguments)
