"""Presents a robustness study: the verdict, the tables, and the published findings beside ours."""

import math
from collections.abc import Sequence

import ml_collections
import numpy as np

from musrep_jax.data.deformed.deformations import CLEAN, COMPRESSION, PUBLISHED
from musrep_jax.evaluation.comparison import SIGNIFICANCE
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import METRIC_TITLES, parse_number
from musrep_jax.reporting.tables import format_value
from musrep_jax.runtime.terminal import get_width
from musrep_jax.tasks.robustness.rows import (
    Row,
    correct_p_values,
    list_rows,
)
from musrep_jax.tasks.task import Result, Tables

HARSHEST = "noise:0.4"
FINDINGS = (
    "compression harms least",
    "noise:0.4 harms most",
    "MusiCNN holds under time stretch and is weak under pitch shift",
    "the Harmonic CNN generalizes best but for noise:0.4",
    "the sample-level network with squeeze and excitation holds at noise:0.1, not at noise:0.4",
)
"""Source: Won, "Representation learning for music classification and retrieval", 2022, section
3.3.5, figure 3.8: six models, trained on clean audio of MagnaTagATune."""
_MAX_LABELS = 40


def make_tables(results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
    """Returns the verdict, a table per data set, and the differences label by label.

    Args:
        results: of all jobs.
        config: of the experiment; not read.
    """
    rows = list_rows(results)
    names = make_display_names([row.target for row in rows])
    verdict, text, markdown, sections = [], [], [], []
    for target in dict.fromkeys(row.target for row in rows):
        ours = [row for row in rows if row.target == target]
        title = names[target]
        verdict += [f"{title}: {sentence}" for sentence in describe_findings(ours)]
        text.append(f"{title}\n{format_rows(ours, 'text')}")
        markdown.append(f"**{title}**\n\n{format_rows(ours, 'markdown')}")
        for tagger in dict.fromkeys(row.tagger for row in ours):
            changed = [row for row in ours if row.tagger == tagger and row.versus]
            if changed:
                sections.append((f"Label by label: {tagger}, {title}", format_labels(changed)))
    errors = dict.fromkeys(
        f"Failed: {result['error']}" for result in results if result["error"] is not None
    )
    return Tables(
        text="\n\n".join([*verdict, *text, *errors]),
        markdown="\n\n".join([*verdict, *markdown, *(f"- {error}" for error in errors)]),
        sections=sections,
    )


def describe_findings(rows: Sequence[Row]) -> list[str]:
    """Returns what a study shows on one data set, one sentence per question.

    Args:
        rows: of the data set, clean ones among them.
    """
    changed = [row for row in rows if row.versus and math.isfinite(row.difference("roc_auc"))]
    if not changed:
        return []
    worst = min(changed, key=lambda row: row.difference("roc_auc"))
    p_values = correct_p_values(changed, "roc_auc")
    is_shown = p_values[changed.index(worst)] < SIGNIFICANCE
    values = (
        f"ROC-AUC {worst.value('roc_auc'):.3f} instead of {worst.clean_value('roc_auc'):.3f}, a "
        f"difference of {format_difference(worst, 'roc_auc', math.nan)}"
        f"{'' if is_shown else ', which could be chance'}"
    )
    if worst.difference("roc_auc") < 0:
        sentence = f"{worst.deformation} hurts {worst.tagger} most: {values}"
    else:
        sentence = (
            f"no deformation lowers any model's ROC-AUC; that of {worst.tagger} under "
            f"{worst.deformation} rises least: {values}"
        )
    sentences = [f"{sentence}; {_count_decisions(changed, p_values)}."]
    means = _average(changed, [row.tagger for row in changed])
    if len(means) > 1:
        best, most = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
        sentences.append(
            f"over all deformations {best} changes by {means[best]:+.3f} on average, {most} by "
            f"{means[most]:+.3f}."
        )
    kinds = _average(changed, [row.deformation for row in changed])
    if {*PUBLISHED} <= {*kinds}:
        order = sorted(PUBLISHED, key=kinds.__getitem__)
        sentences.append(
            f"on average over models {order[0]} harms most ({kinds[order[0]]:+.3f}; published: "
            f"{HARSHEST}) and {order[-1]} least ({kinds[order[-1]]:+.3f}; published: compression, "
            f"here {_mean_of(kinds, COMPRESSION):+.3f})."
        )
    return sentences


def format_rows(rows: Sequence[Row], style: str) -> str:
    """Returns the table of one data set: a row for each model and deformation.

    Args:
        rows: of the data set.
        style: `markdown` or `text`.
    """
    has_seeds = len({row.seed for row in rows}) > 1
    studies = any(row.study for row in rows)
    p_values = {metric: correct_p_values(rows, metric) for metric in METRIC_TITLES}
    columns = [
        Column("Model"),
        *([Column("Setting")] if studies else []),
        *([Column("Seed", is_number=True)] if has_seeds else []),
        Column("Deformation"),
    ]
    for place, title in enumerate(METRIC_TITLES.values()):
        columns += [
            Column(f"{title} [95 %]", is_optional=place > 0),
            Column(f"{title} - clean [95 %]", is_optional=place > 0),
        ]
    lines = []
    for number, row in enumerate(rows):
        start = [row.tagger, *([row.study] if studies else [])]
        start += [str(row.seed)] if has_seeds else []
        line = [*start, row.deformation]
        for metric in METRIC_TITLES:
            line.append(format_value(row.value(metric), row.interval(metric)))
            line.append(format_difference(row, metric, p_values[metric][number]))
        lines.append(line)
    chance = rows[0].result["random"]
    line = ["chance: random scores", *[EMPTY_CELL] * (studies + has_seeds), EMPTY_CELL]
    for metric in METRIC_TITLES:
        line += [f"{parse_number(chance[metric]):.3f}", EMPTY_CELL]
    table = format_table(columns, [*lines, line], style, get_width())
    return join_paragraphs([table, "", *_make_legend(rows)], style)


def format_difference(row: Row, metric: str, p_value: float) -> str:
    """Returns a difference from the clean tracks with its interval, and a star where it is shown.

    Args:
        row: of a table.
        metric: `roc_auc` or `pr_auc`.
        p_value: corrected; NaN gives no star.
    """
    versus = row.versus.get(metric)
    if versus is None:
        return EMPTY_CELL
    value, (low, high) = row.difference(metric), cells_file.parse_interval(versus["ci"])
    interval = f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(low) else ""
    return f"{value:+.3f}{interval}{' *' if p_value < SIGNIFICANCE else ''}"


def format_labels(rows: Sequence[Row]) -> str:
    """Returns the Markdown table of one model's differences in ROC-AUC, label by label.

    The labels that lose most come first.

    Args:
        rows: of the model, with a deformation each.
    """
    differences = {
        label: [row.label_difference(label) for row in rows] for label in rows[0].label_names
    }
    defined = {label: values for label, values in differences.items() if np.isfinite(values).any()}
    order = sorted(defined, key=lambda label: float(np.nanmin(defined[label])))
    clean = rows[0].clean
    columns = [
        Column("Label"),
        Column("Positives", is_number=True),
        Column("Clean", is_number=True),
        *(Column(row.deformation, is_number=True) for row in rows),
    ]
    lines = []
    for label in order[:_MAX_LABELS]:
        entry = clean["per_label"][label]
        cells = [_format_cell(row, label) for row in rows]
        value = parse_number(entry["roc_auc"])
        lines.append([label, str(entry["positives"]), f"{value:.3f}", *cells])
    if not lines:
        return "No label has both tracks with it and without it."
    left = len(order) - len(lines)
    by_chance = 0.05 * len(defined) * len(rows)
    notes = [
        "Differences in ROC-AUC from the clean tracks; *: p < 0.05 in a paired test, not "
        f"corrected: of {len(defined) * len(rows)} cells about {by_chance:.0f} have it by chance."
    ]
    notes += [f"{left} more labels, which lose less, are in results.json."] if left else []
    return join_paragraphs([format_table(columns, lines), "", *notes], "markdown")


def _format_cell(row: Row, label: str) -> str:
    """Returns a label's difference, with a star where it is shown without correction."""
    value = row.label_difference(label)
    if not math.isfinite(value):
        return EMPTY_CELL
    return f"{value:+.3f}{' *' if row.label_difference(label, 'p_value') < SIGNIFICANCE else ''}"


def _make_legend(rows: Sequence[Row]) -> list[str]:
    """Returns the sentences under a table."""
    result = rows[0].result
    groups = result.get("num_track_groups")
    of = f"{result['num_tracks']} test tracks" + (f", {groups} groups" if groups else "")
    legend = [
        f"{of}, deformed as wholes before they are cut into chunks; no model was trained on "
        "deformed tracks. Differences are paired on the same tracks; *: p < 0.05, corrected (Holm) "
        "for all rows of a metric."
    ]
    for tagger in dict.fromkeys(row.tagger for row in rows):
        ours = [row for row in rows if row.tagger == tagger]
        short = {row.deformation: row.result["num_short_tracks"] for row in ours}
        added = {n: c for n, c in short.items() if c != short.get(CLEAN, 0)}
        if added:
            listed = ", ".join(f"{count} under {name}" for name, count in added.items())
            legend.append(
                f"{tagger} reads chunks of {ours[0].result['chunk_length_seconds']:.2g} s: "
                f"{short.get(CLEAN, 0)} clean tracks are shorter, {listed}; a shorter track is one "
                "chunk, followed by zeros."
            )
        unknown = ours[0].result["num_unknown_labels"]
        if unknown:
            legend.append(f"{tagger} does not know {unknown} of the labels; they are left out.")
    if {*PUBLISHED} <= {row.deformation for row in rows}:
        legend.append(f"Published (Won, 2022, figure 3.8, MagnaTagATune): {'; '.join(FINDINGS)}.")
    return legend


def _count_decisions(rows: Sequence[Row], p_values: np.ndarray) -> str:
    """Returns how many rows are lower, higher and undecided, or that nothing could be tested."""
    if not np.isfinite(p_values).any():
        return "too few tracks or groups stand behind this to test it"
    differences = np.array([row.difference("roc_auc") for row in rows])
    is_shown = p_values < SIGNIFICANCE
    lower, higher = (
        int((is_shown & (differences < 0)).sum()),
        int((is_shown & (differences > 0)).sum()),
    )
    return (
        f"of {len(rows)} pairs of model and deformation {lower} have a lower ROC-AUC than on the "
        f"clean tracks, {higher} a higher one and {len(rows) - lower - higher} are undecided "
        "(paired tests, corrected)"
    )


def _average(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, float]:
    """Returns key -> mean difference in ROC-AUC of the rows that have it."""
    found: dict[str, list[float]] = {}
    for row, key in zip(rows, keys, strict=True):
        found.setdefault(key, []).append(row.difference("roc_auc"))
    return {key: float(np.mean(values)) for key, values in found.items()}


def _mean_of(means: dict[str, float], kind: str) -> float:
    """Returns the mean over the published deformations of a kind."""
    return float(np.mean([means[name] for name in PUBLISHED if name.startswith(f"{kind}:")]))
