"""Linear models above frozen features: the baseline of every table, and every other candidate.

The baseline's features are statistics of the log-mel spectrogram, those of other candidates are
outputs of pretrained encoders. All see the tracks, splits and labels that trained models see, are
solved in seconds, and are what trained models have to beat to be worth their training.
"""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from musrep_jax.data.datasets import Tracks
from musrep_jax.evaluation.linear import Linear, choose_linear
from musrep_jax.models import Tagger, model_class
from musrep_jax.models.combined_encoders import CombinedEncoders
from musrep_jax.models.layers import BATCH_NORM_EPSILON
from musrep_jax.tasks.embedding_cache import embed_once
from musrep_jax.tasks.scoring import SELECTABLE, SplitScorer
from musrep_jax.tasks.tagging.few_groups import (
    MAX_FOLDS,
    choose_by_folds,
    need_folds,
    take_candidate,
    weigh_rows,
)
from musrep_jax.tasks.tagging.matrix import BASELINE_MODEL, BASELINE_SETTINGS
from musrep_jax.types import PyTree

FRONT_END = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
"""Settings of a model that the baseline shares, so that it reads the same form of a data set."""
MAX_ROWS = 20_000
"""Chunks that a linear model is fitted to; of longer data every track gives as many as fit."""
_MIN_VARIANCE_SHARE = 1e-4
"""Of the mean variance of an encoder's features; what varies less between recordings is none."""
_NO_FEATURE = 1e30
"""Variance that is written for such a feature: standardized it is 0, for every recording."""


def clear_model_settings(
    settings: ml_collections.ConfigDict, *, is_solved: bool = True
) -> ml_collections.ConfigDict:
    """Returns settings of a job without those of its model, which its encoders bring.

    Args:
        settings: of a job, as the config has them for all models.
        is_solved: whether the job is solved, not trained: then its durations are valid ones.
    """
    with settings.ignore_type():
        for name in settings.model:
            if name not in ("name", "size"):
                settings.model[name] = None
        if not is_solved:
            return settings
        settings.train.update(num_steps=1000, num_epochs=None)
        settings.train.update(evaluate_every_steps=1000, evaluate_every_epochs=None)
    return settings


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
    clear_model_settings(settings)
    with settings.ignore_type():
        model.update(kept)
        model.update(BASELINE_SETTINGS)
    model.name = BASELINE_MODEL
    return settings


def embed_frozen(scorer: SplitScorer, variables: PyTree) -> np.ndarray:
    """Returns the raw features of every chunk of a split; none is computed that was before.

    Encoders side by side are embedded one by one, so that another combination finds them.

    Args:
        scorer: of the split.
        variables: of its model, whose `norm` does not standardize, see `without_standardization`.

    Returns:
        float32 (chunks, width).
    """
    model = scorer.model
    if not isinstance(model, CombinedEncoders) or len(model.encoders) == 1:
        return embed_once(scorer, variables)
    parts = []
    for number in range(len(model.encoders)):
        part = copy.copy(scorer)
        part.model, own = model.take_part(number, variables)
        parts.append(embed_once(part, own))
    return np.concatenate(parts, axis=1)


def without_standardization(variables: PyTree) -> PyTree:
    """Returns the variables with statistics of `norm` that leave the features as they are.

    Args:
        variables: of `LogMelStatistics` or `CombinedEncoders`, with fresh scale and bias of `norm`.
    """
    mean = np.zeros_like(variables["batch_stats"]["norm"]["mean"])
    return _with_statistics(variables, mean, np.full(mean.shape, 1.0 - BATCH_NORM_EPSILON))


def embed_standardized(scorer: SplitScorer, variables: PyTree) -> np.ndarray:
    """Returns the embedding of every chunk of a split, as the model gives it.

    Args:
        scorer: of the split.
        variables: of its model, as `solve_linear` returns them.

    Returns:
        float32 (chunks, width).
    """
    raw = embed_frozen(scorer, without_standardization(jax.device_get(variables)))
    return standardize(raw, variables)


def standardize(features: np.ndarray, variables: PyTree) -> np.ndarray:
    """Returns the embeddings of raw features: what `norm` makes of them.

    Args:
        features: (chunks, width), see `embed_frozen`.
        variables: of the model, with fresh scale and bias of `norm`.

    Returns:
        float32 (chunks, width).
    """
    norm = variables["batch_stats"]["norm"]
    scale = 1.0 / np.sqrt(np.asarray(norm["var"], np.float64) + BATCH_NORM_EPSILON)
    return ((features - np.asarray(norm["mean"], np.float64)) * scale).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FoldChoice:
    """What folds over the groups of training and validation tracks say of frozen features.

    Attributes:
        place: of the best classifier, see `take_candidate`.
        metrics: of its probabilities for the groups that a fold was not fitted to, see
            `SplitScorer.summarize`, with `num_tracks` and `num_groups`.
    """

    place: int
    metrics: Mapping[str, Any]


def judge_by_folds(
    model: Tagger,
    variables: PyTree,
    tracks: Tracks,
    validation: SplitScorer,
    settings: ml_collections.ConfigDict,
) -> FoldChoice | None:
    """Returns what folds over all known groups choose, None where validation has enough groups.

    Args:
        model: `LogMelStatistics` or `CombinedEncoders`.
        variables: of the model.
        tracks: training tracks.
        validation: scores validation tracks.
        settings: of the job.
    """
    if not need_folds(tracks.groups, validation.tracks.groups):
        return None
    scorer, raw = SplitScorer(model, tracks, settings, None), without_standardization(variables)
    rows = np.concatenate([embed_frozen(scorer, raw), embed_frozen(validation, raw)])
    owner = np.concatenate([scorer.table[:, 0], len(tracks) + validation.table[:, 0]])
    kept, blocks = _limit_rows(owner, MAX_ROWS // MAX_FOLDS), _list_blocks(model, variables)
    labels = np.concatenate([tracks.label_matrix, validation.tracks.label_matrix])
    groups = [*tracks.groups, *validation.tracks.groups]
    rank = _make_rank(validation, settings)

    def make_standardizer(rows: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], Any]:
        own = _with_statistics(variables, *_measure(rows, weights, blocks))
        return lambda x: standardize(x, own).astype(np.float64)

    place, scores = choose_by_folds(
        rows[kept],
        owner[kept],
        labels,
        groups,
        make_standardizer,
        lambda labels, scores: rank(validation.summarize(labels, scores))[0],
        how=settings.evaluation.aggregate,
        output=validation.output,
    )
    counts = {"num_tracks": len(labels), "num_groups": len(set(groups))}
    return FoldChoice(place, {**validation.summarize(labels, scores), **counts})


def solve_linear(
    model: Tagger,
    variables: PyTree,
    tracks: Tracks,
    validation: SplitScorer,
    settings: ml_collections.ConfigDict,
    folds: FoldChoice | None = None,
) -> PyTree:
    """Returns the variables of the best linear model on the features of a frozen model.

    Features are standardized by the training tracks, of which each counts alike, however many
    chunks it has. The kind of regression and the strength of its penalty are chosen on validation:
    of exclusive classes by the loss, which varies less on few tracks than a ranking of them, of
    other labels by `train.select_by`. Where folds have chosen them, they are fitted to the training
    tracks all the same.

    Args:
        model: `LogMelStatistics` or `CombinedEncoders`.
        variables: of the model; the output layer and the statistics of `norm` are replaced.
        tracks: training tracks.
        validation: scores validation tracks.
        settings: of the job.
        folds: of `judge_by_folds`.
    """
    scorer = SplitScorer(model, tracks, settings, None)
    raw = without_standardization(variables)
    features = embed_frozen(scorer, raw)
    owner = scorer.table[:, 0]
    kept = _limit_rows(owner, MAX_ROWS)
    features, owner = features[kept], owner[kept]
    weights, blocks = weigh_rows(owner), _list_blocks(model, variables)
    backbone = _with_statistics(variables, *_measure(features, weights, blocks))
    fitted = standardize(features, backbone).astype(np.float64)
    targets = tracks.label_matrix[owner]
    if folds is not None:
        chosen = take_candidate(folds.place, fitted, targets, weights, validation.output)
        return _with_head(model, backbone, chosen)
    cached = standardize(embed_frozen(validation, raw), backbone)
    rank = _make_rank(validation, settings)

    def score(candidate: Linear) -> tuple[float, float]:
        return rank(validation.summary(_with_head(model, backbone, candidate), cached))

    is_exclusive = validation.output == "softmax"
    chosen = choose_linear(fitted, targets, weights, score, is_exclusive=is_exclusive)
    return _with_head(model, backbone, chosen)


def _make_rank(
    validation: SplitScorer, settings: ml_collections.ConfigDict
) -> Callable[[Mapping[str, Any]], tuple[float, float]]:
    """Returns metrics -> what is largest for the best linear model, and what decides of equals."""
    metric = settings.train.select_by
    sign = 1.0 if SELECTABLE[metric] == "max" else -1.0

    def rank(summary: Mapping[str, Any]) -> tuple[float, float]:
        loss = -summary["loss"]
        return (loss if validation.output == "softmax" else sign * summary[metric]), loss

    return rank


def _measure(
    features: np.ndarray, weights: np.ndarray, blocks: Sequence[slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of features; what hardly varies within its block is made none."""
    mean = weights @ features
    variance = weights @ (features - mean) ** 2
    for columns in blocks:
        block = variance[columns]
        variance[columns] = np.where(block < _MIN_VARIANCE_SHARE * block.mean(), _NO_FEATURE, block)
    return mean, variance


def _limit_rows(owner: np.ndarray, limit: int) -> np.ndarray:
    """Returns row numbers, evenly spaced within each track so that at most about `limit` are kept.

    Args:
        owner: (rows,), the track of each, ascending.
        limit: at least one row of every track stays.
    """
    if len(owner) <= limit:
        return np.arange(len(owner))
    counts = np.bincount(owner)
    per_track = max(1, limit // np.count_nonzero(counts))
    first = np.searchsorted(owner, np.arange(len(counts)))
    return np.concatenate(
        [
            start + np.unique(np.linspace(0, count - 1, min(count, per_track)).round().astype(int))
            for start, count in zip(first, counts, strict=True)
            if count
        ]
    )


def _list_blocks(model: Tagger, variables: PyTree) -> list[slice]:
    """Returns the columns of the features of each encoder."""
    width = len(variables["batch_stats"]["norm"]["mean"])
    if not isinstance(model, CombinedEncoders):
        return [slice(0, width)]
    edges = np.cumsum([0, *model.measure_widths()])
    return [slice(int(low), int(high)) for low, high in itertools.pairwise(edges)]


def _with_statistics(variables: PyTree, mean: np.ndarray, variance: np.ndarray) -> PyTree:
    """Returns the variables with other statistics of the features."""
    norm = {"mean": mean.astype(np.float32), "var": variance.astype(np.float32)}
    return {**variables, "batch_stats": {**variables["batch_stats"], "norm": norm}}


def _with_head(model: Tagger, variables: PyTree, linear: Linear) -> PyTree:
    """Returns the variables with another output layer."""
    values = {"kernel": linear.weights, "bias": linear.bias}
    flat = traverse_util.flatten_dict(variables["params"])
    for path in flat:
        if model.is_head_path(path):
            flat[path] = values[path[-1]].astype(np.float32)
    return {**variables, "params": traverse_util.unflatten_dict(flat)}
