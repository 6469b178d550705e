"""The tables of a report: the transfer matrix, differences to scratch, all cells, failures."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.comparison import apply_holm_correction
from musrep_jax.evaluation.subsets import Size, describe_size, rank_size, shorten_size
from musrep_jax.pages.markup import Markup, element, join, table
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.model_table import format_si
from musrep_jax.reporting.results import (
    METRIC_TITLES,
    SIGNIFICANCE,
    Summary,
)
from musrep_jax.reporting.tables import (
    format_num_tracks,
    format_number,
    format_reason,
    format_setting,
)

Result = Mapping[str, Any]

NUM_SHADES = 6
MIN_PLOT_RANGE = 0.1
CELLS = (
    "Brackets: 95 % intervals over {over}. Random: a scorer that knows nothing, on the same tracks."
)
BEST_CAPTION = " Best: the model with the highest mean over seeds; * p < 0.05, paired test."
DIFFERENCES_CAPTION = (
    "Brackets: 95 % intervals of the paired test over {over}; p: of no difference, * below 0.05, "
    "** also after Holm's correction for all rows."
)
CONDITION_TITLES = {
    "source": "Source", "mode": "Mode", "model": "Model", "num_train_tracks": "Tracks",
    "seed": "Seed",
}  # fmt: skip
MINUS = "\u2212"
"""As wide as a plus sign."""


def make_transfer_matrices(results: Sequence[Result], synthetic: Sequence[str]) -> list[Markup]:
    """Returns the transfer matrix for every model, metric and number of training tracks.

    Each is a block with `data-model`, `data-metric` and `data-size`, of which the page shows one.

    Args:
        results: of all cells, with display names.
        synthetic: names of the data sets whose audio is generated.
    """
    blocks = []
    results = cells_file.separate_variants(cells_file.drop_baselines(results))
    for model in cells_file.ordered(results, "model"):
        of_model = [cell for cell in results if cell["model"] == model]
        for metric in METRIC_TITLES:
            limit = get_color_range(of_model, metric)
            for size in reversed(captions.list_training_sizes(of_model)):
                blocks.append(
                    element(
                        "div",
                        _panels(of_model, metric, size, limit, synthetic),
                        class_="matrices",
                        data_model=model,
                        data_metric=metric,
                        data_size=shorten_size(size),
                    )
                )
    return blocks


def get_color_range(results: Sequence[Result], metric: str) -> float:
    """Returns the greatest difference to scratch, which has the strongest color.

    Args:
        results: of one model.
        metric: `roc_auc` or `pr_auc`.
    """
    found = [abs(s.difference) for s in cells_file.summarize(results, metric).values()]
    return max([captions.MIN_COLOR_RANGE, *(value for value in found if math.isfinite(value))])


def shade(difference: float, limit: float) -> str:
    """Returns the class of a field's color.

    >>> shade(0.05, 0.1), shade(-0.1, 0.1), shade(0.0, 0.1)
    ('up-3', 'down-6', 'up-0')

    Args:
        difference: to scratch; NaN has no color.
        limit: of the strongest color.
    """
    if math.isnan(difference):
        return "plain"
    strength = min(NUM_SHADES, round(NUM_SHADES * abs(difference) / limit))
    return f"{'down' if difference < 0 else 'up'}-{strength}"


def _panels(
    cells: Sequence[Result], metric: str, size: Size, limit: float, synthetic: Sequence[str]
) -> list[Markup]:
    """Returns one table per mode."""
    matrix = captions.make_transfer_matrix(cells, metric, size, synthetic)
    names = matrix.names
    panels = []
    for mode in matrix.modes:
        head = [element("th", names[target], scope="col") for target in matrix.targets]
        rows = []
        for source in matrix.sources:
            fields = [
                _field(matrix.field(mode, source, target), limit, source == target)
                for target in matrix.targets
            ]
            title = "from scratch" if source is None else names[source]
            rows.append(
                element(
                    "tr",
                    element("th", title, scope="row"),
                    fields,
                    class_="from-scratch" if source is None else None,
                )
            )
        caption = (
            f"{_format_mode(mode)}: {METRIC_TITLES[metric]} on the target's test tracks, "
            f"{describe_size(size)}"
        )
        corner = element("th", "source \u2193  target \u2192", scope="col", class_="corner")
        panels.append(
            element(
                "div",
                element(
                    "table",
                    element("caption", caption),
                    element("thead", element("tr", corner, head)),
                    element("tbody", rows),
                    class_="matrix",
                ),
                class_="scroll",
                role="region",
                aria_label=caption,
                tabindex="0",
            )
        )
    return panels


def _field(summary: Summary | None, limit: float, is_same: bool) -> Markup:
    """Returns one field of the matrix."""
    if summary is None or math.isnan(summary.value):
        text = "same data set" if is_same else "failed" if summary is not None else "not run"
        return element("td", element("span", text, class_="small"), class_="nothing")
    small = []
    if math.isfinite(summary.spread):
        small.append(f"\u00b1 {summary.spread:.3f} over {len(summary.seed_values)} seeds")
    elif math.isfinite(summary.ci[0]):
        small.append(f"{summary.ci[0]:.3f} to {summary.ci[1]:.3f}")
    change = None
    if math.isfinite(summary.difference):
        mark = join([" *", element("span", " significant", class_="for-readers")])
        change = element(
            "span",
            format_change(summary.difference, (math.nan, math.nan)),
            mark if summary.is_significant else None,
            class_="change",
        )
    return element(
        "td",
        element("span", format_number(summary.value), class_="value"),
        element("span", *small, class_="interval") if small else None,
        change,
        class_=f"field {shade(summary.difference, limit)}",
    )


def make_differences_table(
    results: Sequence[Result], names: Mapping[str | None, str]
) -> Markup | None:
    """Returns the differences to scratch with intervals and p-values, or None without any.

    Args:
        results: of all cells, with display names.
        names: shown name of every data set.
    """
    compared = [r for r in cells_file.sort_cells(results) if r.get("versus_scratch")]
    if not compared:
        return None
    conditions = ConditionColumns.of(compared, names)
    corrected, ranges = {}, {}
    for metric in METRIC_TITLES:
        found = [cells_file.versus_scratch(cell, metric) for cell in compared]
        corrected[metric] = apply_holm_correction([p for _, _, p in found])
        bounds = [abs(v) for d, ci, _ in found for v in (d, *ci) if math.isfinite(v)]
        ranges[metric] = max([MIN_PLOT_RANGE, *bounds])
    rows = []
    for index, cell in enumerate(compared):
        row: list[Any] = conditions.cells(cell)
        for metric in METRIC_TITLES:
            difference, ci, p_value = cells_file.versus_scratch(cell, metric)
            row += [
                (
                    element(
                        "div",
                        draw_interval(difference, ci, ranges[metric]),
                        format_change(difference, ci)
                        + format_reason(cell["versus_scratch"][metric].get("reason")),
                        class_="with-plot",
                    ),
                    _sortable(difference),
                ),
                make_p_value_cell(p_value, float(corrected[metric][index])),
            ]
        rows.append(row)
    heads = conditions.heads
    for title in METRIC_TITLES.values():
        heads += [(f"{title} \u2212 scratch [95 %]", "number"), ("p", "number")]
    caption = DIFFERENCES_CAPTION.format(over=captions.describe_resampled(compared))
    return table(caption, heads, rows, class_="sortable")


def draw_interval(value: float, ci: tuple[float, float], limit: float) -> Markup | None:
    """Returns a small figure of a difference and its interval around zero; the text says the same.

    Args:
        value: the difference.
        ci: its interval; NaN bounds where there is none.
        limit: at the edges.
    """
    if math.isnan(value):
        return None
    width, height = 72, 14

    def x(number: float) -> str:
        clipped = max(-limit, min(limit, number))
        return f"{width / 2 + clipped / limit * (width / 2 - 4):.1f}"

    middle = height / 2
    drawn = [
        element("line", x1=width / 2, x2=width / 2, y1=0, y2=height, class_="zero"),
    ]
    if math.isfinite(ci[0]):
        drawn.append(element("line", x1=x(ci[0]), x2=x(ci[1]), y1=middle, y2=middle, class_="ci"))
    drawn.append(element("circle", cx=x(value), cy=middle, r=3))
    direction = "down" if value < 0 else "up"
    return element(
        "svg",
        drawn,
        class_=f"interval-plot {direction}",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        aria_hidden="true",
    )


def make_results_table(results: Sequence[Result], names: Mapping[str | None, str]) -> Markup:
    """Returns every cell with both metrics, chance level, size and time.

    Args:
        results: of all cells, with display names.
        names: shown name of every data set.
    """
    listed = cells_file.sort_cells(results)
    conditions = ConditionColumns.of(listed, names)
    has_costs = any(cell.get("flops_per_second") is not None for cell in listed)
    has_best = any(cell.get("versus_best") for cell in listed)
    rows = []
    for cell in listed:
        row: list[Any] = conditions.cells(cell)
        for metric in METRIC_TITLES:
            value = cells_file.parse_number(cell.get(metric))
            shown = make_value_markup(
                value, cells_file.parse_interval(cell.get(f"{metric}_ci")), cell.get("ci_reason")
            )
            row.append(("failed" if cells_file.is_failed(cell) else shown, _sortable(value)))
        if has_best:
            for metric in METRIC_TITLES:
                best = (cell.get("versus_best") or {}).get(metric) or {}
                difference = cells_file.parse_number(best.get("difference"))
                text = format_change(difference, cells_file.parse_interval(best.get("ci")))
                p_value = cells_file.parse_number(best.get("p_value"))
                mark = " *" if p_value < SIGNIFICANCE else ""
                row.append((text + mark if text else "", _sortable(difference)))
        chance = [cells_file.parse_number((cell.get("random") or {}).get(m)) for m in METRIC_TITLES]
        row.append(" / ".join(format_number(value) for value in chance))
        params = cells_file.parse_number(cell.get("num_params"))
        row.append(("" if math.isnan(params) else f"{params:,.0f}", _sortable(params)))
        for field in ("flops_per_second", "tracks_per_second") if has_costs else ():
            cost = cells_file.parse_number(cell.get(field))
            row.append((format_si(cost), _sortable(cost)))
        seconds = cells_file.parse_number(cell.get("seconds"))
        row.append((format_number(seconds)[:-2].rstrip(".") or "-", _sortable(seconds)))
        rows.append(row)
    heads = [
        *conditions.heads,
        *((f"{title} [95 %]", "number") for title in METRIC_TITLES.values()),
        *(
            (f"{title} \u2212 best [95 %]", "number")
            for title in METRIC_TITLES.values()
            if has_best
        ),
        ("Random ROC / PR", "number"),
        ("Parameters", "number"),
        *((title, "number") for title in ("FLOPs / s of audio", "Tracks / s") if has_costs),
        ("Seconds", "number"),
    ]
    caption = CELLS.format(over=captions.describe_resampled(listed)) + (
        BEST_CAPTION if has_best else ""
    )
    return table(caption, heads, rows, class_="sortable")


@dataclasses.dataclass(frozen=True)
class ConditionColumns:
    """The columns that say what a cell is: its target, and what not all cells have in common.

    Attributes:
        names: shown name of every data set.
        fields: of a cell, besides the target.
        settings: what a study varied -> title of its column.
    """

    names: Mapping[str | None, str]
    fields: tuple[str, ...]
    settings: Mapping[str, str]

    @classmethod
    def of(cls, results: Sequence[Result], names: Mapping[str | None, str]) -> "ConditionColumns":
        """Returns the columns that tell these cells apart.

        Args:
            results: of the cells.
            names: shown name of every data set.
        """
        varying = [f for f in CONDITION_TITLES if len({cell.get(f) for cell in results}) > 1]
        return cls(names, tuple(varying), cells_file.list_study_settings(results))

    @property
    def heads(self) -> list[tuple[str, str]]:
        """Title and kind of the columns."""
        numbers = ("num_train_tracks", "seed")
        kinds = [(CONDITION_TITLES[f], "number" if f in numbers else "text") for f in self.fields]
        return [("Target", "text"), *kinds, *((t, "number") for t in self.settings.values())]

    def cells(self, result: Result) -> list[Any]:
        """Returns the columns of a row.

        Args:
            result: of a cell, with display names.
        """
        source, size = result.get("source"), result.get("num_train_tracks")
        shown = {
            "source": "" if source is None else self.names[source],
            "mode": _format_mode(result["mode"]),
            "model": result["model"],
            "num_train_tracks": (
                format_num_tracks(result),
                result.get("num_train_tracks_used") or rank_size(size)[1] or 1_000_000_000,
            ),
            "seed": str(result.get("seed", "")),
        }
        return [
            self.names[result["target"]],
            *(shown[field] for field in self.fields),
            *(format_setting(result, setting) for setting in self.settings),
        ]


def make_value_markup(value: float, ci: tuple[float, float], reason: str | None = None) -> Markup:
    """Returns a value with its interval, or why it has none, in smaller letters.

    Args:
        value: of a metric.
        ci: its interval; NaN bounds where there is none.
        reason: a key of `support.REASON_TEXTS`, or None.
    """
    bounds = None
    if reason:
        bounds = element("span", format_reason(reason), class_="interval")
    if math.isfinite(ci[0]):
        bounds = element("span", f" [{ci[0]:.3f}, {ci[1]:.3f}]", class_="interval")
    return join([format_number(value), bounds])


def format_change(difference: float, ci: tuple[float, float]) -> str:
    """Returns a difference with its sign and interval, an empty text for NaN.

    >>> format_change(0.1, (0.05, 0.25))
    '+0.100 [+0.050, +0.250]'

    Args:
        difference: of a metric.
        ci: its interval.
    """
    if math.isnan(difference):
        return ""
    bounds = "" if math.isnan(ci[0]) else f" [{ci[0]:+.3f}, {ci[1]:+.3f}]"
    return f"{difference:+.3f}{bounds}".replace("-", MINUS)


def make_p_value_cell(p_value: float, corrected: float) -> tuple[Any, Any]:
    """Returns a p-value with its mark, and what to sort it by."""
    if math.isnan(p_value):
        return "", None
    mark = "**" if corrected < SIGNIFICANCE else "*" if p_value < SIGNIFICANCE else ""
    return f"{p_value:.2g} {mark}".strip(), p_value


def _sortable(value: float) -> float | None:
    return None if math.isnan(value) else value


def _format_mode(mode: str) -> str:
    return mode.replace("_", " ")
