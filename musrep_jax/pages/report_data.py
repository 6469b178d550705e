"""The data that a report's JavaScript draws: learning curves, training curves, labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.support import REASON_TEXTS
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.results import METRIC_TITLES, MODES
from musrep_jax.reporting.tables import DECISION_TITLES, format_report_summary

Result = Mapping[str, Any]

MAX_POINTS = 150
"""Maximum points of a curve: more cannot be distinguished on a page, and make it large."""
BASELINE_NAME = "log-mel statistics, linear"
LABEL_FIELDS = ("positives", "roc_auc", "pr_auc", "random_pr_auc", *DECISION_TITLES)


def learning_curves(results: Sequence[Result], synthetic: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the curves over the number of training tracks, as JSON values.

    Args:
        results: of all cells, with display names.
        synthetic: names of the data sets whose audio is generated.

    Returns:
        One entry per model and metric: `model`, `metric`, `range` (the ends of the axis), `panels`,
        each with `title`, `chance` and
        `lines`, each with `name`, `mode` and `points` [tracks, value, low, high]; none for models
        with less than two sizes.
    """
    found = []
    baselines = [cell for cell in results if cell["mode"] == cells_file.BASELINE]
    results = cells_file.separate_variants(cells_file.drop_baselines(results))
    for model in cells_file.ordered(results, "model"):
        cells = [cell for cell in results if cell["model"] == model]
        if len(captions.list_training_sizes(cells)) < 2:
            continue
        targets = captions.find_transfer_targets(cells)
        for metric in METRIC_TITLES:
            summaries = [
                s
                for part in (cells, baselines)
                for s in cells_file.summarize(part, metric).values()
                if s.num_train_tracks_used
                and math.isfinite(s.value)
                and s.condition.target in targets
            ]
            pairs = captions.list_transfer_pairs(summaries, targets)
            names = captions.make_axis_names([name for pair in pairs for name in pair], synthetic)
            panels = []
            for source, target in pairs:
                of_pair = [
                    s
                    for s in summaries
                    if s.condition.target == target and s.condition.source in (None, source)
                ]
                start = "" if source is None else f"{names[source]} \u2192 "
                chances = [s.chance for s in of_pair if math.isfinite(s.chance)]
                panels.append(
                    {
                        "title": f"{start}{names[target]}",
                        "chance": sum(chances) / len(chances) if chances else None,
                        "lines": _lines(of_pair),
                    }
                )
            drawn = [value for s in summaries for value in (s.value, s.chance, *s.ci)]
            ends = captions.limit_scores(drawn)
            found.append({"model": model, "metric": metric, "range": ends, "panels": panels})
    return found


def make_cell_details(
    name: str, result: Result, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the page's data of one finished cell, as JSON values.

    Args:
        name: of the cell.
        result: of the cell.
        rows: logged steps and validations.

    Returns:
        `name`, `summary` (lines), `numTracks`, `labels` (name, then `LABEL_FIELDS`, then the
        bounds of both intervals, then why some are left out), `bestStep`, `train` [step, loss,
        learning rate], `validation` [step, loss, ROC-AUC] and `ranges`, the ends of the axes of
        `loss`, `score` and `rate`, null where the values decide.
    """
    reasons = result.get("skip_reasons") or {}
    labels = []
    for label, entry in result["per_label"].items():
        values = [entry.get(field) for field in LABEL_FIELDS]
        intervals = [
            bound for metric in METRIC_TITLES
            for bound in (entry.get(f"{metric}_ci") or (None, None))
        ]  # fmt: skip
        reason = reasons.get(label) or REASON_TEXTS.get(entry.get("ci_reason") or "")
        labels.append([label, *map(rounded, [*values, *intervals]), reason])
    curves = {}
    for kind, fields in (("train", ("loss", "learning_rate")), ("validation", ("loss", "roc_auc"))):
        points = [
            [row["step"], *(rounded(row.get(field)) for field in fields)]
            for row in rows
            if row.get("kind") == kind
        ]
        curves[kind] = thin_points(points)
    return {
        "name": name,
        "summary": format_report_summary(result).splitlines(),
        "numTracks": result["num_tracks"],
        "labels": labels,
        "bestStep": result.get("best_step"),
        **curves,
        "ranges": {
            "loss": captions.limit_quantity(_column(1, curves["train"], curves["validation"])),
            "score": captions.limit_scores(_column(2, curves["validation"])),
            "rate": captions.limit_quantity(_column(2, curves["train"])),
        },
    }


def _column(place: int, *curves: Sequence[Sequence[Any]]) -> list[float]:
    """Returns the numbers of a column of curves."""
    return [row[place] for rows in curves for row in rows if row[place] is not None]


def thin_points(points: Sequence[Any], most: int = MAX_POINTS) -> list[Any]:
    """Returns evenly spaced points, first and last among them.

    >>> thin_points([0, 1, 2, 3, 4, 5], 3)
    [0, 2, 5]

    Args:
        points: in order.
        most: how many at most, at least 2.
    """
    if len(points) <= most:
        return list(points)
    return [points[int(k * (len(points) - 1) / (most - 1))] for k in range(most)]


def rounded(value: Any) -> Any:
    """Returns a number with as many digits as a page shows; anything else as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _lines(summaries: Sequence[cells_file.Summary]) -> list[dict[str, Any]]:
    """Returns one line per mode."""
    by_mode: dict[str, list[cells_file.Summary]] = {}
    for summary in summaries:
        by_mode.setdefault(summary.condition.mode, []).append(summary)
    order = [*(mode for mode in MODES if mode in by_mode), *(m for m in by_mode if m not in MODES)]
    return [
        {
            "name": BASELINE_NAME if mode == cells_file.BASELINE else mode.replace("_", " "),
            "mode": mode.replace("_", "-"),
            "points": [
                [s.num_train_tracks_used, *map(rounded, (s.value, *s.ci))]
                for s in sorted(by_mode[mode], key=lambda s: s.num_train_tracks_used)
            ],
        }
        for mode in order
    ]
