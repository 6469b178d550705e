"""Figures of few-shot learning: ROC-AUC and macro F1 over the number of examples of each label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from musrep_jax.reporting.results import parse_interval, parse_number
from musrep_jax.tasks.few_shot.trial import POOLS
from musrep_jax.tasks.jobs import slugify_name, strip_result_folders
from musrep_jax.tasks.task import Result

SHOWN = {"roc_auc": "ROC-AUC", "f1": "macro F1"}
"""Metric of a row of panels -> its title."""


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of `few_shot_TARGET_POOL.png`, one for each pool of labels.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    done = [strip_result_folders(one) for one in results if one["error"] is None]
    paths = []
    for target in dict.fromkeys(result["target"] for result in done):
        for pool in POOLS:
            ours = [r for r in done if r["target"] == target and pool in r["pools"]]
            if ours:
                path = folder / f"few_shot_{slugify_name(target)}_{pool}.png"
                paths.append(save_figure(draw_episodes(ours, target, pool), path))
    return paths


def draw_episodes(results: Sequence[Result], target: str, pool: str) -> Figure:
    """Returns ROC-AUC above and macro F1 below over the number of examples, by features.

    Bars are the intervals of the tables, of several seeds the means of their bounds. The dotted
    line is random scores, the dashed one who predicts every label for every track.

    Args:
        results: of one data set, that have the pool.
        target: its name.
        pool: of labels.
    """
    columns = list(dict.fromkeys((r["features"], r["num_labels"]) for r in results))
    methods = list(dict.fromkeys(result["classifier"] for result in results))
    shots = sorted({result["num_shots"] for result in results})
    several = len({num_labels for _, num_labels in columns}) > 1
    with canvas(max(5.0, 3.4 * len(columns) + 0.6), 6.4) as figure:
        rows = figure.subplots(len(SHOWN), len(columns), squeeze=False, sharey="row", sharex=True)
        for (metric, title), panels in zip(SHOWN.items(), rows, strict=True):
            drawn: list[float] = []
            for panel, (features, num_labels) in zip(panels, columns, strict=True):
                ours = [
                    r for r in results if (r["features"], r["num_labels"]) == (features, num_labels)
                ]
                for number, method in enumerate(methods):
                    alike = [result for result in ours if result["classifier"] == method]
                    found = _collect(alike, shots, (pool, "metrics", metric))
                    shift = 0.05 * (number - (len(methods) - 1) / 2)
                    errors = np.maximum(np.stack([found[0] - found[1], found[2] - found[0]]), 0)
                    panel.errorbar(
                        np.arange(len(shots)) + shift, found[0], np.nan_to_num(errors), capsize=2,
                        color=SERIES_COLORS[number % len(SERIES_COLORS)], label=method,
                        marker=SERIES_MARKERS[number % len(SERIES_MARKERS)],
                    )  # fmt: skip
                    drawn += found[np.isfinite(found)].tolist()
                for name, style in (("random", ":"), ("everything", "--")):
                    found = _collect(ours, shots, (pool, name, metric))
                    label = {"random": "random scores", "everything": "every label"}[name]
                    panel.plot(found[0], ls=style, lw=1, color=CHANCE_COLOR, label=label)
                    drawn += found[0][np.isfinite(found[0])].tolist()
                panel.set_xticks(range(len(shots)), list(map(str, shots)))
                if metric == next(iter(SHOWN)):
                    words = f"{features}, {num_labels} labels" if several else features
                    panel.set_title(captions.wrap(words, 30))
                else:
                    panel.set_xlabel("examples of each label")
            set_score_limits(panels[0], drawn)
            panels[0].set_ylabel(title)
        handles = rows[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3)
        synthetic = [target] if results[0].get("is_synthetic") else []
        names = captions.make_axis_names([target], synthetic)
        words = f"Episodes of {columns[0][1]} {pool} labels" if not several else f"{pool} labels"
        add_title(figure, f"{words}, {names[target]}", captions.make_data_note([target], synthetic))
    return figure


def _collect(
    results: Sequence[Result], shots: Sequence[int], place: tuple[str, str, str]
) -> np.ndarray:
    """Returns value, lower and upper bound at each number of examples, means over seeds."""
    pool, kind, metric = place
    found = np.full((3, len(shots)), np.nan)
    for place, count in enumerate(shots):
        alike = [result for result in results if result["num_shots"] == count]
        values = [result["pools"][pool][kind][metric] for result in alike]
        if values:
            found[:, place] = np.mean([_list_bounds(one) for one in values], axis=0)
    return found


def _list_bounds(one: Mapping[str, Any] | float) -> tuple[float, float, float]:
    """Returns value and bounds of a number of a result, which may have an interval."""
    if isinstance(one, Mapping):
        return (parse_number(one["value"]), *parse_interval(one["ci"]))
    return parse_number(one), np.nan, np.nan
