"""The figure of models compared on one data set."""

import math
from collections.abc import Sequence

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    Axes,
    Figure,
    add_title,
    canvas,
    make_white_outline,
    set_score_limits,
)
from musrep_jax.reporting.model_table import COSTS, ModelRow, format_costs, make_model_rows
from musrep_jax.reporting.results import METRIC_TITLES, Cell

METRIC_COLORS = {"roc_auc": "#0072B2", "pr_auc": "#D55E00"}
COST_TITLES = {
    "num_params": "parameters",
    "flops_per_second": "FLOPs per\nsecond of audio",
    "tracks_per_second": "tracks per second",
}
COST_COLOR = "#C9DDE8"


def draw_model_comparison(
    cells: Sequence[Cell], *, title: str, models: Sequence[str] = ()
) -> Figure:
    """Returns quality beside cost, one row per model.

    Dots are means over seeds with their 95 % intervals over test tracks, small dots single seeds;
    the dashed line is a random scorer, the hollow ring marks the best model. Bars of costs are on
    logarithmic axes.

    Args:
        cells: of `results.json`, of one data set and one size of the training set.
        title: names the data set, and says when it is synthetic.
        models: order of the rows; others follow as they come.

    Returns:
        A figure with one axes per metric and one per cost.

    Raises:
        EvaluationError: when no model has a result.
    """
    rows = make_model_rows(cells, models)
    if not any(row.num_seeds for row in rows):
        raise EvaluationError("there is no comparison to draw: no model has a result.")
    num_panels = len(METRIC_TITLES) + len(COST_TITLES)
    with canvas(12.0, 1.9 + 0.36 * len(rows)) as figure:
        widths = [1.7] * len(METRIC_TITLES) + [1.0] * len(COST_TITLES)
        panels = figure.subplots(1, num_panels, sharey=True, width_ratios=widths)
        for panel, metric in zip(panels, METRIC_TITLES, strict=False):
            _draw_metric(panel, rows, cells, metric)
        for panel, cost in zip(panels[len(METRIC_TITLES) :], COST_TITLES, strict=True):
            _draw_cost(panel, rows, cost)
        panels[0].set_yticks(range(len(rows)), [captions.shorten(r.model, 28) for r in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        for panel in panels:
            panel.tick_params(axis="y", length=0)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        note = "Bars are logarithmic."
        if any(score.mark for row in rows for score in row.scores.values()):
            note += " * worse than the best model (p < 0.05), ** also after Holm's correction."
        add_title(figure, f"Taggers compared: {title}", note)
    return figure


def _draw_metric(panel: Axes, rows: Sequence[ModelRow], cells: Sequence[Cell], metric: str) -> None:
    """Draws values with intervals, and the chance level."""
    colour = METRIC_COLORS[metric]
    values = [row.scores[metric].value for row in rows]
    best = max((v for v in values if math.isfinite(v)), default=math.nan)
    labelled: set[str] = set()

    def once(label: str) -> str | None:
        is_new = label not in labelled
        labelled.add(label)
        return label if is_new else None

    for place, row in enumerate(rows):
        score = row.scores[metric]
        if not math.isfinite(score.value):
            across = panel.get_yaxis_transform()
            text = "failed" if row.errors else "not defined"
            panel.text(
                0.5, place, text, transform=across, ha="center", va="center", **make_white_outline()
            )
            continue
        if math.isfinite(score.ci[0]):
            has_groups = any(cell.get("num_track_groups") for cell in cells)
            label = once(f"95 % interval over test {'groups' if has_groups else 'tracks'}")
            panel.plot(score.ci, [place] * 2, color=colour, lw=2, alpha=0.55, label=label)
        if len(score.seed_values) > 1:
            look = {"color": "#000000", "marker": ".", "ms": 4, "ls": "", "zorder": 4}
            heights = [place + 0.22] * len(score.seed_values)
            panel.plot(score.seed_values, heights, label=once("single seeds"), **look)
        panel.plot(score.value, place, "o", color=colour, ms=6, clip_on=False)
        if score.value == best:
            look = {
                "mfc": "none",
                "mec": "#000000",
                "ms": 11,
                "ls": "",
                "marker": "o",
                "clip_on": False,
            }
            panel.plot(score.value, place, label=once("best model"), **look)
        text = f"{score.value:.3f}{' ' + score.mark if score.mark else ''}"
        across = panel.get_yaxis_transform()
        panel.text(1.06, place, text, transform=across, va="center", fontsize=8.5)
    random = [cell.get("random") or {} for cell in cells if not cells_file.is_failed(cell)]
    chances = [cells_file.parse_number(r.get(metric)) for r in random]
    for chance in sorted({c for c in chances if math.isfinite(c)}):
        panel.axvline(chance, color=CHANCE_COLOR, ls="--", lw=1.2, label=once("random scorer"))
    panel.set_title(METRIC_TITLES[metric])
    panel.set_xlabel("higher is better")
    scores = [row.scores[metric] for row in rows]
    drawn = [v for score in scores for v in (score.value, *score.ci, *score.seed_values)]
    set_score_limits(panel, [*drawn, *chances], "x")
    panel.grid(axis="x", alpha=0.3)
    panel.set_axisbelow(True)


def _draw_cost(panel: Axes, rows: Sequence[ModelRow], cost: str) -> None:
    """Draws one bar per model on a logarithmic axis, with its number in it."""
    values = [row.costs[cost] for row in rows]
    finite = [value for value in values if math.isfinite(value) and value > 0]
    panel.set_title(COST_TITLES[cost], fontsize=10)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    if not finite:
        across = {"transform": panel.transAxes, "ha": "center", "va": "center"}
        panel.text(0.5, 0.5, "not recorded", **across, **make_white_outline())
        return
    start = math.log10(min(finite)) - 0.35 * max(0.5, math.log10(max(finite) / min(finite)))
    span = max(math.log10(max(finite)) - start, 1e-6)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        if not (math.isfinite(value) and value > 0):
            continue
        panel.barh(place, (math.log10(value) - start) / span, color=COST_COLOR, height=0.75)
        text = format_costs(row)[COSTS.index(cost)]
        panel.text(0.03, place, text, va="center", fontsize=9)
    panel.set_xlim(0, 1)
    panel.set_xlabel("higher is better" if cost == "tracks_per_second" else "lower is cheaper")
