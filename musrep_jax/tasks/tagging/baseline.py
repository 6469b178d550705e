"""The baseline of every table: a linear model on statistics of the log-mel spectrogram.

It sees the tracks, splits and labels that the trained models see, costs seconds, and is what they
have to beat to be worth their training.
"""

from collections.abc import Sequence

import ml_collections
import numpy as np

from musrep_jax.data.datasets import Tracks
from musrep_jax.evaluation.linear import Linear, choose_linear
from musrep_jax.models import Tagger, model_class
from musrep_jax.models.layers import BATCH_NORM_EPSILON
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.tagging.matrix import BASELINE_MODEL
from musrep_jax.types import PyTree

FRONT_END = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
"""Settings of a model that the baseline shares, so that it reads the same form of a data set."""
_MIN_VARIANCE = 1e-3
"""dB squared; what varies less between recordings is no feature."""


def make_baseline_settings(
    settings: ml_collections.ConfigDict, models: Sequence[str]
) -> ml_collections.ConfigDict:
    """Returns settings of a job with those of the baseline's model; the front end stays.

    Args:
        settings: of a job, as the config has them for all models.
        models: of the experiment; the baseline reads audio at the first one's sample rate.
    """
    model = settings.model
    kept = {name: model[name] for name in FRONT_END if model.get(name) is not None}
    if "sample_rate" not in kept:
        rate = model_class(models[0]).sample_rate
        if rate != model_class(BASELINE_MODEL).sample_rate:
            kept["sample_rate"] = rate
    if kept.get("sample_rate", 16000) < 16000 and "f_max" not in kept:
        kept["f_max"] = kept["sample_rate"] / 2
    with settings.ignore_type():
        for name in model:
            if name not in ("name", "size"):
                model[name] = kept.get(name)
    model.name = BASELINE_MODEL
    with settings.ignore_type():  # it is solved, not trained; no duration is missing
        settings.train.update(num_steps=1000, num_epochs=None)
        settings.train.update(evaluate_every_steps=1000, evaluate_every_epochs=None)
    return settings


def solve_baseline(
    model: Tagger,
    variables: PyTree,
    tracks: Tracks,
    validation: SplitScorer,
    settings: ml_collections.ConfigDict,
) -> PyTree:
    """Returns the variables of the best linear model on the embeddings of a frozen backbone.

    Features are standardized by the training tracks, of which each counts alike, however many
    chunks it has. The kind of regression and the strength of its penalty are chosen on validation.

    Args:
        model: `LogMelStatistics`.
        variables: of the model; the output layer and the statistics of `norm` are replaced.
        tracks: training tracks.
        validation: scores validation tracks.
        settings: of the job.
    """
    scorer = SplitScorer(model, tracks, settings, None)
    width = variables["batch_stats"]["norm"]["mean"].shape
    raw = _with_statistics(variables, np.zeros(width), np.full(width, 1.0 - BATCH_NORM_EPSILON))
    features = scorer.embeddings(raw).astype(np.float64)
    owner = scorer.table[:, 0]
    weights = 1.0 / (np.bincount(owner, minlength=len(tracks))[owner] * len(tracks))
    mean = weights @ features
    variance = np.maximum(weights @ (features - mean) ** 2, _MIN_VARIANCE)
    backbone = _with_statistics(variables, mean, variance)
    cached = validation.embeddings(backbone)
    metric = settings.train.select_by
    sign = 1.0 if SELECTABLE[metric] == "max" else -1.0

    def score(candidate: Linear) -> float:
        return sign * validation.summary(_with_head(backbone, candidate), cached)[metric]

    chosen = choose_linear(
        (features - mean) / np.sqrt(variance + BATCH_NORM_EPSILON),
        tracks.label_matrix[owner],
        weights,
        score,
        is_exclusive=validation.output == "softmax",
    )
    return _with_head(backbone, chosen)


def _with_statistics(variables: PyTree, mean: np.ndarray, variance: np.ndarray) -> PyTree:
    """Returns the variables with other statistics of the features."""
    norm = {"mean": mean.astype(np.float32), "var": variance.astype(np.float32)}
    return {**variables, "batch_stats": {**variables["batch_stats"], "norm": norm}}


def _with_head(variables: PyTree, linear: Linear) -> PyTree:
    """Returns the variables with another output layer."""
    head = {"kernel": linear.weights.astype(np.float32), "bias": linear.bias.astype(np.float32)}
    return {**variables, "params": {**variables["params"], "head": head}}
