"""Figures of a study: a metric over the values of the setting that was varied."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.evaluation.subsets import describe_size
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    EXTRA_COLORS,
    MODE_STYLES,
    Figure,
    add_title,
    canvas,
    save_figure,
    set_score_limits,
)
from musrep_jax.reporting.results import METRIC_TITLES, Cell, Condition, Summary


def save_study_figures(
    cells: Sequence[Cell], folder: str | Path, *, synthetic: Collection[str] = ()
) -> list[Path]:
    """Returns the paths of `study_SETTING_METRIC.png` for every varied setting and metric.

    Args:
        cells: of `results.json`.
        folder: where the files go.
        synthetic: names of the data sets whose audio is generated.
    """
    paths = []
    for setting, title in cells_file.list_study_settings(cells).items():
        varied = [c for c in cells if setting in (c.get("study") or {})]
        if all(cells_file.is_failed(cell) for cell in varied):
            continue
        for metric in METRIC_TITLES:
            figure = draw_study(cells, setting, metric=metric, synthetic=synthetic)
            path = Path(folder) / f"study_{title.replace('.', '_')}_{metric}.png"
            paths.append(save_figure(figure, path))
    return paths


def draw_study(
    cells: Sequence[Cell],
    setting: str,
    *,
    metric: str = "roc_auc",
    synthetic: Collection[str] = (),
) -> Figure:
    """Returns a metric over the values of one setting: a panel per target, a line per condition.

    Bars are 95 % intervals over test tracks, averaged over seeds. The dotted line is a random
    scorer.

    Args:
        cells: of `results.json`; those without the setting are left out.
        setting: such as `model.num_harmonics`.
        metric: `roc_auc` or `pr_auc`.
        synthetic: names of the data sets whose audio is generated.

    Returns:
        A figure with one axes per target, named after it.

    Raises:
        EvaluationError: when no finished cell has the setting.
    """
    summaries = [
        summary
        for summary in cells_file.summarize(cells, metric).values()
        if setting in dict(summary.condition.study) and math.isfinite(summary.value)
    ]
    if not summaries:
        raise EvaluationError(
            f"there is no study to draw: no finished cell has a value of {setting}."
        )
    values = list(dict.fromkeys(dict(s.condition.study)[setting] for s in summaries))
    values.sort(key=_sort_value)
    targets = list(dict.fromkeys(s.condition.target for s in summaries))
    names = captions.make_axis_names(
        [*targets, *(s.condition.source for s in summaries)], synthetic
    )
    lines: dict[tuple[str, ...], dict[str, list[Summary]]] = {}
    for summary in summaries:
        parts = _describe(summary.condition, setting, names)
        lines.setdefault(parts, {}).setdefault(summary.condition.target, []).append(summary)
    common = set.intersection(*map(set, lines))
    with canvas(max(6.0, 3.4 * len(targets) + 0.6), 4.2) as figure:
        panels = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
        for panel, target in zip(panels, targets, strict=True):
            chances = []
            for number, (parts, by_target) in enumerate(lines.items()):
                found = by_target.get(target, [])
                if not found:
                    continue
                x = [values.index(dict(s.condition.study)[setting]) for s in found]
                order = sorted(range(len(x)), key=x.__getitem__)
                shift = 0.06 * (number - (len(lines) - 1) / 2)
                y = [found[i].value for i in order]
                errors = [
                    [max(0.0, found[i].value - found[i].ci[0]) for i in order],
                    [max(0.0, found[i].ci[1] - found[i].value) for i in order],
                ]
                has_intervals = all(map(math.isfinite, [*errors[0], *errors[1]]))
                mode = found[0].condition.mode
                color, marker, style = MODE_STYLES.get(mode, (EXTRA_COLORS[0], "D", "-."))
                if number >= len(MODE_STYLES) or len({p for p in lines if mode in p}) > 1:
                    color = EXTRA_COLORS[number % len(EXTRA_COLORS)]
                panel.errorbar(
                    [x[i] + shift for i in order],
                    y,
                    yerr=errors if has_intervals else None,
                    color=color,
                    marker=marker,
                    ls=style,
                    capsize=2,
                    clip_on=False,
                    label=", ".join(p for p in parts if p not in common) or parts[0],
                )
                chances += [s.chance for s in found if math.isfinite(s.chance)]
            if chances:
                panel.axhline(sum(chances) / len(chances), color=CHANCE_COLOR, ls=":", lw=1)
            panel.set_title(captions.wrap(names[target], 34))
            panel.set_xticks(range(len(values)), [cells_file.format_study_value(v) for v in values])
            panel.set_xlabel(setting)
        drawn = [v for s in summaries for v in (s.value, s.chance, *s.ci)]
        set_score_limits(panels[0], drawn)
        figure.supylabel(f"{METRIC_TITLES[metric]} on test tracks")
        handles = {}
        for panel in panels:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
        note = captions.make_data_note(list(names), synthetic)
        add_title(figure, f"{METRIC_TITLES[metric]} over {setting}", note)
    return figure


def _describe(condition: Condition, setting: str, names: dict[str | None, str]) -> tuple[str, ...]:
    """Returns the parts that describe a line of the figure."""
    start = () if condition.source is None else (f"from {names[condition.source]}",)
    tracks = condition.num_train_tracks
    size = (describe_size(tracks),) if tracks else ()
    others = (
        f"{name.rpartition('.')[2]}={cells_file.format_study_value(value)}"
        for name, value in condition.study
        if name != setting
    )
    return (condition.model, condition.mode.replace("_", " "), *start, *size, *others)


def _sort_value(value: object) -> tuple:
    """Returns what puts numbers in order before all else, which keeps the order it has."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value) if is_number else (1, 0)
