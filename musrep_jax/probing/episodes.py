"""Episodes of few-shot learning: N labels, K examples of each, and everything else as queries.

An episode draws its labels, then support examples label by label until each has K, an example
counting for all of its labels. Queries are the other tracks that have one of the labels; those of
a group that is in the support set are left out.

Source: the sampler of the public code pxaris/LC-Protonets, which takes one episode with the first N
labels of a list and knows no groups.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from musrep_jax.evaluation.metrics import BoolArray, EvaluationError, FloatArray, IntArray
from musrep_jax.probing.few_examples import deal_folds

_MAX_TRIES = 20
_FARTHEST = 1e9
"""Stands for scores of plus and minus infinity, which cannot be ranked."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """One task of few-shot learning, as numbers of labels and tracks.

    Attributes:
        labels: int (N,), columns.
        support: int, rows of the examples, ascending.
        queries: int, rows of what is tagged, ascending; of none of the support's groups.
    """

    labels: IntArray
    support: IntArray
    queries: IntArray


def find_usable_labels(targets: BoolArray, groups: np.ndarray, num_shots: int) -> IntArray:
    """Returns the labels that have examples in more than `num_shots` groups, so that some are left.

    Args:
        targets: bool (tracks, labels).
        groups: (tracks,).
        num_shots: K.
    """
    _, index = np.unique(groups, return_inverse=True)
    has = np.zeros((int(index.max(initial=-1)) + 1, targets.shape[1]), bool)
    np.logical_or.at(has, index, targets)
    return np.flatnonzero(has.sum(axis=0) > num_shots)


def draw_episodes(
    targets: BoolArray,
    groups: np.ndarray,
    pool: IntArray,
    *,
    num_labels: int,
    num_shots: int,
    num_episodes: int,
    seed: int,
) -> list[Episode]:
    """Returns episodes with label sets that are drawn from a pool.

    Args:
        targets: bool (tracks, labels).
        groups: (tracks,).
        pool: labels to draw from, all usable.
        num_labels: N.
        num_shots: K.
        num_episodes: number of episodes.
        seed: of the draws; the first episodes of a seed are the same, however many there are.

    Raises:
        EvaluationError: if the pool has fewer than N labels, or leaves no queries.
    """
    if len(pool) < num_labels:
        raise EvaluationError(
            f"only {len(pool)} labels have examples in more than {num_shots} groups, and episodes "
            f"of {num_labels} were asked for: take fewer labels or fewer examples."
        )
    return [
        draw_episode(
            targets,
            groups,
            lambda rng: rng.choice(pool, num_labels, replace=False),
            num_shots,
            np.random.default_rng((seed, number)),
        )
        for number in range(num_episodes)
    ]


def draw_episode(
    targets: BoolArray,
    groups: np.ndarray,
    draw_labels: Callable[[np.random.Generator], IntArray],
    num_shots: int,
    rng: np.random.Generator,
) -> Episode:
    """Returns one episode; labels and examples are drawn again where no label can be tested.

    Args:
        targets: bool (tracks, labels).
        groups: (tracks,).
        draw_labels: returns labels; the same ones each time for a fixed set.
        num_shots: K.
        rng: what draws.

    Raises:
        EvaluationError: if no draw leaves queries with and without one of the labels.
    """
    for _ in range(_MAX_TRIES):
        labels = np.asarray(draw_labels(rng))
        part = targets[:, labels]
        support = draw_support(part, num_shots, rng)
        is_query = part.any(axis=1) & ~np.isin(groups, groups[support])
        queries = np.flatnonzero(is_query)
        held = part[queries]
        if len(queries) and (held.any(axis=0) & ~held.all(axis=0)).any():
            return Episode(labels, support, queries)
    raise EvaluationError(
        f"{_MAX_TRIES} draws left no recording of another group with one of the labels and none "
        "without it: take fewer examples, or data with more groups."
    )


def draw_support(targets: BoolArray, num_shots: int, rng: np.random.Generator) -> IntArray:
    """Returns support examples: label by label as many as still lack to K, or all there are.

    Args:
        targets: bool (tracks, N), of the labels of the episode.
        num_shots: K.
        rng: what draws.

    Returns:
        int, rows, ascending.
    """
    chosen = np.zeros(len(targets), bool)
    for column in range(targets.shape[1]):
        lacking = num_shots - int(targets[chosen, column].sum())
        left = np.flatnonzero(targets[:, column] & ~chosen)
        if lacking > 0:
            chosen[rng.choice(left, min(lacking, len(left)), replace=False)] = True
    return np.flatnonzero(chosen)


Scorer = Callable[[FloatArray, BoolArray, FloatArray], FloatArray]
"""(support features, support targets, query features) -> scores (queries, labels)."""


def score_episode(
    episode: Episode, features: FloatArray, targets: BoolArray, scorer: Scorer
) -> FloatArray:
    """Returns the scores of the queries of an episode, finite.

    Args:
        episode: the episode.
        features: (tracks, width).
        targets: bool (tracks, labels).
        scorer: learns from the support set.

    Returns:
        float64 (queries, N).
    """
    part = targets[np.ix_(episode.support, episode.labels)]
    found = scorer(features[episode.support], part, features[episode.queries])
    return np.clip(found, -_FARTHEST, _FARTHEST)


def fit_threshold(
    episode: Episode,
    features: FloatArray,
    targets: BoolArray,
    groups: np.ndarray,
    scorer: Scorer,
    default: float,
    num_folds: int = 5,
) -> float:
    """Returns one threshold for all labels, from support examples that are left out in turn.

    It has the best macro F1, midway to the next score; of equal ones the highest.

    Args:
        episode: the episode.
        features: (tracks, width).
        targets: bool (tracks, labels).
        groups: (tracks,), left out together.
        scorer: learns from the support set.
        default: threshold where nothing can be left out, as with a single example of each label.
        num_folds: at most.
    """
    part = targets[np.ix_(episode.support, episode.labels)]
    inputs = features[episode.support]
    scores = np.full(part.shape, np.nan)
    for fold in deal_folds(groups[episode.support], part, num_folds):
        if part[fold.train].any():
            found = scorer(inputs[fold.train], part[fold.train], inputs[fold.test])
            scores[fold.test] = np.clip(found, -_FARTHEST, _FARTHEST)
    # Of a label that no other example had, the score says nothing.
    is_known = np.isfinite(scores) & (np.abs(scores) < _FARTHEST)
    if not (part & is_known).any():
        return default
    levels = np.unique(scores[is_known])
    cuts = np.append(levels[:-1] + np.diff(levels) / 2, levels[0] - 1)
    decided = (scores[None] > cuts[:, None, None]) & is_known[None]
    truth = (part & is_known)[None]
    both = (decided & truth).sum(axis=1)
    total = np.maximum(decided.sum(axis=1) + truth.sum(axis=1), 1)
    f1 = (2 * both / total).mean(axis=1)
    return float(cuts[f1 == f1.max()].max())


def list_base_and_novel(names: Sequence[str], known: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Returns the columns of labels that a model was trained on, and of the others.

    Args:
        names: of the labels.
        known: labels of the model.
    """
    is_base = np.isin(np.array(names), np.array(list(known), dtype=str))
    return np.flatnonzero(is_base), np.flatnonzero(~is_base)
