"""A tagger on the test tracks of a data set, which are deformed as wholes."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import Dataset
from musrep_jax.evaluation.support import choose_groups
from musrep_jax.evaluation.tagging import make_report
from musrep_jax.inference.encoder import BackboneError
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.tasks.binding import OUTPUT_OF_LOSS
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.robustness.matrix import LINEAR_PREFIX, shorten_tagger
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.tasks.tagging.outcome import list_metrics
from musrep_jax.tasks.task import Outcome
from musrep_jax.training.objective import Untrained


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RobustnessObjective(Untrained):
    """What a job has in hand.

    Attributes:
        tagger: that is tested.
        dataset: with deformed tracks.
        own_columns: int (labels,), output units of the labels that tagger and data set share.
        columns: int (labels,), the same labels of the data set.
    """

    tagger: LoadedTagger
    dataset: Dataset
    own_columns: np.ndarray
    columns: np.ndarray


def match_labels(
    tagger: LoadedTagger, dataset: Dataset, text: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of the labels that a tagger and a data set share, by name.

    Args:
        tagger: with its labels.
        dataset: with its own.
        text: of the tagger, for the message.

    Returns:
        int (labels,) output units, and int (labels,) columns of the data set, in its order.

    Raises:
        ConfigError: if the tagger has no output layer, or they share no label.
    """
    try:
        tagger.check_head()
    except BackboneError as error:
        raise ConfigError(
            f"{text} is a backbone without output layer: write {LINEAR_PREFIX}{text}, which fits "
            "one on the training tracks."
        ) from error
    own, names = list(tagger.labels), dataset.spec.label_names
    shared = [name for name in names if name in own]
    if not shared:
        raise ConfigError(
            f"{shorten_tagger(text)} knows none of the labels of {dataset.spec.name} "
            f"({_list_some(names)}), but {_list_some(own)}: write {LINEAR_PREFIX}{text}, which "
            "fits an output layer on the training tracks, or name a model that was trained on them."
        )
    return (
        np.array([own.index(name) for name in shared]),
        np.array([names.index(name) for name in shared]),
    )


def score_tagger(
    job: Job, objective: RobustnessObjective, settings: ml_collections.ConfigDict
) -> Outcome:
    """Returns the outcome of a tagger on deformed test tracks.

    Chunks and their mean are as `evaluation` says, and as the model's card does.

    Args:
        job: the job.
        objective: tagger and tracks.
        settings: of the job.
    """
    tagger, dataset = objective.tagger, objective.dataset
    with settings.ignore_type():
        settings.train.loss = next(
            loss for loss, output in OUTPUT_OF_LOSS.items() if output == tagger.output
        )
        settings.evaluation.aggregate = tagger.card["aggregate"]
    tracks = dataset.tracks("test")
    scorer = SplitScorer(tagger.model, tracks, settings, settings.evaluation.num_chunks)
    scores = scorer.scores(tagger.variables)[:, objective.own_columns]
    labels = tracks.label_matrix[:, objective.columns]
    names = [dataset.spec.label_names[column] for column in objective.columns]
    report = make_report(
        labels,
        scores,
        names,
        num_bootstrap=settings.evaluation.num_bootstrap,
        seed=job.seed,
        track_groups=choose_groups(tracks.groups, settings.evaluation.resample),
        threshold=settings.evaluation.threshold,
    )
    return Outcome(
        metrics=list_metrics(report),
        fields={
            **report.to_dict(),
            "is_synthetic": dataset.spec.is_synthetic,
            "num_unknown_labels": len(dataset.spec.label_names) - len(names),
            "num_short_tracks": int((tracks.num_samples < scorer.chunk.num_samples).sum()),
            "chunk_length_seconds": scorer.chunk.seconds,
        },
        arrays={
            "scores": {
                "track_ids": np.array(list(tracks.track_ids)),
                "labels": labels.astype(np.uint8),
                "scores": scores.astype(np.float32),
                "groups": np.array(list(tracks.groups), str),
                "label_names": np.array(names),
            }
        },
    )


def _list_some(names: Sequence[str]) -> str:
    """Returns the first names of many."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
