"""The one base class of every data set: audio tracks in TFDS `array_record`, without TensorFlow.

A builder states what it is (`spec`) and yields its tracks (`generate_tracks`). Everything else is
here once: the features, the stored forms, the build report, the refusal of bad tracks. A record is

| feature     | stored as                                                                      |
|-------------|--------------------------------------------------------------------------------|
| track_id    | text                                                                           |
| group       | text: performer, recording or artist; splits must not share one                |
| audio       | `pcm16`: int16 (samples,); `encoded`: the file's bytes; `log_mel`: float16     |
|             | (frames, n_mels) in dB                                                         |
| num_samples | int64: samples at the stored rate, or frames of a `log_mel` data set           |
| labels      | sequence of class indices                                                      |

TFDS writes into a directory named `incomplete.*` and renames it at the end, so what stands under
its final name is whole. Records are ordered by a hash of their key: never rely on the order.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging

from musrep_jax.data.specs import SPLITS, DatasetSpec
from musrep_jax.data.stored import REPORT_FILE, format_report, read_report, read_spec, to_pcm16


class BuildError(ValueError):
    """A data set cannot be built from what is there; the message is one sentence that says why."""


@dataclasses.dataclass(frozen=True)
class TrackRecord:
    """One track as a builder yields it.

    Attributes:
        track_id: unique in the data set.
        group: performer, recording or artist; tracks of one group stay in one split.
        labels: names from the spec's `label_names`; may be empty.
        audio: float waveform (samples,) for `pcm16`, the file's bytes for `encoded`, float array
            (frames, n_mels) in dB for `log_mel`.
        num_samples: needed for `encoded` only: decoded length at the spec's sample rate.
    """

    track_id: str
    group: str
    labels: Sequence[str]
    audio: np.ndarray | bytes
    num_samples: int | None = None


@dataclasses.dataclass(frozen=True)
class RefusedTrack:
    """A track that is left out of the data set; it is listed in the build report.

    Attributes:
        path: the file, as the user knows it.
        reason: one sentence.
    """

    path: str
    reason: str


class TrackBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of our TFDS builders; a subclass is called `Builder` and lies in `tfds_builders/`.

    A subclass defines `spec` and `generate_tracks`, and, when it has configs, `BUILDER_CONFIGS`.
    It sets its own attributes before `super().__init__`, which already calls `spec`.

    Attributes:
        sample_rate: rate of the stored audio in Hz.
        seed: of everything random in the build.
        config_name: bare name of the config ("makam"), or None.
    """

    VERSION = tfds.core.Version("1.0.0")
    CAN_BUILD_ON_THE_SPOT = True
    """Whether `open_dataset` may build the data set: its material is generated or at hand."""
    HOW_TO_GET = ""
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
                is built into a directory of its own.
            seed: of everything random in the build.

        Raises:
            ValueError: if there is no such config.
        """
        self.sample_rate = int(sample_rate or self.DEFAULT_SAMPLE_RATE)
        self.seed = int(self.DEFAULT_SEED if seed is None else seed)
        if config is None and self.BUILDER_CONFIGS:
            config = self.BUILDER_CONFIGS[0].name
        self.config_name = config.name if isinstance(config, tfds.core.BuilderConfig) else config
        self._refused: list[RefusedTrack] = []
        self._scaled: dict[str, float] = {}
        self._seen: dict[str, str] = {}
        with _quiet_tfds():
            super().__init__(
                data_dir=str(data_dir),
                config=self._variant(config),
                file_format="array_record",
            )

    def _variant(self, config: str | tfds.core.BuilderConfig | None) -> Any:
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

    # What a subclass writes.

    def spec(self) -> DatasetSpec:
        """Returns the facts about the data set; `split_sizes` may be left empty.

        Its `fingerprint` must be computed without building, and must change with the content.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define spec()")

    def generate_tracks(self, split: str) -> Iterator[TrackRecord | RefusedTrack]:
        """Yields the tracks of a split, in any order, the same ones on every call.

        Args:
            split: one of `split_names()`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define generate_tracks()")

    def split_names(self) -> tuple[str, ...]:
        """Returns the splits that the data set has."""
        return SPLITS

    def report_facts(self) -> Mapping[str, Any]:
        """Returns what else belongs in the build report; `notes` (list of sentences) is printed."""
        return {}

    # What TFDS calls.

    def _info(self) -> tfds.core.DatasetInfo:
        spec = self.spec()
        return tfds.core.DatasetInfo(
            builder=self,
            description=spec.description,
            citation=spec.citation,
            license=spec.licence,
            features=_features(spec),
            metadata=tfds.core.MetadataDict({"spec": dataclasses.asdict(spec)}),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        del dl_manager  # Nothing of ours is downloaded through TFDS.
        return {split: self._generate_examples(split) for split in self.split_names()}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        spec = self.spec()
        num_tracks = 0
        for track in self.generate_tracks(split):
            if isinstance(track, RefusedTrack):
                self._refused.append(track)
                continue
            if track.track_id in self._seen:
                # Checked here: TFDS reports a repeated key by importing TensorFlow.
                raise BuildError(
                    f"track id {track.track_id!r} occurs twice in data set {spec.name!r}; "
                    "track ids must be unique."
                )
            self._seen[track.track_id] = split
            example, factor, reason = _encode(track, spec)
            if reason:
                self._refused.append(RefusedTrack(track.track_id, reason))
                continue
            if factor != 1.0:
                self._scaled[track.track_id] = factor
            num_tracks += 1
            yield track.track_id, example
        if not num_tracks:
            last = f" The last reason: {self._refused[-1].reason}" if self._refused else ""
            raise BuildError(
                f"split {split!r} of data set {spec.name!r} has no usable track: "
                f"{len(self._refused)} were refused.{last}"
            )

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Adds the report and the split sizes while the directory is still an incomplete one."""
        self._refused, self._scaled, self._seen = [], {}, {}
        super()._download_and_prepare(*args, **kwargs)
        sizes = {name: int(split.num_examples) for name, split in self.info.splits.items()}
        self.info.metadata["spec"]["split_sizes"] = sizes
        report = {
            "format": 1,
            "name": self.spec().name,
            "num_tracks": sizes,
            "refused": sorted(map(dataclasses.asdict, self._refused), key=lambda row: row["path"]),
            "scaled": dict(sorted(self._scaled.items())),
            **self.report_facts(),
        }
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        pathlib.Path(self.data_dir, REPORT_FILE).write_text(text, encoding="utf-8")

    def _log_download_bytes(self) -> None:
        """Says nothing: `build` prints its own two lines."""

    def _log_download_done(self) -> None:
        """Says nothing: `build` prints its own two lines."""

    # What the rest of the house calls.

    @property
    def directory(self) -> pathlib.Path:
        """Where the built data set is, or will be."""
        return pathlib.Path(self.data_dir)

    def build(self) -> pathlib.Path:
        """Builds the data set unless it stands already, prints the report, returns its directory.

        Raises:
            BuildError: if a split has no usable track, or a track id occurs twice.
        """
        if not self.directory.exists():
            print(f"building {self.spec().name} in {self.directory}", flush=True)
            try:
                with _quiet_tfds():
                    self.download_and_prepare(
                        download_config=tfds.download.DownloadConfig(register_checksums=False)
                    )
            except OSError:
                # Another process may have built the same data set meanwhile; TFDS then cannot
                # rename its directory onto the finished one, which is as good.
                if read_spec(self.directory) is None:
                    raise
            print(format_report(read_report(self.directory)), flush=True)
        return self.directory


def _features(spec: DatasetSpec) -> tfds.features.FeaturesDict:
    """Returns the TFDS features of a data set; see the table at the head of this file."""
    if spec.stored_form == "encoded":
        audio = tfds.features.Scalar(np.object_)
    elif spec.stored_form == "pcm16":
        audio = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    else:
        n_mels = int(spec.front_end["n_mels"])
        audio = tfds.features.Tensor(shape=(None, n_mels), dtype=np.float16, encoding="bytes")
    return tfds.features.FeaturesDict(
        {
            "track_id": tfds.features.Text(),
            "group": tfds.features.Text(),
            "audio": audio,
            "num_samples": tfds.features.Scalar(np.int64),
            "labels": tfds.features.Sequence(
                tfds.features.ClassLabel(names=list(spec.label_names))
            ),
        }
    )


def _encode(track: TrackRecord, spec: DatasetSpec) -> tuple[dict[str, Any], float, str]:
    """Returns (example, factor the waveform was scaled by, reason for refusing it or "")."""
    factor = 1.0
    if spec.stored_form == "encoded":
        audio, num_samples = track.audio, track.num_samples
        if not audio or not num_samples:
            return {}, factor, "it holds no audio."
    else:
        audio = np.asarray(track.audio, np.float32)
        num_samples = len(audio)
        if not num_samples:
            return {}, factor, "it holds no audio."
        if not np.isfinite(audio).all():
            return {}, factor, "it holds values that are not finite."
        if spec.stored_form == "log_mel":
            audio = audio.astype(np.float16)
        else:
            audio, factor = to_pcm16(audio)
    unknown = sorted(set(track.labels) - set(spec.label_names))
    if unknown:
        raise BuildError(
            f"track {track.track_id!r} of data set {spec.name!r} has the label {unknown[0]!r}, "
            "which is not among the label names of the spec."
        )
    example = {
        "track_id": track.track_id,
        "group": track.group,
        "audio": audio,
        "num_samples": int(num_samples),
        "labels": list(track.labels),
    }
    return example, factor, ""


def open_source(directory: pathlib.Path, split: str) -> Sequence[Mapping[str, Any]]:
    """Returns random access to the records of a split; `audio` is left as bytes.

    Args:
        directory: of the built data set.
        split: name of the split.
    """
    builder = tfds.builder_from_directory(str(directory))
    return builder.as_data_source(split, decoders={"audio": tfds.decode.SkipDecoding()})


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Silences the progress bars and remarks of TFDS, which speak of downloads that are none."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        absl_logging.set_verbosity(verbosity)
