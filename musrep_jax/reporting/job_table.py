"""The table of an experiment of any task: one row per job, its fields and its metrics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.tables import format_setting, format_value
from musrep_jax.runtime.terminal import get_width

ALWAYS_SHOWN = ("target", "model")


@dataclasses.dataclass(frozen=True)
class JobTable:
    """A table of jobs of one task.

    Attributes:
        columns: what their fields are, then their metrics.
        rows: one text per column.
        legend: sentences under the table, with the errors of failed jobs.
    """

    columns: list[Column]
    rows: list[list[str]]
    legend: list[str]


def make_job_table(results: Sequence[Mapping[str, Any]]) -> JobTable:
    """Returns the table of jobs: the fields in which they differ, and all metrics with intervals.

    Args:
        results: of `results.json`, of jobs of one task: `fields` says which fields tell what a job
            is, `study` the settings that were varied, `metrics` the name, title, value, interval,
            direction and chance level of every metric.
    """
    fields = _list_shown_fields(results)
    settings = cells_file.list_study_settings(results)
    metrics = {m["name"]: m for r in results for m in r.get("metrics") or ()}
    rows, errors = [], []
    for result in results:
        row = [_format_field(result.get(name)) for name in fields]
        row += [format_setting(result, setting) for setting in settings]
        found = {m["name"]: m for m in result.get("metrics") or ()}
        if result.get("error") is not None:
            errors.append(f"{result['key']}: {result['error']}")
            row += [f"failed ({len(errors)})"] if metrics else []
            row += [EMPTY_CELL] * (len(metrics) - 1)
        else:
            row += [
                format_value(cells_file.parse_number(found[name]["value"]), found[name]["ci"])
                if name in found
                else EMPTY_CELL
                for name in metrics
            ]
        rows.append(row)
    columns = [
        *(Column(name.replace("_", " ").capitalize()) for name in fields),
        *(Column(title, is_number=True) for title in settings.values()),
        *(Column(f"{m['title']} [95 %]" if m["ci"] else m["title"]) for m in metrics.values()),
    ]
    legend = []
    if any(m["ci"] for m in metrics.values()):
        legend.append("Brackets: 95 % intervals over test data.")
    legend += [
        f"{m['title']}: smaller is better." for m in metrics.values() if not m["is_larger_better"]
    ]
    chances = {m["title"]: m["chance"] for m in metrics.values() if m.get("chance") is not None}
    legend += [f"{title} of a random model: {value:.3f}." for title, value in chances.items()]
    legend += [f"Failed ({number}) {text}" for number, text in enumerate(errors, start=1)]
    return JobTable(columns, rows, legend)


def format_job_table(results: Sequence[Mapping[str, Any]], *, style: str = "markdown") -> str:
    """Returns the table of jobs as text, with the sentences under it.

    Args:
        results: see `make_job_table`.
        style: `markdown` or `text`.
    """
    if not results:
        return "There are no results yet."
    table = make_job_table(results)
    text = format_table(table.columns, table.rows, style, get_width())
    return join_paragraphs([text, "", *table.legend], style)


def _list_shown_fields(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the fields in which jobs differ, and those that are shown in any case."""
    shown = []
    for name in dict.fromkeys(name for result in results for name in result["fields"]):
        values = [result.get(name) for result in results]
        is_varied = any(value != values[0] for value in values)
        if is_varied or (name in ALWAYS_SHOWN and values[0] is not None):
            shown.append(name)
    return shown


def _format_field(value: Any) -> str:
    """Returns the value of a field as text."""
    if value is None or value == "":
        return EMPTY_CELL
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
