"""Figures of a single training and of a single report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.metrics import EvaluationError, expected_random_average_precision
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.drawing import (
    CHANCE_COLOR,
    Figure,
    add_title,
    canvas,
    make_white_outline,
    set_quantity_limits,
    set_score_limits,
)
from musrep_jax.reporting.results import METRIC_TITLES


def draw_training_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    score: str = "roc_auc",
    switch_steps: Sequence[int] = (),
    best_step: int | None = None,
) -> Figure:
    """Returns loss, validation score and learning rate over the steps of one training.

    Args:
        rows: of `metrics.jsonl`: `kind` is `train` (with `loss`, `learning_rate`) or `validation`
            (with `loss` if known and the score), and `step`.
        title: names model and data set, and says when the data is synthetic.
        score: the validation metric to show.
        switch_steps: where the optimizer changes.
        best_step: where the best model was found.

    Returns:
        A figure with three axes, from top to bottom.

    Raises:
        EvaluationError: when there is not one row.
    """
    if not rows:
        raise EvaluationError("there is no training curve to draw: the log holds no rows.")
    curves = (
        ("loss", (("train", "loss"), ("validation", "loss"))),
        (METRIC_TITLES.get(score, score), (("validation", score),)),
        ("learning rate", (("train", "learning_rate"),)),
    )
    looks = {"train": ("#0072B2", ""), "validation": ("#D55E00", "o")}
    with canvas(8.0, 7.0) as figure:
        panels = figure.subplots(3, 1, sharex=True)
        for panel, (label, series) in zip(panels, curves, strict=True):
            for kind, field in series:
                points = [
                    (row["step"], row[field])
                    for row in rows
                    if row.get("kind") == kind and row.get(field) is not None
                ]
                if points:
                    colour, marker = looks[kind]
                    marker = marker or ("." if len(points) == 1 else "")
                    steps, values = zip(*points, strict=True)
                    draw = "steps-post" if field == "learning_rate" else "default"
                    look = {"color": colour, "marker": marker, "ms": 4, "drawstyle": draw}
                    look["clip_on"] = field != "roc_auc"  # a marker at 1 is seen whole
                    panel.plot(steps, values, label=kind, **look)
            drawn = [
                float(row[field])
                for row in rows
                for kind, field in series
                if row.get("kind") == kind and row.get(field) is not None
            ]
            if panel is panels[1]:
                set_score_limits(panel, drawn)
            else:
                set_quantity_limits(panel, drawn)
            if any(not math.isfinite(value) for value in drawn):
                corner = {"ha": "right", "va": "top", "transform": panel.transAxes}
                panel.text(0.99, 0.97, "not finite at some steps", **corner, **make_white_outline())
            if not panel.lines:
                middle = {"ha": "center", "va": "center", "transform": panel.transAxes}
                panel.text(0.5, 0.5, "not recorded", **middle, **make_white_outline())
            panel.set_ylabel(label)
            panel.grid(alpha=0.3)
            for number, step in enumerate(switch_steps):
                name = "optimizer switch" if number == 0 else None
                panel.axvline(step, color=CHANCE_COLOR, ls="--", lw=1, label=name)
            if best_step is not None:
                panel.axvline(best_step, color="#009E73", ls=":", lw=2, label="best model")
        rates = [row["learning_rate"] for row in rows if row.get("learning_rate") is not None]
        if rates and min(rates) > 0 and max(rates) >= 10 * min(rates):
            panels[2].set_yscale("log")
            panels[2].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[2].set_xlabel("step")
        panels[2].set_xlim(0, 1.03 * max(row["step"] for row in rows))
        panels[2].locator_params(axis="x", integer=True)
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
        add_title(figure, title, "")
    return figure


def draw_per_label_bars(
    report: Mapping[str, Any], *, title: str, metric: str = "pr_auc", max_labels: int = 60
) -> Figure:
    """Returns one bar per label, the commonest label first, with interval and chance level.

    Args:
        report: a cell of `results.json` or `TaggingReport.to_dict()`.
        title: names model and data set, and says when the data is synthetic.
        metric: `roc_auc` or `pr_auc`.
        max_labels: the commonest labels that are shown.

    Returns:
        A figure with one axes; labels that were not evaluated are hatched over the whole width.
    """
    entries = sorted(report["per_label"].items(), key=lambda item: -item[1]["positives"])
    shown = entries[:max_labels]
    num_tracks = int(report["num_tracks"])
    reasons = report.get("skip_reasons") or {}
    with canvas(8.0, 1.8 + 0.27 * len(shown)) as figure:
        panel = figure.subplots()
        for row, (name, entry) in enumerate(shown):
            value = cells_file.parse_number(entry.get(metric))
            if math.isnan(value):
                panel.barh(row, 1.0, color="none", edgecolor="#BBBBBB", hatch="///", lw=0)
                reason = reasons.get(name, "not evaluated")
                panel.text(
                    0.5, row, reason, ha="center", va="center", fontsize=9, **make_white_outline()
                )
                continue
            panel.barh(row, value, color="#56B4E9")
            low, high = cells_file.parse_interval(entry.get(f"{metric}_ci"))
            if math.isfinite(low):
                panel.plot([low, high], [row, row], color="#000000", lw=1.2)
            chance = 0.5
            if metric == "pr_auc":
                positives = [entry["positives"]]
                chance = float(expected_random_average_precision(positives, num_tracks)[0])
            is_first = "random scorer" not in panel.get_legend_handles_labels()[1]
            label = "random scorer" if is_first else None
            panel.plot([chance] * 2, [row - 0.42, row + 0.42], color="#D55E00", lw=2, label=label)
        texts = [f"{captions.shorten(name, 40)}  ({entry['positives']})" for name, entry in shown]
        panel.set_yticks(range(len(shown)), texts)
        panel.set_ylim(len(shown) - 0.4, -0.6)
        panel.set_xlim(0, 1)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        over = "groups of tracks" if report.get("num_track_groups") else "tracks"
        panel.set_xlabel(f"{METRIC_TITLES[metric]}, with 95 % interval over {over}")
        handles, labels = panel.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center")
        hidden = f"; the {len(shown)} commonest of {len(entries)}" if shown != entries else ""
        add_title(figure, title, f"labels with their support among {num_tracks} tracks{hidden}")
    return figure
