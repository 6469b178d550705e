"""Classifiers of few-shot learning by name, as functions of a support set and queries."""

import functools

import numpy as np

from musrep_jax.evaluation.metrics import BoolArray, EvaluationError, FloatArray
from musrep_jax.probing.episodes import Scorer
from musrep_jax.probing.few_examples import LOGISTIC, PROTOTYPE, fit_candidates
from musrep_jax.probing.prototypes import PROTOTYPES, score_by_prototypes

CONTRAST = "contrast"
METHODS = (*PROTOTYPES, CONTRAST, LOGISTIC)
"""`label` and `combination`, see `prototypes`; `contrast`, nearer to the mean of the examples with
the label than to that of those without it; `logistic` regression with examples of both weighing
alike."""
_NUMBER_OF_LOGISTIC = 2
"""Of the strengths of `few_examples.LOGISTIC_STRENGTHS`: 0.1."""


def make_scorer(method: str, distance: str = "cosine", *, centers: bool = True) -> Scorer:
    """Returns a classifier; its scores are above 0 where it says that a label holds.

    Args:
        method: of `METHODS`.
        distance: of prototypes, see `prototypes.DISTANCES`.
        centers: whether the mean of the support set is subtracted first, so that a cosine above 0
            says something (Wang et al., "SimpleShot", 2019); the public code does not.

    Raises:
        EvaluationError: if there is no such method.
    """
    if method not in METHODS:
        raise EvaluationError(f"method {method!r} is not known; choose of {', '.join(METHODS)}.")
    return functools.partial(_score, method, distance, centers)


def _score(
    method: str,
    distance: str,
    centers: bool,
    support: FloatArray,
    targets: BoolArray,
    queries: FloatArray,
) -> FloatArray:
    """Returns the scores of queries, float64 (queries, labels)."""
    support, queries = np.asarray(support, np.float64), np.asarray(queries, np.float64)
    if centers:
        middle = support.mean(axis=0)
        support, queries = support - middle, queries - middle
    if method in PROTOTYPES:
        return score_by_prototypes(support, targets, queries, method, distance)
    if method == CONTRAST:
        return fit_candidates(support, targets, [PROTOTYPE])[0].logits(queries)
    return fit_candidates(support, targets, [LOGISTIC])[_NUMBER_OF_LOGISTIC].logits(queries)
