"""Figures of transfer experiments: the matrix and learning curves."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.evaluation.subsets import Size, describe_size, get_number_per_class
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    EXTRA_COLORS,
    MODE_STYLES,
    add_title,
    canvas,
    make_white_outline,
    save_figure,
    set_score_limits,
)
from musrep_jax.reporting.results import BASELINE, METRIC_TITLES, MODES, Cell, Summary

_DODGE = 0.022
"""Distance of the lines of a learning curve, as a part of the axis."""


def save_transfer_figures(
    cells: Sequence[Cell], folder: str | Path, *, synthetic: Collection[str] = ()
) -> list[Path]:
    """Returns the paths of all figures of a transfer experiment after writing them.

    For every model, with every combination of a study's values, and metric: one heat map, at the
    largest number of training tracks, and learning curves when there are several numbers.

    Args:
        cells: of `results.json`; failed ones show as hatched fields.
        folder: where the files go.
        synthetic: names of the data sets whose audio is generated.
    """
    paths = []
    baselines = [cell for cell in cells if cell["mode"] == BASELINE]
    cells = cells_file.separate_variants(cells_file.drop_baselines(cells))
    for model in cells_file.ordered(cells, "model"):
        of_model = [cell for cell in cells if cell["model"] == model]
        if all(cells_file.is_failed(cell) for cell in of_model):
            continue
        sizes = captions.list_training_sizes(of_model)
        for metric in METRIC_TITLES:
            heat_map = draw_transfer_heat_map(of_model, metric=metric, synthetic=synthetic)
            stem = re.sub(r"[^\w.+-]+", "_", model)
            name = f"transfer_{stem}_{metric}.png"
            paths.append(save_figure(heat_map, Path(folder) / name))
            if len(sizes) > 1:
                curves = learning_curves(
                    of_model, metric=metric, synthetic=synthetic, baselines=baselines
                )
                name = f"learning_curves_{stem}_{metric}.png"
                paths.append(save_figure(curves, Path(folder) / name))
    return paths


def draw_transfer_heat_map(
    cells: Sequence[Cell],
    *,
    metric: str = "roc_auc",
    num_train_tracks: Size | None = None,
    synthetic: Collection[str] = (),
) -> Figure:
    """Returns the transfer matrix: rows are sources, columns targets, one panel per mode.

    A field shows the value, its 95 % interval over tracks (the standard deviation over seeds where
    there are several), and the difference to scratch, which is also its color.

    Args:
        cells: of one model.
        metric: `roc_auc` or `pr_auc`.
        num_train_tracks: which training set size to show; None takes the largest (0 is all).
        synthetic: names of the data sets whose audio is generated.

    Returns:
        A figure whose axes are the panels and the color bar.

    Raises:
        EvaluationError: when there are no cells, or of several models.
    """
    model = captions.get_single_model(cells)
    wanted = num_train_tracks
    if wanted is None:
        wanted = captions.list_training_sizes(cells)[-1]
    matrix = captions.make_transfer_matrix(cells, metric, wanted, synthetic)
    targets, sources, names = matrix.targets, matrix.sources, matrix.names
    summaries, modes = matrix.summaries, matrix.modes
    differences = [abs(s.difference) for s in summaries.values() if math.isfinite(s.difference)]
    limit = max([captions.MIN_COLOR_RANGE, *differences])
    mapped = ScalarMappable(Normalize(-limit, limit), matplotlib.colormaps["RdBu"])

    num_columns = 1 if len(targets) > 3 else len(modes)
    num_rows = math.ceil(len(modes) / num_columns)
    width = max(6.0, num_columns * (1.9 + 1.45 * len(targets)) + 1.1)
    height = num_rows * (1.0 + 0.85 * len(sources)) + 1.3
    with canvas(width, height) as figure:
        panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
        for panel, mode in zip(panels, modes, strict=True):
            for row, source in enumerate(sources):
                for column, target in enumerate(targets):
                    found = matrix.field(mode, source, target)
                    _draw_field(panel, row, column, found, mapped, source == target)
            _finish_matrix(panel, mode, [names[s] for s in sources], [names[t] for t in targets])
        if differences:
            bar = figure.colorbar(mapped, ax=panels, shrink=0.8, aspect=25)
            bar.set_label(f"{METRIC_TITLES[metric]} minus scratch")
        add_title(
            figure,
            f"Transfer, {METRIC_TITLES[metric]} on the target: {model}, {describe_size(wanted)}",
            captions.make_data_note([*targets, *sources], synthetic),
        )
        spread = (
            "standard deviation over seeds"
            if captions.has_seeds(summaries)
            else f"95 % interval over {captions.describe_resampled(cells)}"
        )
        _footnote(
            figure,
            f"Small print: {spread}, then difference to scratch; * p < 0.05. "
            "Hatched: not run or failed.",
        )
    return figure


def learning_curves(
    cells: Sequence[Cell],
    *,
    metric: str = "roc_auc",
    synthetic: Collection[str] = (),
    baselines: Sequence[Cell] = (),
) -> Figure:
    """Returns the metric over the number of labeled training tracks: scratch and both transfers.

    Where sizes are numbers per class, these stand at the ticks, and the places are still the
    numbers of tracks.

    One panel per source and target. Bars are 95 % intervals over test tracks, or whole groups of
    them, averaged over seeds, side by side at a number of tracks; dots are single seeds. The
    dotted line is a random scorer.

    Args:
        cells: of one model; those whose number of training tracks is not known are left out.
        metric: `roc_auc` or `pr_auc`.
        synthetic: names of the data sets whose audio is generated.
        baselines: cells of the baseline, drawn as one more line.

    Returns:
        A figure with one axes per panel, named `source -> target`.

    Raises:
        EvaluationError: when no cell can be drawn, or cells are of several models.
    """
    model = captions.get_single_model(cells)
    targets = captions.find_transfer_targets(cells)
    summaries = [
        s
        for part in (cells, baselines)
        for s in cells_file.summarize(part, metric).values()
        if s.num_train_tracks_used and math.isfinite(s.value) and s.condition.target in targets
    ]
    if not summaries:
        raise EvaluationError(
            "there is no learning curve to draw: no finished cell says how many tracks it was "
            "trained on (num_train_tracks, or num_train_tracks_used when it is 0)."
        )
    pairs = captions.list_transfer_pairs(summaries, targets)
    per_target = max(sum(target == pair[1] for pair in pairs) for target in targets)
    num_columns = 2 if len(pairs) == 4 else min(3, len(pairs))  # four are two by two
    if per_target > 1:
        num_columns = per_target
    num_rows = math.ceil(len(pairs) / num_columns)
    names = captions.make_axis_names([name for pair in pairs for name in pair], synthetic)
    restricted = [s.condition.num_train_tracks for s in summaries if s.condition.num_train_tracks]
    is_per_class = bool(restricted) and all(map(get_number_per_class, restricted))
    with canvas(max(6.0, 3.1 * num_columns + 0.6), 2.6 * num_rows + 1.5) as figure:
        panels = list(figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flat)
        for panel, (source, target) in zip(panels, pairs, strict=False):
            lines: dict[str, list[Summary]] = {}
            for s in summaries:
                if s.condition.target == target and s.condition.source in (None, source):
                    lines.setdefault(s.condition.mode, []).append(s)
            _draw_curves(panel, lines, is_per_class)
            start = "" if source is None else f"{names[source]} → "
            panel.set_title(captions.wrap(f"{start}{names[target]}", 34))
        drawn = [v for s in summaries for v in (s.value, s.chance, *s.ci, *s.seed_values)]
        set_score_limits(panels[0], drawn)
        for panel in panels[len(pairs) :]:
            panel.set_axis_off()
        for panel in panels[max(0, len(pairs) - num_columns) : len(pairs)]:
            panel.set_xlabel("labeled training tracks" + is_per_class * " per class")
        figure.supylabel(f"{METRIC_TITLES[metric]} on test tracks")
        handles: dict[str, Any] = {}
        for panel in panels[: len(pairs)]:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        num_entries = 2 if num_columns == 1 else 4  # of a row that is as wide as the figure
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=num_entries
        )
        note = captions.make_data_note(list(names), synthetic)
        add_title(figure, f"Learning curves, {METRIC_TITLES[metric]}: {model}", note)
    return figure


def _draw_field(
    panel: Axes,
    row: int,
    column: int,
    summary: Summary | None,
    mapped: ScalarMappable,
    is_same: bool,
) -> None:
    """Draws one field of the transfer matrix."""
    if summary is None or math.isnan(summary.value):
        look = {"facecolor": "#F4F4F4", "edgecolor": "#C4C4C4", "hatch": "////"}
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, lw=0, **look))
        text = "same" if is_same else "failed" if summary is not None else ""
        if text:
            panel.text(
                column, row, text, ha="center", va="center", fontsize=9, **make_white_outline()
            )
        return
    colour = "#E6E6E6"
    if math.isfinite(summary.difference):
        colour = mapped.to_rgba(summary.difference)
    panel.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white", lw=2)
    )
    red, green, blue = matplotlib.colors.to_rgb(colour)
    ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.45 else "black"
    small = []
    if math.isfinite(summary.spread):
        small.append(f"± {summary.spread:.3f}")
    elif math.isfinite(summary.ci[0]):
        small.append(f"{summary.ci[0]:.3f}-{summary.ci[1]:.3f}")
    if math.isfinite(summary.difference):
        small.append(f"{summary.difference:+.3f}{' *' if summary.is_significant else ''}")
    centre = {"ha": "center", "va": "center", "color": ink}
    rise = 0.14 * len(small)
    panel.text(column, row - rise, f"{summary.value:.3f}", fontsize=12, **centre)
    for line, text in enumerate(small):
        panel.text(column, row - rise + 0.3 + 0.26 * line, text, fontsize=8.5, **centre)


def _finish_matrix(panel: Axes, mode: str, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Sets ticks, names and limits of a panel of the transfer matrix."""
    panel.set_xlim(-0.5, len(columns) - 0.5)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xticks(range(len(columns)), [captions.wrap(name, 15) for name in columns])
    panel.set_yticks(range(len(rows)), [captions.wrap(name, 18) for name in rows])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    if len(rows) > 1:
        # The baseline stands apart from the transfers.
        panel.axhline(0.5, color="white", lw=6)
    panel.set_title(mode.replace("_", " "), fontweight="bold")
    panel.set_xlabel("target")
    panel.set_ylabel("source")


def _draw_curves(
    panel: Axes, lines: Mapping[str, Sequence[Summary]], is_per_class: bool = False
) -> None:
    """Draws the curves of one source and target."""
    places: dict[int, str] = {}
    chances = []
    modes = [*(m for m in MODES if m in lines), *(m for m in lines if m not in MODES)]
    sizes = [s.num_train_tracks_used for points in lines.values() for s in points]
    reach = max(math.log(max(sizes) / min(sizes)), 1.0)
    for number, mode in enumerate(modes):
        points = sorted(lines[mode], key=lambda s: s.num_train_tracks_used)
        extra = (EXTRA_COLORS[number % len(EXTRA_COLORS)], "D", "-.")
        colour, marker, style = MODE_STYLES.get(mode, extra)
        # Side by side: intervals of several colors on each other are of none.
        shift = math.exp(_DODGE * reach * (number - (len(modes) - 1) / 2))
        x = shift * np.array([s.num_train_tracks_used for s in points])
        y = np.array([s.value for s in points])
        low, high = np.array([s.ci for s in points]).T
        label = "log-mel statistics, linear" if mode == BASELINE else mode.replace("_", " ")
        look = {"color": colour, "clip_on": False}
        panel.plot(x, y, marker=marker, ls=style, ms=5, label=label, zorder=3, **look)
        panel.vlines(x, low, high, lw=1.5, alpha=0.6, **look)
        for s in points:
            if len(s.seed_values) > 1:
                seeds = len(s.seed_values)
                tracks = [shift * s.num_train_tracks_used] * seeds
                panel.plot(tracks, s.seed_values, ".", ms=4, alpha=0.6, **look)
        for s in points:
            per_class = get_number_per_class(s.condition.num_train_tracks or 0)
            name = str(s.num_train_tracks_used)
            if is_per_class:
                name = "all" if per_class is None else str(per_class)
            places.setdefault(s.num_train_tracks_used, name)
        chances += [s.chance for s in points if math.isfinite(s.chance)]
    if chances:
        panel.axhline(np.mean(chances), color=CHANCE_COLOR, ls=":", label="random scorer")
    panel.set_xscale("log")
    ticks = captions.spaced(sorted(places))
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [places[tick] for tick in ticks])
    panel.set_xlim(min(places) / 1.25, max(places) * 1.25)
    panel.tick_params(labelleft=True)
    panel.grid(alpha=0.3)


def _footnote(figure: Figure, text: str) -> None:
    """Writes a small line under all panels, within the constrained layout."""
    figure.supxlabel(
        captions.wrap(text, int(figure.get_figwidth() * 14)), fontsize=8.5, color="#444444"
    )
