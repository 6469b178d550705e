"""Tables of results as Markdown for files and as aligned text for terminals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.subsets import shorten_size
from musrep_jax.evaluation.support import REASON_TEXTS
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import METRIC_TITLES, Cell, Condition, Summary
from musrep_jax.runtime.terminal import get_width

DECISION_TITLES: Mapping[str, str] = {
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "f1_fitted": "F1, fitted threshold",
    "precision_fitted": "Precision, fitted",
    "recall_fitted": "Recall, fitted",
}
"""Fields of a label at one threshold and at a fitted one, with the titles of their columns."""


def make_results_table(
    cells: Sequence[Cell], *, style: str = "markdown", notes: Sequence[str] = ()
) -> str:
    """Returns the table of a transfer experiment: one row per cell, with means over seeds.

    Args:
        cells: of `results.json`; `versus_scratch` and `random` are shown where recorded.
        style: `markdown` or `text`.
        notes: sentences put under the table, for example that the data is synthetic.

    Returns:
        The table, what its marks mean, and the error sentence of every failed cell.
    """
    listed = cells_file.sort_cells(cells)
    if not listed:
        return "There are no results yet."
    names = make_display_names([c["target"] for c in listed] + [c.get("source") for c in listed])
    settings = cells_file.list_study_settings(listed)
    has_seeds = len(cells_file.ordered(listed, "seed")) > 1
    marks = {metric: cells_file.mark_significance(listed, metric) for metric in METRIC_TITLES}
    summaries = {metric: cells_file.summarize(listed, metric) for metric in METRIC_TITLES}
    errors: list[str] = []
    rows: list[list[str]] = []
    for index, cell in enumerate(listed):
        condition = cells_file.get_condition(cell)
        start = [
            *_format_condition(condition, cell, names),
            *(format_setting(cell, setting) for setting in settings),
        ]
        seed = [str(cell.get("seed", EMPTY_CELL))] if has_seeds else []
        if cells_file.is_failed(cell):
            errors.append(f"{_describe(condition, names)}: {cell.get('error') or 'no result'}")
            rows.append(
                [
                    *start,
                    *seed,
                    f"failed ({len(errors)})",
                    *[EMPTY_CELL] * (1 + len(METRIC_TITLES) + 1),
                ]
            )
        else:
            values = [
                format_value(cells_file.parse_number(cell.get(m)), cell.get(f"{m}_ci"))
                for m in METRIC_TITLES
            ]
            changes = [_format_change(cell, m, marks[m][index]) for m in METRIC_TITLES]
            rows.append([*start, *seed, *values, *changes, _format_chance(cell)])
        is_last = (
            index + 1 == len(listed) or cells_file.get_condition(listed[index + 1]) != condition
        )
        group = [summaries[metric][condition] for metric in METRIC_TITLES]
        if is_last and len(group[0].seed_values) > 1:
            rows.append([*start, f"mean of {len(group[0].seed_values)}", *_format_means(group)])
    columns = [
        *(Column(title) for title in ("Source", "Target", "Model", "Mode")),
        Column("Train tracks", is_number=True),
        *(Column(title, is_number=True) for title in settings.values()),
        *([Column("Seed", is_number=True)] if has_seeds else []),
        *(Column(f"{title} [95 %]") for title in METRIC_TITLES.values()),
        *(
            Column(f"{title} - scratch [95 %]", is_optional=index > 0)
            for index, title in enumerate(METRIC_TITLES.values())
        ),
        Column("Random ROC / PR", is_optional=True),
    ]
    table = format_table(columns, rows, style, get_width())
    text = [table, "", *_legend(listed, has_seeds, notes)]
    text += [f"Failed ({number}) {sentence}" for number, sentence in enumerate(errors, start=1)]
    return join_paragraphs(text, style)


def make_per_label_table(
    report: Mapping[str, Any], *, style: str = "markdown", sort_by_support: bool = False
) -> str:
    """Returns one row per label with its support.

    Args:
        report: a cell of `results.json` or `TaggingReport.to_dict()`.
        style: `markdown` or `text`.
        sort_by_support: commonest label first; otherwise the order of the output units.

    Returns:
        The table; labels that could not be evaluated show why.
    """
    entries = list(report["per_label"].items())
    if sort_by_support:
        entries.sort(key=lambda item: -item[1]["positives"])
    reasons = report.get("skip_reasons") or {}
    rows = []
    for name, entry in entries:
        row = [name, str(entry["positives"])]
        if entry.get("roc_auc") is None:
            row += [
                reasons.get(name, "not evaluated"),
                *[EMPTY_CELL] * (1 + len(DECISION_TITLES) + 1),
            ]
        else:
            row += [
                format_value(
                    cells_file.parse_number(entry.get(m)),
                    entry.get(f"{m}_ci"),
                    entry.get("ci_reason"),
                )
                for m in METRIC_TITLES
            ]
            row += [format_number(entry.get(m)) for m in ("random_pr_auc", *DECISION_TITLES)]
        rows.append(row)
    columns = [
        Column("Label"),
        Column(f"Positives of {report['num_tracks']}", is_number=True),
        *(Column(f"{title} [95 %]") for title in METRIC_TITLES.values()),
        Column("Random PR-AUC", is_number=True, is_optional=True),
        *(Column(title, is_number=True, is_optional=True) for title in DECISION_TITLES.values()),
    ]
    return format_table(columns, rows, style, get_width())


def format_report_summary(report: Mapping[str, Any]) -> str:
    """Returns a report in a few lines for a terminal.

    Args:
        report: a cell of `results.json` or `TaggingReport.to_dict()`.

    Returns:
        Macro metrics with intervals and chance level, F1, accuracies where they apply, macro
        metrics of label groups, and which labels were left out.
    """
    random = report.get("random") or {}
    groups = f" in {report['num_track_groups']} groups" if report.get("num_track_groups") else ""
    lines = [f"{report['num_tracks']} tracks{groups}, {report['num_labels']} labels evaluated"]
    for metric, title in METRIC_TITLES.items():
        value = format_value(
            cells_file.parse_number(report.get(metric)),
            report.get(f"{metric}_ci"),
            report.get("ci_reason"),
        )
        lines.append(f"{title} {value}, random {format_number(random.get(metric))}")
    for field in ("f1", "f1_fitted"):
        f1 = report.get(field)
        if f1:
            values = ", ".join(f"{kind} {format_number(f1[kind])}" for kind in ("macro", "samples"))
            where = f"{f1['threshold']:g}" if "threshold" in f1 else "thresholds of validation data"
            lines.append(f"F1 at {where}: {values}")
    for name, entry in (report.get("single_label") or {}).items():
        balanced = format_value(
            entry["balanced_accuracy"],
            entry.get("balanced_accuracy_ci"),
            entry.get("balanced_accuracy_ci_reason"),
        )
        lines.append(
            f"balanced accuracy over {name} {balanced}, "
            f"chance {format_number(entry['chance_balanced_accuracy'])}"
        )
    for name, entry in (report.get("label_groups") or {}).items():
        values = [f"{title} {format_number(entry.get(m))}" for m, title in METRIC_TITLES.items()]
        lines.append(f"{name} ({entry['num_labels']} labels): {', '.join(values)}")
    if report.get("merged"):
        merged = report["merged"]
        values = [f"{title} {format_number(merged.get(m))}" for m, title in METRIC_TITLES.items()]
        lines.append(
            f"identical labels counted once ({merged['num_labels']} labels): {', '.join(values)}"
        )
    for name, reason in (report.get("skip_reasons") or {}).items():
        lines.append(f"left out: {name} ({reason})")
    return "\n".join(lines)


def format_num_tracks(cell: Cell) -> str:
    """Returns the training set of a cell for a column: its size, and in brackets how many it was.

    >>> format_num_tracks({"num_train_tracks": "3_per_class", "num_train_tracks_used": 27})
    '3 per class (27)'

    Args:
        cell: of `results.json`.
    """
    size, used = shorten_size(cell.get("num_train_tracks")), cell.get("num_train_tracks_used")
    return f"{size} ({used})" if used and size != str(used) else size


def _format_condition(
    condition: Condition, cell: Cell, names: Mapping[str | None, str]
) -> list[str]:
    """Returns the first five columns of a row."""
    is_known = condition.num_train_tracks is not None
    tracks = format_num_tracks(cell) if is_known else EMPTY_CELL
    source = EMPTY_CELL if condition.source is None else names[condition.source]
    return [source, names[condition.target], condition.model, condition.mode, tracks]


def _describe(condition: Condition, names: Mapping[str | None, str]) -> str:
    """Returns a cell's name for the list of failures."""
    arrow = "" if condition.source is None else f"{names[condition.source]} -> "
    study = "".join(f", {s}={cells_file.format_study_value(v)}" for s, v in condition.study)
    return f"{arrow}{names[condition.target]}, {condition.model}, {condition.mode}{study}"


def format_setting(cell: Cell, setting: str) -> str:
    """Returns the value of a study's setting, a dash where it was not varied.

    Args:
        cell: of `results.json`.
        setting: such as `model.num_harmonics`.
    """
    study = cell.get("study") or {}
    return cells_file.format_study_value(study[setting]) if setting in study else EMPTY_CELL


def format_value(value: float, interval: Any, reason: str | None = None) -> str:
    """Returns a metric with its interval where it is known, or why there is none.

    >>> format_value(0.5, [0.25, 0.75]), format_value(0.5, None)
    ('0.500 [0.250, 0.750]', '0.500')
    >>> format_value(1.0, None, "too_few_positives")
    '1.000 (too few tracks)'

    Args:
        value: NaN where it is not defined.
        interval: two numbers or None, or None.
        reason: a key of `support.REASON_TEXTS`, or None.
    """
    low, high = cells_file.parse_interval(interval)
    if math.isfinite(low):
        return f"{format_number(value)} [{low:.3f}, {high:.3f}]"
    return format_number(value) + format_reason(reason)


def format_reason(reason: str | None) -> str:
    """Returns why something has no interval, in brackets; nothing for None or NaN.

    Args:
        reason: a key of `support.REASON_TEXTS`, or None.
    """
    text = REASON_TEXTS.get(reason or "")
    return f" ({text})" if text else ""


def _format_change(cell: Cell, metric: str, mark: str) -> str:
    """Returns a difference to scratch with interval and mark."""
    difference, (low, high), _ = cells_file.versus_scratch(cell, metric)
    if math.isnan(difference):
        return EMPTY_CELL
    bounds = f" [{low:+.3f}, {high:+.3f}]"
    if math.isnan(low):
        bounds = format_reason(cell["versus_scratch"][metric].get("reason"))
    return f"{difference:+.3f}{bounds}{' ' + mark if mark else ''}"


def _format_chance(cell: Cell) -> str:
    """Returns the chance levels of both metrics."""
    random = cell.get("random") or {}
    if not random:
        return EMPTY_CELL
    return " / ".join(format_number(random.get(metric)) for metric in METRIC_TITLES)


def _format_means(group: Sequence[Summary]) -> list[str]:
    """Returns the metric columns of a mean over seeds."""
    values = [f"{s.value:.3f} ± {s.spread:.3f}" for s in group]
    changes = [EMPTY_CELL if math.isnan(s.difference) else f"{s.difference:+.3f}" for s in group]
    return [*values, *changes, EMPTY_CELL]


def _legend(listed: Sequence[Cell], has_seeds: bool, notes: Sequence[str]) -> list[str]:
    """Returns the sentences under a results table."""
    lines = [f"Brackets: 95 % intervals over {captions.describe_resampled(listed)}."]
    if any(cell.get("versus_scratch") for cell in listed):
        lines.append(
            "* differs from scratch (paired test, p < 0.05); ** also after Holm's correction for "
            "all rows."
        )
    if has_seeds:
        lines.append("± is the standard deviation over seeds.")
    return [*lines, *notes]


def format_number(value: float | None) -> str:
    """Returns a number with three decimals, a dash for None and NaN.

    Args:
        value: a number or None.
    """
    return EMPTY_CELL if value is None or math.isnan(value) else f"{value:.3f}"
