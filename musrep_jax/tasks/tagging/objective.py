"""The objective of a tagging job, and checks before anything runs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.models import Tagger
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.binding import AUTO
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.tasks.tagging.initial import Start
from musrep_jax.tasks.tagging.linear import FoldChoice
from musrep_jax.tasks.tagging.matrix import SCRATCH
from musrep_jax.training.objective import Objective
from musrep_jax.types import PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggingObjective(Objective):
    """A tagger and its data, as training sees them, with what the test needs.

    Attributes:
        model: the tagger.
        dataset: the target.
        train_tracks: those that are trained on.
        validation: scores the validation split.
        embed: `(scorer, variables)` -> embeddings of all chunks of a split, kept on disk, when the
            backbone is frozen, else None.
        start: what it starts from.
        judge_by_folds: () -> what folds choose, where frozen features are solved; computed once.
    """

    model: Tagger
    dataset: Dataset
    train_tracks: Tracks
    validation: SplitScorer
    embed: Callable[[SplitScorer, PyTree], np.ndarray] | None
    start: Start
    judge_by_folds: Callable[[], FoldChoice | None] = lambda: None

    def take_tagger(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the tagger's variables of all that are trained or stay beside it.

        Args:
            variables: collection -> arrays, as in `variables`.
        """
        return dict(variables)


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The part of a tagger that a job trains.

    Attributes:
        trained: "model", "head" or "cached", see `binding.make_loss`.
        batch_norm: "frozen" or "update".
    """

    trained: str
    batch_norm: str

    @classmethod
    def of(cls, job: Job, settings: ml_collections.ConfigDict) -> "Scheme":
        """Returns the scheme of a job.

        BatchNorm statistics are updated by default when all layers train, and frozen when only
        the output layer does; then embeddings are computed once and kept, if that is asked for.

        Args:
            job: the job.
            settings: of the job.
        """
        only_head = job["mode"] == "output_layer"
        batch_norm = settings.transfer.batch_norm or ("frozen" if only_head else "update")
        if job["mode"] == SCRATCH:
            batch_norm = "update"
        trained = "model"
        if only_head:
            cache = settings.transfer.cache_embeddings and batch_norm == "frozen"
            cache = cache and not is_augmented(settings)  # each step hears another sound
            trained = "cached" if cache else "head"
        return cls(trained, batch_norm)


def is_augmented(settings: ml_collections.ConfigDict) -> bool:
    """Returns whether a job's examples are changed in every step.

    Args:
        settings: of the job.
    """
    return bool(Augmentation.of(settings.train).asked_for)


def check_augmented(settings: ml_collections.ConfigDict, spec: DatasetSpec) -> None:
    """Raises if a data set has no waveforms that could be augmented as a job wants them.

    Args:
        settings: of the job.
        spec: of the data set.

    Raises:
        ConfigError: if it holds spectrograms.
    """
    augmentation = Augmentation.of(settings.train)
    if (augmentation.chain or augmentation.mixup) and spec.stored_form == "log_mel":
        field = "augment" if augmentation.chain else "mixup"
        raise ConfigError(
            f"train.{field} is {settings.train[field]!r}, which changes waveforms, and the data "
            f"set {spec.name} holds spectrograms: leave it out by --config.train.{field}=none."
        )


def has_one_label(tracks: Tracks) -> bool:
    """Returns whether every track has exactly one of at least two labels.

    Args:
        tracks: of a split.
    """
    labels = tracks.label_matrix
    return labels.shape[1] > 1 and bool((np.count_nonzero(labels, axis=1) == 1).all())


def resolve_loss(settings: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """Writes the loss that `auto` stands for into the settings of a job.

    Args:
        settings: of the job; afterwards `train.loss` is "cross_entropy" if every training and
            validation track has exactly one label, else "binary_cross_entropy".
        dataset: the target.
    """
    if settings.train.loss == AUTO:
        is_exclusive = all(has_one_label(dataset.tracks(name)) for name in ("train", "validation"))
        settings.train.loss = "cross_entropy" if is_exclusive else "binary_cross_entropy"


def check_one_label(tracks: Tracks, split: str) -> None:
    """Raises unless every track has exactly one label, as the loss of exclusive classes needs.

    Args:
        tracks: of the split.
        split: its name, for the message.

    Raises:
        ConfigError: if a track has none or several, or there is only one class.
    """
    counts = np.count_nonzero(tracks.label_matrix, axis=1)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        first = wrong[0]
        raise ConfigError(
            f"train.loss is 'cross_entropy', for tracks with exactly one label, but "
            f"{len(wrong)} of {len(counts)} {split} tracks have another number, the first is "
            f"{tracks.track_ids[first]!r} with {counts[first]}: take 'binary_cross_entropy', or "
            "choose labels that exclude each other with data.labels."
        )
    if tracks.label_matrix.shape[1] < 2:
        raise ConfigError(
            f"train.loss is 'cross_entropy', but {tracks.spec.name} has only one label: it needs "
            "at least two classes to choose from."
        )
