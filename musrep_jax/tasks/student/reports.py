"""Presents students: the verdict, the table of all rows, each student beside its teacher."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from musrep_jax.reporting import drawing, figures
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import METRIC_TITLES, Cell
from musrep_jax.reporting.tables import format_num_tracks
from musrep_jax.reporting.verdict import count_outcomes
from musrep_jax.runtime.terminal import get_width
from musrep_jax.tasks.jobs import slugify_name, strip_result_folders
from musrep_jax.tasks.student.jobs import AUGMENTED
from musrep_jax.tasks.tagging import reports as tagging_reports
from musrep_jax.tasks.tagging.matrix import COMBINED_MODEL, SCRATCH
from musrep_jax.tasks.task import Result, Tables

VERSUS_TEACHER = "versus_teacher"
"""Field of a result: its difference to the teacher, on the same test tracks."""


def make_tables(results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
    """Returns the verdict, the table of all rows, and students beside their teachers.

    Args:
        results: of all jobs.
        config: of the experiment.
    """
    shown = [strip_result_folders(result) for result in results]
    tables = tagging_reports.make_tables(results, config)
    verdict = describe_students(shown)
    beside = {style: make_teacher_table(shown, style) for style in ("text", "markdown")}
    return dataclasses.replace(
        tables,
        text="\n\n".join(filter(None, [*verdict, tables.text, beside["text"]])),
        markdown="\n\n".join(filter(None, [*verdict, tables.markdown, beside["markdown"]])),
    )


def describe_students(shown: Sequence[Cell], metric: str = "roc_auc") -> list[str]:
    """Returns the sentences above the tables: whether teachers, and deformed music, helped.

    Args:
        shown: results with display names.
        metric: by which a difference is judged.
    """
    students = [cell for cell in shown if cell.get("teacher") and cell.get("error") is None]
    sentences = []
    for title, cells in (
        ("Students", students),
        ("Augmentation alone", [cell for cell in shown if cell["mode"] == AUGMENTED]),
    ):
        compared = [cell for cell in cells if cell.get("versus_scratch")]
        if compared:
            counts = count_outcomes(compared, "versus_scratch", metric, "the same labels alone")
            sentences.append(f"{title}: {counts}.")
    taught = [cell for cell in students if cell.get(VERSUS_TEACHER)]
    if taught:
        counts = count_outcomes(taught, VERSUS_TEACHER, metric, "their teachers")
        sentences.append(f"Students and teachers: {counts}.")
    return sentences


def make_teacher_table(shown: Sequence[Cell], style: str) -> str:
    """Returns one row per student: its teacher, and by how much it is better; "" without any.

    Args:
        shown: results with display names.
        style: `markdown` or `text`.
    """
    students = [cell for cell in cells_file.sort_cells(shown) if cell.get(VERSUS_TEACHER)]
    if not students:
        return ""
    names = make_display_names(
        [cell["target"] for cell in students] + [cell.get("source") for cell in students]
    )
    rows = []
    for cell in students:
        differences = [_format_difference(cell, metric) for metric in METRIC_TITLES]
        source = EMPTY_CELL if cell.get("source") is None else names[cell["source"]]
        rows.append([
            source, names[cell["target"]], cell["model"], cell["mode"], format_num_tracks(cell),
            str(cell["seed"]), cell["teacher"], str(cell["num_unlabeled"]), *differences,
        ])  # fmt: skip
    columns = [
        *(Column(title) for title in ("Source", "Target", "Model", "Student")),
        Column("Train tracks", is_number=True),
        Column("Seed", is_number=True),
        Column("Teacher"),
        Column("Unlabeled", is_number=True),
        *(
            Column(f"{title} - teacher [95 %]", is_optional=index > 0)
            for index, title in enumerate(METRIC_TITLES.values())
        ),
    ]
    legend = ["* differs from the teacher (paired test on the same tracks, p < 0.05)."]
    return join_paragraphs([format_table(columns, rows, style, get_width()), "", *legend], style)


def _format_difference(cell: Cell, metric: str) -> str:
    """Returns a difference to the teacher with interval and mark."""
    recorded = ((cell.get(VERSUS_TEACHER) or {}).get(metric)) or {}
    difference = cells_file.parse_number(recorded.get("difference"))
    if difference != difference:
        return EMPTY_CELL
    low, high = cells_file.parse_interval(recorded.get("ci"))
    bounds = f" [{low:+.3f}, {high:+.3f}]" if low == low else ""
    is_different = cells_file.parse_number(recorded.get("p_value")) < cells_file.SIGNIFICANCE
    return f"{difference:+.3f}{bounds}{' *' if is_different else ''}"


def save_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Returns the paths of transfer matrices and learning curves, or of the curves alone.

    Args:
        results: of all jobs.
        folder: of the figures.
    """
    if any(result["source"] for result in results if result["model"] != COMBINED_MODEL):
        return tagging_reports.save_figures(results, folder)
    shown = [strip_result_folders(result) for result in results]
    synthetic = sorted({r["target"] for r in shown if r.get("is_synthetic")})
    baselines = [cell for cell in shown if cell["mode"] == cells_file.BASELINE]
    paths = []
    for model in cells_file.ordered([c for c in shown if c["mode"] == SCRATCH], "model"):
        cells = [c for c in shown if c["model"] == model and not cells_file.is_failed(c)]
        if len({cell.get("num_train_tracks") for cell in cells}) < 2:
            continue
        for metric in METRIC_TITLES:
            curves = figures.learning_curves(
                cells, metric=metric, synthetic=synthetic, baselines=baselines
            )
            path = folder / f"learning_curves_{slugify_name(model)}_{metric}.png"
            paths.append(drawing.save_figure(curves, path))
    return paths
