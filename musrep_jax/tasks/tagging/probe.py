"""What a backbone is worth on a data set: a ridge regression on its embeddings, on validation."""

import ml_collections
import numpy as np

from musrep_jax.data.datasets import Dataset, Tracks
from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.linear import fit_ridge
from musrep_jax.models import Tagger
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.types import PyTree

BATCH_SIZE = 8
_MIN_DEVIATION = 1e-6


def probe(model: Tagger, variables: PyTree, dataset: Dataset) -> float:
    """Returns the mean validation ROC-AUC of the best ridge regression on a model's embeddings.

    A recording's embedding is the mean over its chunks; features are standardized by the training
    tracks, and the penalty is the best of `RIDGE_STRENGTHS`.

    Args:
        model: a tagger or a backbone.
        variables: of the model.
        dataset: at the model's sample rate, with the splits train and validation.

    Raises:
        DatasetError: if a split is missing or has no labels.
    """
    splits = [dataset.tracks(name) for name in ("train", "validation")]
    features, held_out = (embed_tracks(model, variables, tracks) for tracks in splits)
    mean, deviation = features.mean(axis=0), np.maximum(features.std(axis=0), _MIN_DEVIATION)
    targets, labels = (tracks.label_matrix > 0 for tracks in splits)
    weights = np.full(len(features), 1 / len(features))
    used = metrics.is_evaluable(labels)
    return max(
        metrics.average_selected(
            metrics.roc_auc(labels, linear.logits((held_out - mean) / deviation)), used
        )
        for linear in fit_ridge((features - mean) / deviation, targets, weights)
    )


def embed_tracks(model: Tagger, variables: PyTree, tracks: Tracks) -> np.ndarray:
    """Returns the mean embedding of every track, float64 (tracks, width)."""
    settings = ml_collections.ConfigDict(
        {
            "train": {"num_devices": 1, "loss": "binary_cross_entropy"},
            "evaluation": {"batch_size": BATCH_SIZE, "tail": "keep", "reaches_end": False},
        }
    )
    with settings.ignore_type():
        settings.train.max_seconds = None
    scorer = SplitScorer(model, tracks, settings, None)
    found = scorer.outputs(variables, ("embedding",))["embedding"].astype(np.float64)
    owner = scorer.table[:, 0]
    total = np.zeros((len(tracks), found.shape[1]))
    np.add.at(total, owner, found)
    return total / np.bincount(owner, minlength=len(tracks))[:, None]
