"""Presents taggers: the tables, `results.md`, the figures."""

import functools
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from musrep_jax.reporting import captions, drawing, figures, run_figures, tables
from musrep_jax.reporting.candidate_table import (
    describe_choice,
    describe_rising,
    make_candidate_table,
)
from musrep_jax.reporting.filter_table import make_filter_table
from musrep_jax.reporting.study_figures import save_study_figures
from musrep_jax.reporting.verdict import describe_verdict
from musrep_jax.tasks.jobs import strip_result_folders, title_of
from musrep_jax.tasks.tagging.filters import FILTERS, save_filter_figure
from musrep_jax.tasks.tagging.matrix import COMBINED_MODEL
from musrep_jax.tasks.task import JobFigure, Result, Tables


def make_tables(results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
    """Returns the table of a tagging or transfer experiment, and every job label by label.

    Args:
        results: of all jobs.
        config: of the experiment.
    """
    shown = [strip_result_folders(result) for result in results]
    notes = notes_on(shown, config)
    if "candidates" in config:
        table = functools.partial(
            make_candidate_table, shown, select_by=config.train.select_by, notes=notes
        )
    else:
        table = functools.partial(tables.make_results_table, shown, notes=notes)
    verdict = describe_findings(shown, config)
    return Tables(
        text="\n\n".join([*verdict, table(style="text")]),
        markdown="\n\n".join([*verdict, table()]),
        sections=make_sections(shown),
    )


def describe_findings(shown: Sequence[Result], config: ml_collections.ConfigDict) -> list[str]:
    """Returns the sentences above the tables: what was chosen, or what beats what.

    Args:
        shown: results with display names.
        config: of the experiment.
    """
    if "candidates" in config:
        return describe_choice(shown)
    return [*describe_verdict(shown), *describe_rising(shown)]


def make_sections(shown: Sequence[Result]) -> list[tuple[str, str]]:
    """Returns title and Markdown of every job that did not fail: its labels, and its filters.

    Args:
        shown: results with display names.
    """
    return [
        (title_of(result), "\n\n".join(_list_parts(result)))
        for result in shown
        if result["error"] is None
    ]


def _list_parts(result: Result) -> list[str]:
    """Returns the summary, the table of labels and, where there are any, of harmonic filters."""
    parts = [tables.format_report_summary(result), tables.make_per_label_table(result)]
    return [*parts, make_filter_table(result[FILTERS])] if result.get(FILTERS) else parts


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of the figures of studies, transfer matrices and learning curves.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    shown = [strip_result_folders(result) for result in results]
    synthetic = sorted({r["target"] for r in shown if r.get("is_synthetic")})
    paths = save_study_figures(shown, folder, synthetic=synthetic)
    transfers = [result for result in shown if result["model"] != COMBINED_MODEL]
    if any(result["source"] for result in transfers):
        paths += figures.save_transfer_figures(transfers, folder, synthetic=synthetic)
    return paths


def list_figures(result: Result, folder: Path) -> list[JobFigure]:
    """Returns the figures of one tagger: its labels (from scratch only) and harmonic filters.

    Args:
        result: of the job.
        folder: of the job.
    """
    title = title_of(strip_result_folders(result))

    def save_labels(path: Path) -> None:
        drawing.save_figure(run_figures.draw_per_label_bars(result, title=title), path)

    def save_filters(path: Path) -> None:
        save_filter_figure(filters, path, title)

    filters, found = folder / f"{FILTERS}.npz", []
    if result["source"] is None:
        found.append(JobFigure("labels", folder / "result.json", save_labels))
    if filters.exists():
        found.append(JobFigure("filters", filters, save_filters))
    return found


def notes_on(results: Sequence[Result], config: ml_collections.ConfigDict) -> list[str]:
    """Returns the sentences that keep a table honest."""
    notes = []
    if any(result.get("is_synthetic") for result in results):
        notes.append(
            "Data sets named synthetic are generated: these numbers say whether the method works "
            "here, and nothing about real music cultures."
        )
    sizes = {
        f"{r['model']} with {', '.join(f'{k}={v}' for k, v in r['model_deviations'].items())}"
        for r in results
        if r.get("model_deviations") and r["model"] != COMBINED_MODEL
    }
    if sizes:
        hint = ""
        if config.model.size == "compact":
            hint = "; --config.model.size=full takes the published sizes"
        notes.append(f"Not the published size: {'; '.join(sorted(sizes))}{hint}.")
    if any(result.get("skipped_labels") for result in results):
        notes.append(
            "Labels that could not be ranked are left out of the means; results.md names them."
        )
    return notes + captions.make_support_notes(results)
