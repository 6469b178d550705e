"""From the logits of chunks to the probabilities of tracks."""

import numpy as np
from numpy.typing import ArrayLike

from musrep_jax.evaluation.metrics import EvaluationError, FloatArray

AGGREGATIONS = ("probability", "logit")
OUTPUTS = ("sigmoid", "softmax")


def aggregate_tracks(
    logits: ArrayLike,
    track_index: ArrayLike,
    mask: ArrayLike | None,
    num_tracks: int,
    how: str = "probability",
    output: str = "sigmoid",
) -> FloatArray:
    """Returns one probability per track and label from the logits of the track's chunks.

    Source: the published code of the cross-cultural tagging paper averages probabilities for its
    convolutional models and logits for the transformer; here it is a setting for all models.

    Args:
        logits: (chunks, classes).
        track_index: (chunks,), 0 to `num_tracks - 1`; of no meaning where the mask is 0.
        mask: (chunks,), 1 for a real chunk and 0 for padding; None when all are real.
        num_tracks: number of tracks.
        how: `probability` for the mean of the chunks' probabilities, `logit` for the probability of
            the mean logit.
        output: `sigmoid` for labels that are there or not each by itself, `softmax` for classes of
            which a track has one.

    Returns:
        float64 (num_tracks, classes), in [0, 1].

    Raises:
        EvaluationError: when a real chunk has a logit that is not finite or a track outside the
            range, when a track has no chunk, or when shapes, `how` or `output` are wrong.
    """
    if how not in AGGREGATIONS:
        raise EvaluationError(
            f"aggregation {how!r} is not known; choose one of {', '.join(AGGREGATIONS)}."
        )
    values, tracks = np.asarray(logits, dtype=np.float64), np.asarray(track_index)
    is_real = np.ones(len(tracks), bool) if mask is None else np.asarray(mask) > 0
    if values.ndim != 2 or not len(values) == len(tracks) == len(is_real):
        raise EvaluationError(
            f"logits have shape {values.shape}, track_index {tracks.shape} and mask "
            f"{is_real.shape}; they must be (chunks, classes), (chunks,) and (chunks,)."
        )
    values, tracks = values[is_real], tracks[is_real].astype(np.int64)
    is_outside = (tracks < 0) | (tracks >= num_tracks)
    if is_outside.any():
        raise EvaluationError(
            f"a chunk belongs to track {tracks[is_outside][0]}, but there are only {num_tracks} "
            "tracks, counted from 0."
        )
    is_broken = ~np.isfinite(values)
    if is_broken.any():
        chunk, column = np.argwhere(is_broken)[0]
        raise EvaluationError(
            f"the model gave the logit {values[chunk, column]} for class {column} of track "
            f"{tracks[chunk]} ({is_broken.any(axis=1).sum()} of {len(values)} chunks are broken); "
            "it has diverged or its input was not finite: lower the learning rate or look at the "
            "recording."
        )
    num_chunks = np.bincount(tracks, minlength=num_tracks)
    if np.any(num_chunks == 0):
        missing = np.flatnonzero(num_chunks == 0)
        raise EvaluationError(
            f"{len(missing)} of {num_tracks} tracks have no chunk, the first is track "
            f"{missing[0]}; score at least one chunk of every track."
        )
    if how == "probability":
        values = probabilities(values, output)
    num_classes = values.shape[1]
    cell = tracks[:, None] * num_classes + np.arange(num_classes)
    sums = np.bincount(cell.ravel(), weights=values.ravel(), minlength=num_tracks * num_classes)
    means = sums.reshape(num_tracks, num_classes) / num_chunks[:, None]
    return means if how == "probability" else probabilities(means, output)


def probabilities(logits: ArrayLike, output: str) -> FloatArray:
    """Returns the probabilities of logits.

    Args:
        logits: (..., classes).
        output: `sigmoid` or `softmax`.

    Returns:
        float64 of the same shape, in [0, 1].

    Raises:
        EvaluationError: if there is no such output.
    """
    if output not in OUTPUTS:
        raise EvaluationError(f"output {output!r} is not known; choose {' or '.join(OUTPUTS)}.")
    return sigmoid(logits) if output == "sigmoid" else softmax(logits)


def sigmoid(logits: ArrayLike) -> FloatArray:
    """Returns probabilities in float64 without overflow for logits of any size.

    >>> sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])

    Args:
        logits: any shape.

    Returns:
        float64 of the same shape, in [0, 1].
    """
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def softmax(logits: ArrayLike) -> FloatArray:
    """Returns probabilities in float64 that sum to 1 over the last axis, without overflow.

    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])

    Args:
        logits: (..., classes).

    Returns:
        float64 of the same shape, in [0, 1].
    """
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
