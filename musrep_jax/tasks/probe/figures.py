"""The figure of probes: a metric over the number of training tracks, one panel per classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musrep_jax.evaluation.subsets import rank_size, shorten_size
from musrep_jax.reporting import captions
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    SERIES_COLORS,
    SERIES_MARKERS,
    Figure,
    add_title,
    canvas,
    save_figure,
    set_score_limits,
)
from musrep_jax.tasks.jobs import slugify_name, strip_result_folders
from musrep_jax.tasks.probe.rows import Row, list_rows
from musrep_jax.tasks.task import Result


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of `examples_TARGET.png`, curves over the number of training tracks.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    shown, paths = [strip_result_folders(result) for result in results], []
    for target in dict.fromkeys(result["target"] for result in shown):
        rows = list_rows([result for result in shown if result["target"] == target])
        if rows:
            path = folder / f"examples_{slugify_name(target)}.png"
            paths.append(save_figure(draw_curves(rows, target), path))
    return paths


def draw_curves(rows: Sequence[Row], target: str) -> Figure:
    """Returns the metric that probes are judged by over the number of training tracks.

    Bars are the intervals of the tables, the dotted line is chance, the dashed one what always the
    most frequent class, or every label, reaches.

    Args:
        rows: of one data set.
        target: its name.
    """
    first = rows[0].results[0]
    metric, title = first["metrics"][0]["name"], first["metrics"][0]["title"]
    panels_of = list(dict.fromkeys((row.classifier, row.study) for row in rows))
    features = list(dict.fromkeys(row.features for row in rows))
    sizes = sorted({row.size for row in rows}, key=rank_size)
    drawn = []
    with canvas(max(6.0, 3.2 * len(panels_of) + 0.6), 4.2) as figure:
        panels = figure.subplots(1, len(panels_of), squeeze=False, sharey=True)[0]
        for panel, kind in zip(panels, panels_of, strict=True):
            for number, name in enumerate(features):
                ours = {
                    row.size: row
                    for row in rows
                    if row.features == name and (row.classifier, row.study) == kind
                }
                x = [place for place, size in enumerate(sizes) if size in ours]
                found = [ours[sizes[place]] for place in x]
                values = np.array([row.value(metric) for row in found])
                bounds = np.array([row.interval(metric) for row in found]).reshape(-1, 2)
                errors = np.stack([values - bounds[:, 0], bounds[:, 1] - values])
                panel.errorbar(
                    np.array(x) + 0.05 * (number - (len(features) - 1) / 2),
                    values,
                    yerr=np.maximum(errors, 0) if np.isfinite(errors).all() else None,
                    color=SERIES_COLORS[number % len(SERIES_COLORS)],
                    marker=SERIES_MARKERS[number % len(SERIES_MARKERS)],
                    capsize=2,
                    label=name,
                )
                drawn += [*values, *bounds.ravel()]
            for name, style in (("chance", ":"), ("everything", "--")):
                level = first["blind"][name].get(metric)
                if level is not None:
                    panel.axhline(level, color=CHANCE_COLOR, ls=style, lw=1)
                    drawn.append(level)
            panel.set_xlabel("training tracks")
            panel.set_title(captions.wrap(", ".join(filter(None, kind)), 30))
            panel.set_xticks(range(len(sizes)), [shorten_size(size) for size in sizes])
        set_score_limits(panels[0], drawn)
        panels[0].set_ylabel(title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        synthetic = [target] if first.get("is_synthetic") else []
        names = captions.make_axis_names([target], synthetic)
        note = captions.make_data_note([target], synthetic)
        add_title(figure, f"{title} over the number of training tracks, {names[target]}", note)
    return figure
