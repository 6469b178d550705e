"""Tables and figures as in Hamel et al.: accuracy, precision, nearest labels, learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musrep_jax.reporting import drawing
from musrep_jax.reporting.curve_figures import draw_curves
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.job_table import format_job_table
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import parse_number
from musrep_jax.runtime.terminal import get_width
from musrep_jax.tasks.jobs import shorten_settings, slugify_name, strip_parents
from musrep_jax.tasks.joint_embedding.jobs import BASE, PRECISIONS, TRAINING, WINDOWS
from musrep_jax.tasks.task import Result, Tables

TITLES = {"base": "base", "genre": "genre embedding", "tags": "tag embedding"}
"""Kind of windows -> its words, those of the paper."""


def make_tables(results: Sequence[Result], targets: Sequence[str]) -> Tables:
    """Returns accuracy and precision of every target by kind of windows, and the nearest labels.

    Args:
        results: of all jobs.
        targets: in the order of rows.
    """
    judged = [r for r in results if r["mode"] in WINDOWS and r.get("error") is None]
    judged = sort_results(judged, targets)
    trained = [r for r in results if r["mode"] == TRAINING and r.get("error") is None]
    failed = [r for r in results if r.get("error") is not None]
    parts: dict[str, list[str]] = {"text": [], "markdown": []}
    for style, texts in parts.items():
        if judged:
            texts.append(_format_accuracy(judged, style))
            texts.append(_format_precision(judged, style))
        if failed:
            texts.append(format_job_table(failed, style=style))
    sections = []
    largest = max(trained, key=lambda r: len(r["target"]), default=None)
    if largest is not None:
        sections.append(("Nearest labels", _format_neighbors(largest)))
    return Tables("\n\n".join(parts["text"]), "\n\n".join(parts["markdown"]), sections)


def _group(judged: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """Returns target, with settings of a study -> kind of windows -> results, one per seed."""
    names = make_display_names([strip_parents(result["target"]) for result in judged])
    rows: dict[str, dict[str, list[Result]]] = {}
    for result in judged:
        study = shorten_settings(result.get("study") or {})
        settings = ", ".join(f"{name}={value}" for name, value in study.items())
        row = f"{names[strip_parents(result['target'])]} {settings}".strip()
        rows.setdefault(row, {}).setdefault(result["mode"], []).append(result)
    return rows


def sort_results(results: Sequence[Result], targets: Sequence[str]) -> list[Result]:
    """Returns results in the order of the targets of a config.

    Args:
        results: of judged windows.
        targets: in order.
    """
    place = {name: number for number, name in enumerate(targets)}
    return sorted(results, key=lambda result: place.get(result["target"], len(place)))


def collect_accuracies(results: Sequence[Result], count: int = 0) -> np.ndarray:
    """Returns the accuracies of all folds and seeds at a number of examples per class.

    Args:
        results: of one target in one kind of windows.
        count: examples of every class; 0 is all.
    """
    return np.concatenate(
        [p["accuracies"] for r in results for p in r["curve"] if p["count"] == count]
    )


def _format_accuracy(judged: Sequence[Result], style: str) -> str:
    """Returns table 4 of the paper, with the difference to base over the same folds."""
    columns = [
        Column("Accuracy"), *(Column(TITLES[kind]) for kind in WINDOWS),
        *(Column(f"{TITLES[kind]} - base") for kind in WINDOWS if kind != BASE),
        Column("most frequent", is_number=True),
    ]  # fmt: skip
    rows = []
    for target, kinds in _group(judged).items():
        values = {kind: collect_accuracies(found) for kind, found in kinds.items()}
        row = [target]
        row += [_format_mean(values.get(kind)) for kind in WINDOWS]
        for kind in WINDOWS:
            if kind == BASE:
                continue
            has_both = kind in values and BASE in values
            is_paired = has_both and len(values[kind]) == len(values[BASE])
            row.append(_format_mean(values[kind] - values[BASE], "+") if is_paired else EMPTY_CELL)
        first = next(iter(kinds.values()))[0]
        rows.append([*row, f"{first['metrics'][0]['chance']:.3f}"])
    some = judged[0]
    legend = [
        f"Mean ± standard error over {some['num_folds']} folds of {some['folds_by']}; "
        f"of windows, the mean over the windows of a track: {_describe_regression(judged)}.",
    ]
    if any(not result["is_exclusive"] for result in judged):
        legend.append("Where tracks have several labels, the best one must be among them.")
    return join_paragraphs([format_table(columns, rows, style, get_width()), "", *legend], style)


def _format_precision(judged: Sequence[Result], style: str) -> str:
    """Returns table 5 of the paper, and the same without neighbors of the same group."""
    count = judged[0]["metrics"][1]["title"].split(" among")[0]
    columns = [
        Column(count.capitalize()), Column("Among"),
        *(Column(TITLES[kind], is_number=True) for kind in WINDOWS),
        Column("at random", is_number=True),
    ]  # fmt: skip
    rows = []
    for target, kinds in _group(judged).items():
        for name, words in PRECISIONS.items():
            found = {
                kind: [m for r in results for m in r["metrics"] if m["name"] == name]
                for kind, results in kinds.items()
            }
            cells = [np.mean([parse_number(m["value"]) for m in ms] or [np.nan])
                     for ms in (found.get(kind, []) for kind in WINDOWS)]  # fmt: skip
            chance = next((parse_number(m["chance"]) for ms in found.values() for m in ms), np.nan)
            shown = [f"{x:.3f}" if np.isfinite(x) else EMPTY_CELL for x in (*cells, chance)]
            if shown != [EMPTY_CELL] * len(shown):
                rows.append([target, words, *shown])
    legend = [
        "Share of the nearest tracks that have a label in common with a track; published is that "
        "among all other tracks, whose nearest may be of the same recording or performer."
    ]
    return join_paragraphs([format_table(columns, rows, style, get_width()), "", *legend], style)


def _describe_regression(judged: Sequence[Result]) -> str:
    """Returns the regressions of all results in words."""
    words = []
    if any(result.get("ridge") is None for result in judged):
        words.append("ridge regression, its penalty chosen on folds of the training tracks")
    penalties = sorted({float(r["ridge"]) for r in judged if r.get("ridge") is not None})
    if 0.0 in penalties:
        words.append("linear regression without a penalty (ridge=0.0)")
    given = [f"{penalty:g}" for penalty in penalties if penalty > 0]
    if given:
        words.append(f"ridge regression with a penalty of {' or '.join(given)}")
    return "; ".join(words)


def _format_mean(values: np.ndarray | None, sign: str = "") -> str:
    """Returns mean and standard error, or an empty cell."""
    if values is None or len(values) < 2:
        return EMPTY_CELL
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{sign}.3f} ± {error:.3f}"


def _format_neighbors(result: Mapping[str, Any]) -> str:
    """Returns table 3 of the paper, in Markdown: the nearest labels of every label."""
    entries = result["label_neighbors"]
    names = make_display_names([entry["dataset"] for entry in entries])

    def show(entry: Mapping[str, Any]) -> str:
        if len(names) == 1:
            return entry["label"]
        return f"{entry['label']} ({names[entry['dataset']]})"

    columns = [Column("Label"), Column("Nearest labels, by L1 distance")]
    rows = [[show(entry), ", ".join(map(show, entry["nearest"]))] for entry in entries]
    same, texts = result["same_names"], [format_table(columns, rows, "markdown", None)]
    texts += ["", f"Embedding of {strip_parents(result['target'])}."]
    if same["count"]:
        texts.append(
            f"Of {same['count']} labels whose name stands in another data set too, "
            f"{same['found']} have that as the nearest label of other data sets; at random it "
            f"would be {same['chance']:.1f}."
        )
    return join_paragraphs(texts, "markdown")


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of the learning curves of every target after drawing them.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    judged = [r for r in results if r["mode"] in WINDOWS and r.get("error") is None]
    paths = []
    for target, kinds in _group(judged).items():
        counts = sorted({p["count"] for found in kinds.values() for r in found for p in r["curve"]})
        counts = [count for count in counts if count] + [0]
        if len(counts) < 2:
            continue
        curves = {}
        for kind in filter(kinds.__contains__, WINDOWS):
            values = [collect_accuracies(kinds[kind], count) for count in counts]
            errors = [value.std(ddof=1) / np.sqrt(len(value)) for value in values]
            curves[TITLES[kind]] = ([float(value.mean()) for value in values], errors)
        first = next(iter(kinds.values()))[0]
        title = target + (" (synthetic)" if first["is_synthetic"] else "")
        name = slugify_name(target)
        figure = draw_curves(counts, curves, title, first["metrics"][0]["chance"])
        path = folder / "examples_per_class" / f"{name}.png"
        paths.append(drawing.save_figure(figure, path))
    return paths
