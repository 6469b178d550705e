"""Paired tests between all systems that scored the same tracks, in one pass over the scores.

Every test answers for every pair at once, so that a table of a hundred rows is tested in seconds.
Results are differences of the second system of a pair minus the first. They are not corrected for
their number, see `musrep_jax.evaluation.comparison.apply_holm_correction`.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.comparison import Difference, judge_difference
from musrep_jax.evaluation.metrics import BoolArray, FloatArray
from musrep_jax.evaluation.support import Support, make_units, support_mean, support_tracks
from musrep_jax.evaluation.swapping import are_all_swaps, draw_swaps

Pairs = dict[tuple[int, int], Difference]
"""Numbers of two systems, the smaller first -> the second minus the first."""


def compare_all_values(
    values: np.ndarray, *, num_resamples: int, seed: int = 0, track_groups: np.ndarray | None = None
) -> Pairs:
    """Returns the differences of means over tracks, tested as `compare_values` tests them.

    Args:
        values: (systems, tracks), finite, such as whether a track was named rightly.
        num_resamples: random swaps of tracks or groups.
        seed: of the swaps, which are the same for all pairs.
        track_groups: (tracks,), what is swapped as a whole; None swaps tracks.
    """
    rows = np.asarray(values, np.float64)
    units = make_units(rows.shape[1], track_groups)
    support, is_complete = support_tracks(units), are_all_swaps(units, num_resamples)
    swapped = np.empty((0, len(rows)))
    if support.reason is None and num_resamples > 0:
        blocks = draw_swaps(units, num_resamples, seed)
        swapped = np.concatenate([(1.0 - 2 * block.T) @ rows.T for block in blocks])
        swapped /= rows.shape[1]
    means = rows.mean(axis=1)
    return {
        (first, second): judge_difference(
            float(means[second] - means[first]),
            swapped[:, second] - swapped[:, first],
            support,
            is_complete=is_complete,
            is_same=bool((rows[first] == rows[second]).all()),
        )
        for first, second in itertools.combinations(range(len(rows)), 2)
    }


def compare_all_areas(
    labels: np.ndarray, scores: Sequence[np.ndarray], track_groups: np.ndarray | None = None
) -> Pairs:
    """Returns the differences of macro ROC-AUC, with the variance of DeLong et al. over groups.

    Args:
        labels: (tracks, classes), 0 or 1, some class with both.
        scores: of each system, (tracks, classes), finite.
        track_groups: (tracks,), groups that vary as a whole; None lets tracks vary alone.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Obuchowski, "Nonparametric analysis
    of clustered ROC curve data", Biometrics 1997. Not as published: the areas of several classes
    are averaged, and Student's t takes the place of the normal distribution.
    """
    held = np.asarray(labels) > 0
    held, columns = held[:, metrics.is_evaluable(held)], metrics.is_evaluable(held)
    units = make_units(len(held), track_groups)
    areas, parts = [], []
    for one in scores:
        area, influence = _spread_areas(held, np.asarray(one, np.float64)[:, columns])
        areas.append(area)
        parts.append(np.bincount(units.index, influence, units.count))
    influences, support = np.stack(parts), support_mean(held, units)
    widening = units.count / max(1, units.count - 1)
    return {
        (first, second): _judge(
            areas[second] - areas[first],
            math.sqrt(widening * np.sum((influences[second] - influences[first]) ** 2)),
            support,
        )
        for first, second in itertools.combinations(range(len(areas)), 2)
    }


def compare_all_resamples(
    measured: Sequence[float], resampled: np.ndarray, num_units: int, reason: str | None = None
) -> Pairs:
    """Returns the differences of numbers that were resampled alike, by their standard errors.

    Args:
        measured: the number of each system.
        resampled: (systems, resamples), of the same resamples; NaN where it is not defined.
        num_units: of what was resampled, at least; its degrees of freedom.
        reason: why nothing can be tested, see `Difference.reason`.
    """
    support = Support(num_units, reason)
    found = {}
    for first, second in itertools.combinations(range(len(measured)), 2):
        changes = resampled[second] - resampled[first]
        changes = changes[np.isfinite(changes)]
        error = float(changes.std(ddof=1)) if len(changes) > 1 else math.nan
        found[first, second] = _judge(float(measured[second] - measured[first]), error, support)
    return found


def _spread_areas(held: BoolArray, scores: FloatArray) -> tuple[float, FloatArray]:
    """Returns macro ROC-AUC, and by how much each track moves it."""
    from scipy.stats import rankdata

    number = held.sum(axis=0)
    others = len(held) - number
    above = rankdata(scores, axis=0)
    within = np.empty_like(above)
    for column, has in enumerate(held.T):
        within[has, column] = rankdata(scores[has, column])
        within[~has, column] = rankdata(scores[~has, column])
    # Of a track with the class the share of tracks without it that lie below, and so on.
    placements = np.where(held, (above - within) / others, 1 - (above - within) / number)
    areas = np.where(held, placements, 0).sum(axis=0) / number
    moves = (placements - areas) / np.where(held, number, others)
    return float(areas.mean()), moves.mean(axis=1)


def _judge(measured: float, error: float, support: Support) -> Difference:
    """Returns a difference with interval and p-value by its standard error and Student's t."""
    from scipy.stats import t as student

    if support.reason is not None or not math.isfinite(error):
        return Difference(measured, (math.nan, math.nan), math.nan, support.reason)
    if measured == error == 0:
        return Difference(0.0, (0.0, 0.0), 1.0)
    degrees = max(1.0, support.size - 1)
    # No test by swapping as many units could give less.
    least = 2.0 ** max(-1000.0, 1 - support.size)
    p_value = 2 * float(student.sf(abs(measured) / error, degrees)) if error > 0 else 0.0
    reach = float(student.ppf(0.975, degrees)) * error
    ci = (max(measured - reach, -1.0), min(measured + reach, 1.0))
    return Difference(measured, ci, max(p_value, least))
