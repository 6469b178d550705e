"""The table of a report that compares models: quality beside cost, seeds put together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.subsets import Size, describe_size
from musrep_jax.pages.markup import Markup, element, table
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.layout import EMPTY_CELL
from musrep_jax.reporting.model_table import ModelRow, Score, format_costs, make_model_rows
from musrep_jax.reporting.results import METRIC_TITLES
from musrep_jax.reporting.tables import format_number

Result = Mapping[str, Any]

EXPLANATION = (
    "Means over seeds (\u00b1 standard deviation) with 95 % intervals over {over}; "
    "* worse than the best model (paired test, p < 0.05, all seeds agree), ** also after "
    "Holm's correction. FLOPs of one forward pass; tracks scored per second; seconds of training "
    "and test."
)
COSTS = {
    "num_params": "Parameters",
    "flops_per_chunk": "FLOPs / chunk",
    "flops_per_second": "FLOPs / s of audio",
    "tracks_per_second": "Tracks / s",
    "seconds": "Seconds",
}


def make_model_tables(results: Sequence[Result], names: Mapping[str | None, str]) -> list[Markup]:
    """Returns a table of models for every target and number of training tracks that has several.

    Args:
        results: of all cells, with display names; those that something was carried to are left
            out.
        names: shown name of every data set.
    """
    shown = cells_file.separate_variants(results)
    scratch = [result for result in shown if result.get("source") is None]
    groups: dict[tuple[str, Size], list[Result]] = {}
    for result in scratch:
        key = (result["target"], result.get("num_train_tracks") or 0)
        groups.setdefault(key, []).append(result)
    found = []
    for (target, size), cells in groups.items():
        if len(cells_file.ordered(cells, "model")) > 1:
            found.append(_table(cells, f"{names[target]}, {describe_size(size)}"))
    if not found:
        return []
    over = captions.describe_resampled(scratch)
    return [element("p", EXPLANATION.format(over=over), class_="small soft"), *found]


def _table(cells: Sequence[Result], caption: str) -> Markup:
    """Returns the table of the models of one data set, with the costs that were measured."""
    rows = make_model_rows(cells)
    measured = [field for field in COSTS if any(math.isfinite(r.costs[field]) for r in rows)]
    bounds = {
        metric: [
            bound
            for row in rows
            for bound in (row.scores[metric].value, *row.scores[metric].ci)
            if math.isfinite(bound)
        ]
        for metric in METRIC_TITLES
    }
    lines = [_line(row, bounds, measured) for row in rows]
    heads = [("Model", "text"), *((title, "number") for title in METRIC_TITLES.values())]
    heads += [(COSTS[field], "number") for field in measured]
    return table(caption, heads, lines, class_="sortable")


def _line(
    row: ModelRow, bounds: Mapping[str, Sequence[float]], measured: Sequence[str]
) -> list[Any]:
    """Returns the cells of one model."""
    if not row.num_seeds:
        return [row.model, "failed", *[EMPTY_CELL] * (len(METRIC_TITLES) + len(measured) - 1)]
    line: list[Any] = [row.model]
    for metric in METRIC_TITLES:
        score = row.scores[metric]
        line.append((_score(score, bounds[metric]), score.value))
    texts = dict(zip(COSTS, format_costs(row), strict=True))
    for field in measured:
        cost = row.costs[field]
        line.append((texts[field], None if math.isnan(cost) else cost))
    return line


def _score(score: Score, bounds: Sequence[float]) -> Markup:
    """Returns a metric with its spread, its mark, and a figure of its interval."""
    low, high = captions.limit_scores(bounds)
    width = 72

    def x(value: float) -> str:
        return f"{4 + (value - low) / (high - low) * (width - 8):.1f}"

    drawn = []
    if math.isfinite(score.ci[0]):
        drawn.append(element("line", x1=x(score.ci[0]), x2=x(score.ci[1]), y1=7, y2=7))
    drawn.append(element("circle", cx=x(score.value), cy=7, r=3))
    plot = element(
        "svg", drawn, class_="interval-plot up", viewBox=f"0 0 {width} 14", width=width, height=14,
        aria_hidden="true",
    )  # fmt: skip
    spread = "" if math.isnan(score.spread) else f" \u00b1 {score.spread:.3f}"
    interval = None
    if math.isfinite(score.ci[0]):
        interval = element("span", f" [{score.ci[0]:.3f}, {score.ci[1]:.3f}]", class_="interval")
    mark = f" {score.mark}" if score.mark else ""
    text = f"{format_number(score.value)}{spread}{mark}"
    return element("div", plot, text, interval, class_="with-plot")
