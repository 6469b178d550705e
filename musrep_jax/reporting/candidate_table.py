"""The table of candidates for one data set: how one is chosen, and its test beside the baseline."""

import math
from collections.abc import Iterable, Sequence

from musrep_jax.evaluation.subsets import describe_size, rank_size
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import BASELINE, METRIC_TITLES, SCRATCH, SIGNIFICANCE, Cell
from musrep_jax.reporting.tables import (
    format_num_tracks,
    format_number,
    format_reason,
    format_setting,
    format_value,
)
from musrep_jax.runtime.progress import format_seconds
from musrep_jax.runtime.terminal import get_width

CHOSEN_MARK = "> "
"""Before the name of the chosen candidate."""


def name_candidate(cell: Cell) -> str:
    """Returns what a candidate is, for people.

    >>> name_candidate({"mode": "linear", "source": "pretrained:musicnn-msd"})
    'musicnn-msd, linear'

    Args:
        cell: of `results.json`.
    """
    if cell["mode"] == BASELINE:
        return "log_mel_statistics, linear (baseline)"
    if cell["mode"] == SCRATCH:
        return f"{cell['model']}, from scratch"
    source = (cell.get("features") or cell["source"]).replace("pretrained:", "")
    return f"{source}, {cell['mode'].replace('_', ' ')}"


def make_candidate_table(
    cells: Sequence[Cell],
    *,
    select_by: str = "roc_auc",
    style: str = "markdown",
    notes: Sequence[str] = (),
) -> str:
    """Returns the table of candidates: one row each, the baseline first.

    Args:
        cells: of `results.json`, all candidates for one data set.
        select_by: metric on validation data by which one was chosen.
        style: `markdown` or `text`.
        notes: sentences put under the table.

    Returns:
        The table, what its marks mean, and why candidates failed or could not be had.
    """
    has_sizes = len({cell.get("num_train_tracks") for cell in cells}) > 1
    has_seeds = len({cell.get("seed") for cell in cells}) > 1
    has_folds = any(cell.get("folds") for cell in cells)
    settings = cells_file.list_study_settings(cells)
    rows, sentences = [], []
    for cell in sort_candidates(cells):
        row = [(CHOSEN_MARK if cell.get("is_chosen") else "") + name_candidate(cell)]
        row += [format_setting(cell, setting) for setting in settings]
        row += [format_num_tracks(cell)] * has_sizes + [str(cell.get("seed"))] * has_seeds
        if cells_file.is_failed(cell):
            reason = "not available" if cell.get("is_unavailable") else "failed"
            sentences.append(f"{name_candidate(cell)}: {reason}: {cell.get('error')}")
            rows.append([*row, reason, *[EMPTY_CELL] * (5 + has_folds)])
            continue
        row += [format_number((cell.get("folds") or {}).get(select_by))] * has_folds
        row.append(format_number((cell.get("validation") or {}).get(select_by)))
        row += [
            format_value(cells_file.parse_number(cell.get(m)), cell.get(f"{m}_ci"))
            for m in METRIC_TITLES
        ]
        row += [_format_accuracy(cell), _format_difference(cell)]
        rows.append([*row, format_seconds(cells_file.parse_number(cell.get("seconds")))])
    metric = METRIC_TITLES.get(select_by, select_by)
    columns = [
        Column("Candidate"),
        *(Column(title, is_number=True) for title in settings.values()),
        *[Column("Train tracks", is_number=True)] * has_sizes,
        *[Column("Seed", is_number=True)] * has_seeds,
        *[Column(f"Folds {metric}", is_number=True)] * has_folds,
        Column(f"Validation {metric}", is_number=True),
        *(Column(f"{title} [95 %]") for title in METRIC_TITLES.values()),
        Column("Balanced accuracy [95 %]", is_optional=True),
        Column("ROC-AUC - baseline [95 %]"),
        Column("Time", is_number=True),
    ]
    legend = [
        f"Brackets: 95 % intervals over {captions.describe_resampled(cells)}.",
        f"{CHOSEN_MARK.strip()} is chosen {_name_choice(has_folds)}, and kept as exports/best; all "
        "other numbers are of the test tracks.",
    ]
    if has_folds:
        legend.append(
            "Folds are of the groups of training and validation tracks, each judged by a model "
            "that was not fitted to it: validation has too few groups to choose on. What is "
            "trained has no folds, and is chosen only if it is better on the validation tracks by "
            "a paired test over tracks (p < 0.05)."
        )
    text = [format_table(columns, rows, style, get_width()), "", *legend, *notes, *sentences]
    return join_paragraphs(text, style)


def describe_choice(cells: Iterable[Cell]) -> list[str]:
    """Returns what was chosen, and whether it beats the baseline: one sentence per choice.

    Args:
        cells: of `results.json`.
    """
    listed, sentences = sort_candidates(cells), []
    chosen = [cell for cell in listed if cell.get("is_chosen")]
    for cell in chosen:
        size = cell.get("num_train_tracks")
        among = f" of {describe_size(size)}" if size else ""
        among += f", seed {cell['seed']}" if len({c.get("seed") for c in chosen}) > 1 else ""
        has_folds = any(other.get("folds") for other in listed)
        start = f"Chosen {_name_choice(has_folds)}{among}: {name_candidate(cell)}"
        if cell["mode"] == BASELINE:
            sentences.append(f"{start}; no other candidate is better there.")
        else:
            sentences.append(f"{start}; on the test tracks {_describe_beside_baseline(cell)}.")
    sentences += describe_rising(listed)
    return sentences


def describe_rising(cells: Iterable[Cell]) -> list[str]:
    """Returns that trainings ended while validation was still rising, or nothing.

    Args:
        cells: of `results.json`.
    """
    trained = [c for c in cells if not cells_file.is_failed(c) and c.get("num_steps")]
    rising = [cell for cell in trained if cell.get("is_still_rising")]
    if not rising:
        return []
    count = f"{len(rising)} of {len(trained)} trainings" if len(trained) > 1 else "the training"
    advice = (
        "a larger --config.minutes" if any("is_chosen" in cell for cell in rising)
        else "a larger --config.train.num_steps"
    )  # fmt: skip
    return [
        f"Validation was still rising at the end of {count}: {advice} may give better models "
        "(in a --workdir of its own)."
    ]


def sort_candidates(cells: Iterable[Cell]) -> list[Cell]:
    """Returns candidates by data set, training size (all last) and seed, the baseline first.

    Args:
        cells: of `results.json`.
    """
    modes = (BASELINE, "linear", "all_layers", SCRATCH)
    return sorted(
        cells,
        key=lambda cell: (
            cell["target"],
            rank_size(cell.get("num_train_tracks")),
            cell.get("seed") or 0,
            modes.index(cell["mode"]) if cell["mode"] in modes else len(modes),
        ),
    )


def _name_choice(has_folds: bool) -> str:
    """Returns on what was chosen, in words."""
    return "by folds over groups" if has_folds else "on validation data"


def _format_accuracy(cell: Cell) -> str:
    """Returns the balanced accuracy, of classes of which each track has one."""
    entry = next(iter((cell.get("single_label") or {}).values()), None)
    if entry is None:
        return EMPTY_CELL
    return format_value(entry["balanced_accuracy"], entry.get("balanced_accuracy_ci"))


def _format_difference(cell: Cell) -> str:
    """Returns the difference to the baseline, with its interval and a mark."""
    found = ((cell.get("versus_baseline") or {}).get("roc_auc")) or {}
    difference = cells_file.parse_number(found.get("difference"))
    if math.isnan(difference):
        return EMPTY_CELL
    low, high = cells_file.parse_interval(found.get("ci"))
    if math.isnan(low):
        return f"{difference:+.3f}{format_reason(found.get('reason'))}"
    mark = " *" if cells_file.parse_number(found.get("p_value")) < SIGNIFICANCE else ""
    return f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]{mark}"


def _describe_beside_baseline(cell: Cell) -> str:
    """Returns whether a candidate beats the baseline on the test tracks, in words."""
    found = ((cell.get("versus_baseline") or {}).get("roc_auc")) or {}
    difference = cells_file.parse_number(found.get("difference"))
    if math.isnan(difference):
        return "it was not compared with the baseline"
    p_value = cells_file.parse_number(found.get("p_value"))
    measured = f"ROC-AUC {difference:+.3f}"
    if math.isnan(p_value):
        return f"its difference to the baseline, {measured}, cannot be tested (too few tracks)"
    if p_value >= SIGNIFICANCE:
        return f"it is not shown to differ from the baseline ({measured}, p = {p_value:.2g})"
    side = "better" if difference > 0 else "worse"
    return f"it is {side} than the baseline ({measured}, p = {p_value:.2g})"
