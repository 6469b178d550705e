"""The one base class of every data set: audio tracks in TFDS `array_record`, without TensorFlow.

A builder states what it is (`spec`), which tracks it has (`list_tracks`) and how one is made
(`track_loader`). Everything else is here once: the features, the stored forms, the build report,
the refusal of bad tracks.

A build works in a folder `VERSION.building` beside the final one (see `shards.py`) and renames it
at the end, so a folder with its final name is complete. Records are ordered by a hash of their
key: never rely on the order.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from musrep_jax.data.build.lock import lock_build_folder, remove_stale_build_folder, say
from musrep_jax.data.build.records import (
    BuildError,
    RefusedTrack,
    TrackCodec,
    TrackRecord,
    make_example,
    track_features,
)
from musrep_jax.data.build.shard_builds import (
    check_space,
    count_cores,
    make_shards,
    prepare_build_folder,
    reraise_disk_full_as_build_error,
)
from musrep_jax.data.build.shards import (
    Shard,
    ShardRecipe,
    ShardStats,
    install_shard,
    invalidate_shards,
    merge_shard_stats,
    plan_shards,
)
from musrep_jax.data.dataset_files import (
    METADATA_FILE,
    REPORT_FILE,
    format_report,
    read_report,
    read_spec,
)
from musrep_jax.data.specs import SPLITS, DatasetSpec
from musrep_jax.runtime.files import write_json


class _LocalInfo(tfds.core.DatasetInfo):
    """Facts of a data set that TFDS's own bucket does not hold.

    Asking there would leave an empty folder in the temporary directory, every time.
    """

    def initialize_from_bucket(self) -> None:
        """Does nothing."""


class TrackBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of our TFDS builders; a subclass is called `Builder` and belongs in
    `tfds_builders/`.

    A subclass defines `spec`, `list_tracks` and `track_loader`, and, when it has configs,
    `BUILDER_CONFIGS`.
    It sets its own attributes before `super().__init__`, which already calls `spec`.

    Attributes:
        sample_rate: rate of the stored audio in Hz.
        seed: of everything random in the build.
        config_name: bare name of the config ("makam"), or None.
    """

    VERSION = tfds.core.Version("1.0.0")
    CAN_BUILD_AUTOMATICALLY = True
    """Whether `open_dataset` may build the data set: its material is generated or at hand."""
    DOWNLOAD_HINT = ""
    """One sentence with the command that fetches and builds the data set, where it may not."""
    DEFAULT_SAMPLE_RATE = 16000
    DEFAULT_SEED = 0
    url_infos = None
    """Nothing is downloaded through TFDS. The property that this replaces imports
    `importlib_resources`, which a fresh installation of TFDS 4.9.10 with etils 1.15 lacks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keeps subclasses out of the global registry of TFDS: our table is `DATASETS`."""
        super().__init_subclass__(**{"skip_registration": True, **kwargs})

    def __init__(
        self,
        *,
        data_dir: str | pathlib.Path,
        config: str | tfds.core.BuilderConfig | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Describes the data set; nothing is built yet.

        Args:
            data_dir: root folder of the built data sets.
            config: name of one of `BUILDER_CONFIGS`, or a config of the subclass's own making.
            sample_rate: in Hz; None for the builder's own. Another rate or seed than the default
                is built into its own directory.
            seed: of everything random in the build.

        Raises:
            ValueError: if there is no such config.
        """
        self.sample_rate = int(sample_rate or self.DEFAULT_SAMPLE_RATE)
        self.seed = int(self.DEFAULT_SEED if seed is None else seed)
        if config is None and self.BUILDER_CONFIGS:
            config = self.BUILDER_CONFIGS[0].name
        self.config_name = config.name if isinstance(config, tfds.core.BuilderConfig) else config
        with _silence_tfds():
            super().__init__(
                data_dir=str(data_dir),
                config=self._select_config(config),
                file_format="array_record",
            )

    def _select_config(self, config: str | tfds.core.BuilderConfig | None) -> Any:
        """Returns the config that names the directory of this sample rate and seed."""
        if not isinstance(config, str):
            return config
        known = [entry.name for entry in self.BUILDER_CONFIGS]
        if config not in known:
            raise ValueError(
                f"data set {self.name!r} has no config {config!r}; it has {', '.join(known)}."
            )
        if (self.sample_rate, self.seed) == (self.DEFAULT_SAMPLE_RATE, self.DEFAULT_SEED):
            return config
        return tfds.core.BuilderConfig(name=f"{config}-{self.sample_rate}hz-seed{self.seed}")

    # To be implemented by subclasses.

    def spec(self) -> DatasetSpec:
        """Returns the facts about the data set; `split_sizes` may be left empty.

        Its `fingerprint` must be computed without building, and must change with the content.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define spec()")

    def list_tracks(self, split: str) -> Sequence[Any]:
        """Returns the planned tracks of a split, the same ones on every call; no audio is decoded.

        A planned track is small and picklable, and has a `track_id` that no other track has. Its
        `repr`, and the loader's, must tell what it is, alike in every process (no sets in it): by
        so that a resumed build can check that its tracks are the same.

        Args:
            split: one of `split_names()`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define list_tracks()")

    def track_loader(self) -> Callable[[Any], TrackRecord | RefusedTrack]:
        """Returns the function that makes a planned track: pure and picklable, for it runs in
        worker processes, once for every track."""
        raise NotImplementedError(f"{type(self).__name__} does not define track_loader()")

    def estimate_bytes(self) -> int | None:
        """Returns about how large the finished data set will be; None if that cannot be known."""
        return None

    def split_names(self) -> tuple[str, ...]:
        """Returns the splits that the data set has."""
        return SPLITS

    def extra_report_fields(self) -> Mapping[str, Any]:
        """Returns what else belongs in the build report; `notes` (list of sentences) is printed."""
        return {}

    # Called by TFDS.

    def _info(self) -> tfds.core.DatasetInfo:
        spec = self.spec()
        return _LocalInfo(
            builder=self,
            description=spec.description,
            citation=spec.citation,
            license=spec.licence,
            features=track_features(spec),
            metadata=tfds.core.MetadataDict({"spec": spec.to_dict()}),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        del dl_manager  # Nothing of ours is downloaded through TFDS.
        return {split: self._generate_examples(split) for split in self.split_names()}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        """Yields what `build` stores; TFDS asks that it exists, a build does not go through it."""
        load, spec = self.track_loader(), self.spec()
        for track in self.list_tracks(split):
            made = load(track)
            if isinstance(made, TrackRecord):
                example, _, reason = make_example(made, spec)
                if not reason:
                    yield track.track_id, example

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the data set as `build` does; TFDS's own way of asking for it.

        Args:
            **kwargs: of TFDS; from `download_config` its mode is taken, all else does not apply.
        """
        config = kwargs.get("download_config")
        if config is not None and config.download_mode.overwrite_dataset:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.build()

    # Called by the rest of the package.

    @property
    def directory(self) -> pathlib.Path:
        """Where the built data set is, or will be."""
        return pathlib.Path(self.data_dir)

    @property
    def _building(self) -> pathlib.Path:
        """Where a build works: beside the final directory, on the same disk."""
        return self.directory.with_name(f"{self.directory.name}.building")

    def is_built(self) -> bool:
        """Returns whether the data set is built, with its current content."""
        return self._is_built_with(self.spec().fingerprint)

    def _is_built_with(self, fingerprint: str) -> bool:
        stored = read_spec(self.directory)
        return stored is not None and stored.fingerprint == fingerprint

    def build(
        self, *, num_workers: int | None = None, beam_options: Sequence[str] | None = None
    ) -> pathlib.Path:
        """Builds the data set unless it is built already, prints the report, returns its directory.

        An interrupted build resumes from the tracks that it had stored. One of other
        content stays until its successor is whole.

        Args:
            num_workers: processes that make tracks; None for one per core, as soon as the build
                turns out to take more than a few seconds. The result does not depend on it.
            beam_options: of a pipeline of Apache Beam that makes the tracks instead.

        Raises:
            BuildError: if a split has no usable track, or a track id occurs twice.
            BuildInterruptedError: if the build cannot go on now: the disk is full, a worker was
                killed.
        """
        spec = self.spec()
        if self._is_built_with(spec.fingerprint):
            remove_stale_build_folder(self._building)
            return self.directory
        if self.directory.exists():
            print(f"{spec.name} has changed since it was built: building it again", flush=True)
        print(f"building {spec.name} in {self.directory}", flush=True)
        try:
            with _silence_tfds():
                self._build(spec, num_workers, beam_options)
        except KeyboardInterrupt:
            say("stopped; finished work is kept, and the same command resumes")
            raise
        print(format_report(read_report(self.directory)), flush=True)
        return self.directory

    def _plan(self) -> dict[str, list[Shard]]:
        """Returns the shards of every split; raises if a track id occurs twice."""
        plan, seen = {}, set()
        for split in self.split_names():
            tracks = list(self.list_tracks(split))
            for track in tracks:
                if track.track_id in seen:
                    raise BuildError(
                        f"track id {track.track_id!r} occurs twice in data set "
                        f"{self.spec().name!r}; track ids must be unique."
                    )
                seen.add(track.track_id)
            plan[split] = plan_shards(split, tracks)
        return plan

    def _build(
        self, spec: DatasetSpec, num_workers: int | None, beam_options: Sequence[str] | None
    ) -> None:
        plan, folder = self._plan(), self._building
        every = [shard for shards in plan.values() for shard in shards]
        old = list(self.directory.parent.glob("incomplete.*"))
        if old:
            say(f"{old[0]} is left of a build by an earlier version; it can be removed")
        with lock_build_folder(
            folder, spec.name, lambda: self._is_built_with(spec.fingerprint)
        ) as lock:
            if lock is not None:
                with reraise_disk_full_as_build_error(folder):
                    prepare_build_folder(
                        folder, keep=_digest(spec.to_dict(), self.track_loader(), *every)
                    )
                    check_space(folder, every, self.estimate_bytes(), num_workers or count_cores())
                    recipe = ShardRecipe(str(folder), self.track_loader(), TrackCodec(spec))
                    if beam_options is None:
                        held = () if lock.fileno() is None else (lock.fileno(),)
                        made = make_shards(
                            every, recipe, num_workers=num_workers, inherited_fds=held
                        )
                    else:
                        from musrep_jax.data.build.beam import make_shards_on_beam

                        made = make_shards_on_beam(every, recipe, beam_options)
                    facts = {shard.name: entry for shard, entry in zip(every, made, strict=True)}
                    self._finish(folder, plan, facts)
        self.info.read_from_directory(str(self.directory))

    def _finish(
        self,
        folder: pathlib.Path,
        plan: Mapping[str, Sequence[Shard]],
        facts: Mapping[str, ShardStats],
    ) -> None:
        """Gives the shards their final names, writes the accompanying files, renames the folder.

        Goes on where an earlier call was interrupted.
        """
        infos = []
        for split, shards in plan.items():
            if not any(facts[shard.name].num_records for shard in shards):
                refused = [row for shard in shards for row in facts[shard.name].refused]
                last = f" The last reason: {refused[-1][1]}" if refused else ""
                invalidate_shards(folder, shards)  # The files may be mended before the next build.
                raise BuildError(
                    f"split {split!r} of data set {self.spec().name!r} has no usable track: "
                    f"{len(refused)} were refused.{last}"
                )
            # A shard whose tracks were all refused is left out.
            kept = [shard for shard in shards if facts[shard.name].num_records]
            infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[facts[shard.name].num_records for shard in kept],
                    num_bytes=sum(facts[shard.name].num_bytes for shard in kept),
                    filename_template=self._get_filename_template(split_name=split),
                )
            )
        whole = folder / "dataset"
        whole.mkdir(exist_ok=True)
        for info in infos:
            kept = [shard for shard in plan[info.name] if facts[shard.name].num_records]
            for shard, path in zip(kept, info.filepaths, strict=True):
                install_shard(folder, shard, facts[shard.name], whole / path.name)
        sizes = {info.name: int(info.num_examples) for info in infos}
        report = {
            "format": 1,
            "name": self.spec().name,
            "num_tracks": sizes,
            **merge_shard_stats(facts.values()),
            **self.extra_report_fields(),
        }
        write_json(whole / REPORT_FILE, report)
        info = self._info()  # A new one: `self.info` may have been read from what stands there.
        info.set_file_format(self.info.file_format)
        info.set_splits(tfds.core.splits.SplitDict(infos))
        info.metadata["spec"]["split_sizes"] = sizes
        info.write_to_directory(str(whole))
        if self.directory.exists():
            os.rename(self.directory, folder / "old")
        os.rename(whole, self.directory)
        if self.BUILDER_CONFIGS:
            # What TFDS goes by when it is asked for the data set without a config.
            path = self.directory.parents[1] / ".config" / METADATA_FILE
            write_json(path, {"default_config_name": self.BUILDER_CONFIGS[0].name})
        shutil.rmtree(folder, ignore_errors=True)  # One that waits may just look into it.


def _digest(*facts: Any) -> str:
    """Returns a hash of what facts say of themselves, the same in every process."""
    digest = hashlib.sha256()
    for fact in facts:
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(fact))  # Where a function lies says nothing.
        digest.update(text.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def open_record_source(directory: pathlib.Path, split: str) -> Sequence[Mapping[str, Any]]:
    """Returns random access to the records of a split; `audio` is left as bytes.

    Args:
        directory: of the built data set.
        split: name of the split.
    """
    builder = tfds.builder_from_directory(str(directory))
    return builder.as_data_source(split, decoders={"audio": tfds.decode.SkipDecoding()})


@contextlib.contextmanager
def _silence_tfds() -> Iterator[None]:
    """Silences the progress bars and remarks of TFDS, which speak of downloads that are none."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        absl_logging.set_verbosity(verbosity)
