"""The figure of a robustness study: both metrics under every deformation, one line per model."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
from musrep_jax.reporting.results import METRIC_TITLES, parse_number
from musrep_jax.tasks.jobs import slugify_name, strip_parents
from musrep_jax.tasks.robustness.rows import Row, list_rows, rank_deformation
from musrep_jax.tasks.task import Result


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of `robustness_TARGET.png`.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    rows, paths = list_rows(results), []
    for target in dict.fromkeys(row.target for row in rows):
        ours = [row for row in rows if row.target == target]
        path = folder / f"robustness_{slugify_name(target)}.png"
        paths.append(save_figure(draw_deformations(ours), path))
    return paths


def draw_deformations(rows: Sequence[Row]) -> Figure:
    """Returns ROC-AUC and PR-AUC of every model on clean tracks and under every deformation.

    Bars are the intervals of the tables. Dashes continue the value on clean tracks, the dotted line
    is a random scorer. Of several seeds the first is drawn.

    Args:
        rows: of one data set.

    Source: the form is that of figure 3.8 in Won, "Representation learning for music classification
    and retrieval", 2022.
    """
    seed, study = rows[0].seed, rows[0].study
    shown = [row for row in rows if row.seed == seed and row.study == study]
    names = sorted({row.deformation for row in shown}, key=rank_deformation)
    taggers = list(dict.fromkeys(row.tagger for row in shown))
    target = strip_parents(rows[0].target)
    with canvas(max(6.0, 1.0 * len(names) + 1.5), 6.4) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for panel, (metric, title) in zip(panels, METRIC_TITLES.items(), strict=True):
            drawn = []
            for number, tagger in enumerate(taggers):
                ours = [row for row in shown if row.tagger == tagger]
                color = SERIES_COLORS[number % len(SERIES_COLORS)]
                values = np.array([row.value(metric) for row in ours])
                bounds = np.array([row.interval(metric) for row in ours])
                errors = np.stack([values - bounds[:, 0], bounds[:, 1] - values])
                shift = 0.1 * (number - (len(taggers) - 1) / 2)
                panel.errorbar(
                    np.array([names.index(row.deformation) for row in ours]) + shift,
                    values,
                    yerr=np.maximum(errors, 0) if np.isfinite(errors).all() else None,
                    color=color,
                    marker=SERIES_MARKERS[number % len(SERIES_MARKERS)],
                    ls="",
                    capsize=2,
                    label=tagger,
                )
                clean = ours[0].clean_value(metric)
                if math.isfinite(clean):
                    panel.axhline(clean, color=color, ls="--", lw=0.8, alpha=0.6)
                drawn += [*values, *bounds.ravel()]
            chance = parse_number(shown[0].result["random"][metric])
            if math.isfinite(chance):
                panel.axhline(chance, color=CHANCE_COLOR, ls=":", lw=1)
                drawn.append(chance)
            set_score_limits(panel, drawn)
            panel.set_ylabel(title)
        panels[1].set_xticks(
            range(len(names)), [name.replace(":", "\n") for name in names], fontsize=9
        )
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        synthetic = [target] if shown[0].result.get("is_synthetic") else []
        shown_names = captions.make_axis_names([target], synthetic)
        note = captions.make_data_note([target], synthetic)
        add_title(figure, f"Models on deformed recordings, {shown_names[target]}", note)
    return figure
