"""Tables of the differences between all rows of another table, and what they come to in words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.comparison import SIGNIFICANCE, apply_holm_correction
from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table
from musrep_jax.reporting.results import parse_number

MAX_ROWS = 20
"""Rows of a matrix that can still be read; of more all pairs are in `results.json` alone."""


def collect_pairs(
    rows: Sequence[Sequence[Mapping[str, Any]]],
    read: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]],
) -> tuple[FloatArray, FloatArray]:
    """Returns the differences between rows, and their p-values corrected for their number.

    Of several seeds the mean difference and the largest p-value count.

    Args:
        rows: the results of each row, one per seed.
        read: the differences of a result from those before it: `key`, `difference`, `p_value`.

    Returns:
        float64 (rows, rows) twice: row minus column, NaN where nothing was compared.
    """
    place = {result["key"]: number for number, row in enumerate(rows) for result in row}
    differences: dict[tuple[int, int], list[float]] = {}
    p_values: dict[tuple[int, int], list[float]] = {}
    for number, row in enumerate(rows):
        for result in row:
            for one in read(result):
                other = place.get(one["key"])
                if other is not None and other != number:
                    later, earlier = max(number, other), min(number, other)
                    sign = 1 if later == number else -1
                    pair = later, earlier
                    differences.setdefault(pair, []).append(sign * parse_number(one["difference"]))
                    p_values.setdefault(pair, []).append(parse_number(one["p_value"]))
    found, tested = (np.full((len(rows), len(rows)), np.nan) for _ in range(2))
    corrected = apply_holm_correction([max(values) for values in p_values.values()])
    for (later, earlier), p_value in zip(p_values, corrected.tolist(), strict=True):
        value = float(np.mean(differences[later, earlier]))
        found[later, earlier], found[earlier, later] = value, -value
        tested[later, earlier] = tested[earlier, later] = p_value
    return found, tested


def format_pairs(
    names: Sequence[str], differences: FloatArray, p_values: FloatArray, title: str
) -> str:
    """Returns the matrix of differences in Markdown; "" of too few or too many rows.

    Args:
        names: of the rows.
        differences: (rows, rows), row minus column, see `collect_pairs`.
        p_values: (rows, rows), corrected.
        title: of what differs, such as "accuracy".
    """
    if not 2 <= len(names) <= MAX_ROWS or not np.isfinite(differences).any():
        return ""
    columns = [Column("Row"), Column(f"{title}: row minus column")]
    columns += [Column(str(number + 1), is_number=True) for number in range(len(names) - 1)]
    lines = []
    for number, name in enumerate(names):
        cells = []
        for other in range(len(names) - 1):
            value = differences[number, other] if other < number else np.nan
            star = " *" if p_values[number, other] < SIGNIFICANCE else ""
            cells.append(f"{value:+.3f}{star}" if np.isfinite(value) else EMPTY_CELL)
        lines.append([str(number + 1), name, *cells])
    legend = f"*: p < {SIGNIFICANCE} in a paired test, corrected for all pairs (Holm)."
    if not np.isfinite(p_values).any():
        legend = "There are too few groups or tracks for a test, or none was asked for."
    return f"{format_table(columns, lines)}\n\n{legend}"


def describe_pairs(
    names: Sequence[str], best: int, differences: FloatArray, p_values: FloatArray
) -> str:
    """Returns a sentence on how many rows differ, and from how many the best one; "" of one row.

    Args:
        names: of the rows.
        best: number of the best one.
        differences: see `format_pairs`.
        p_values: see `format_pairs`.
    """
    upper = np.triu_indices(len(names), 1)
    tested = np.isfinite(p_values[upper])
    if not tested.any():
        return ""
    is_shown = p_values < SIGNIFICANCE
    others = np.isfinite(p_values[best])
    above = np.count_nonzero(is_shown[best] & (differences[best] > 0))
    return (
        f"of {np.count_nonzero(tested)} pairs of rows {np.count_nonzero(is_shown[upper])} differ "
        f"(paired tests, corrected for all pairs); {names[best]} is shown to be better than "
        f"{above} of {np.count_nonzero(others)} others."
    )
