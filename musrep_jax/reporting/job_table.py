"""The table of an experiment of any task: one row per job, its fields and its metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.tables import (
    EMPTY_CELL,
    Column,
    format_table,
    format_value,
    join_paragraphs,
)

ALWAYS_SHOWN = ("target", "model")


def format_job_table(results: Sequence[Mapping[str, Any]], *, style: str = "markdown") -> str:
    """Returns the table of jobs: the fields in which they differ, and all metrics with intervals.

    Args:
        results: of `results.json`, of jobs of one task: `fields` says which fields tell what a job
            is, `study` the settings that were varied, `metrics` the name, title, value, interval,
            direction and chance level of every metric.
        style: `markdown` or `text`.

    Returns:
        The table, what its marks mean, and the error sentence of every failed job.
    """
    if not results:
        return "There are no results yet."
    fields = _list_shown_fields(results)
    settings = list(dict.fromkeys(s for r in results for s in r.get("study") or {}))
    metrics = {m["name"]: m for r in results for m in r.get("metrics") or ()}
    columns = [
        *(Column(name.replace("_", " ").capitalize()) for name in fields),
        *(Column(setting, is_number=True) for setting in settings),
        *(Column(f"{m['title']} [95 %]" if m["ci"] else m["title"]) for m in metrics.values()),
    ]
    rows, errors = [], []
    for result in results:
        row = [_format_field(result.get(name)) for name in fields]
        row += [_format_field((result.get("study") or {}).get(setting)) for setting in settings]
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
    legend = []
    if any(m["ci"] for m in metrics.values()):
        legend.append("Brackets: 95 % intervals over test data.")
    legend += [
        f"{m['title']}: smaller is better." for m in metrics.values() if not m["is_larger_better"]
    ]
    chances = {m["title"]: m["chance"] for m in metrics.values() if m.get("chance") is not None}
    legend += [f"{title} of a random model: {value:.3f}." for title, value in chances.items()]
    legend += [f"Failed ({number}) {text}" for number, text in enumerate(errors, start=1)]
    return join_paragraphs([format_table(columns, rows, style), "", *legend], style)


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
