"""Presents probes: the verdict and the tables."""

import math
from collections.abc import Sequence

import ml_collections
import numpy as np

from musrep_jax.evaluation.comparison import SIGNIFICANCE
from musrep_jax.evaluation.subsets import describe_size, rank_size
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.pair_tables import collect_pairs, describe_pairs, format_pairs
from musrep_jax.reporting.results import parse_number
from musrep_jax.reporting.tables import format_value
from musrep_jax.runtime.terminal import get_width
from musrep_jax.tasks.jobs import strip_result_folders
from musrep_jax.tasks.probe.comparison import PAIRS
from musrep_jax.tasks.probe.matrix import SIMILARITY
from musrep_jax.tasks.probe.rows import (
    Row,
    correct_p_values,
    get_metric,
    list_rows,
    measure_difference,
    name_first,
    rank_rows,
    sort_results,
)
from musrep_jax.tasks.task import Result, Tables

CHANCE_ROWS = {
    "chance": "chance: random guesses",
    "everything": "always the most frequent class, or every label",
}
"""Field of `blind` in a result -> its row."""
_MAX_TITLE = 24
"""Characters of a name in the title of a column."""


def make_tables(results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
    """Returns the verdict, a table per data set and number of examples, and further sections.

    Args:
        results: of all jobs.
        config: of the experiment, whose order of features and classifiers rows have.
    """
    shown = [strip_result_folders(result) for result in sort_results(results, config)]
    verdict, text, markdown, sections = [], [], [], []
    for target in dict.fromkeys(result["target"] for result in shown):
        ours = [result for result in shown if result["target"] == target]
        names = make_display_names([r["target"] for r in shown])
        rows = list_rows(ours)
        sizes = sorted({row.size for row in rows}, key=rank_size)
        for size in sizes:
            alike = [row for row in rows if row.size == size]
            title = f"{names[target]}, {describe_size(size)}"
            sentences = describe_findings(alike) if size == sizes[-1] else describe_f1(alike)
            verdict += [f"{title}: {sentence}" for sentence in sentences]
            text.append(f"{title}\n{_format_rows(alike, 'text')}")
            markdown.append(f"**{title}**\n\n{_format_rows(alike, 'markdown')}")
            named = f"{alike[0].results[0]['metrics'][0]['title']}, all test tracks together"
            matrix = format_pairs([row.name for row in alike], *_collect_pairs(alike), named)
            sections += [(f"All pairs: {title}", matrix)] if matrix else []
        similar = [r for r in ours if r["classifier"] == SIMILARITY and r["error"] is None]
        if similar:
            title = f"{names[target]}, similarity"
            text.append(f"{title}\n{_format_similarity(similar, 'text')}")
            markdown.append(f"**{title}**\n\n{_format_similarity(similar, 'markdown')}")
    failed = [f"Failed: {r['key']}: {r['error']}" for r in shown if r["error"] is not None]
    notes = [*describe_leaks(shown), *_list_notes(shown)]
    return Tables(
        text="\n\n".join([*verdict, *text, *notes, *failed]),
        markdown="\n\n".join([*verdict, *markdown, *(f"- {note}" for note in (*notes, *failed))]),
        sections=[*sections, *_make_confusions(shown)],
    )


def describe_findings(rows: Sequence[Row]) -> list[str]:
    """Returns what probes of one data set and number of examples show, one sentence per question.

    Args:
        rows: at least one.
    """
    metric = rows[0].results[0]["metrics"][0]["name"]
    title = rows[0].results[0]["metrics"][0]["title"]
    defined = [row for row in rows if math.isfinite(row.value(metric))]
    if not defined:
        return [f"{title} is not defined for any row."]
    best = max(defined, key=lambda row: row.value(metric))
    value = format_value(best.value(metric), best.interval(metric))
    chance = get_metric(best.results[0], metric)["chance"]
    sentences = [f"the highest {title} is {value}, of {best.name}; chance is {chance:.3f}."]
    sentences += describe_f1(rows)
    p_values = correct_p_values(rows)
    compared = [row for row, p in zip(rows, p_values, strict=True) if math.isfinite(p)]
    if compared:
        counts = {"better": 0, "worse": 0}
        for row, p in zip(rows, p_values, strict=True):
            if p < SIGNIFICANCE:
                counts["better" if measure_difference(row) > 0 else "worse"] += 1
        undecided = len(compared) - sum(counts.values())
        sentences.append(
            f"than {name_first(rows)} under the same classifier, {counts['better']} of "
            f"{len(compared)} rows are better, {counts['worse']} worse, {undecided} undecided "
            "(paired tests, corrected for their number)."
        )
    sentences += filter(
        None,
        [describe_pairs([row.name for row in rows], rows.index(best), *_collect_pairs(rows))],
    )
    ranked = rank_rows(rows)
    if ranked is not None:
        kept, test = ranked
        order = np.argsort(test.mean_ranks, kind="stable")
        is_shown = test.p_value < SIGNIFICANCE
        sentences.append(
            f"over folds the {len(kept)} rows {'' if is_shown else 'are not shown to '}differ in "
            f"rank (Friedman, p = {test.p_value:.2g}); the best mean rank, "
            f"{test.mean_ranks[order[0]]:.1f}, has {kept[order[0]].name}."
        )
    return sentences


def describe_f1(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence if no row has a higher F1 than who always says the same, else none.

    Args:
        rows: of one data set and number of examples.
    """
    everything = parse_number(rows[0].results[0]["blind"]["everything"]["f1_macro"])
    highest = max(row.value("f1_macro") for row in rows)
    if highest > everything:
        return []
    return [
        f"no row has a macro F1 above {everything:.3f}, that of saying "
        f"{CHANCE_ROWS['everything']}; the highest is {highest:.3f}."
    ]


def describe_leaks(results: Sequence[Result]) -> list[str]:
    """Returns sentences on what lies in training and in test at once.

    Args:
        results: of all jobs.
    """
    found = {}
    for result in results:
        if result.get("num_shared_groups"):
            found.setdefault((result["target"], result["protocol"]), result["num_shared_groups"])
    return [
        f"Leakage: with probe.protocol={name}, {count} performers or recordings of {target} are in "
        "training and in test at once, so that these numbers are too high for new ones: take folds."
        for (target, name), count in found.items()
    ]


def _collect_pairs(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Returns differences between rows and corrected p-values, see `collect_pairs`."""
    return collect_pairs([row.results for row in rows], lambda result: result.get(PAIRS) or ())


def _format_rows(rows: Sequence[Row], style: str) -> str:
    """Returns the table of probes of one data set and number of examples."""
    metrics = list({m["name"]: m["title"] for r in rows for m in r.results[0]["metrics"]}.items())
    p_values = correct_p_values(rows)
    has_seeds = any(len(row.results) > 1 for row in rows)
    columns = [
        Column("Features"),
        Column("Classifier"),
        *([Column("Setting")] if any(row.study for row in rows) else []),
        *(Column(title, is_number=True, is_optional=i > 2) for i, (_, title) in enumerate(metrics)),
        *([Column("Spread over seeds", is_number=True)] if has_seeds else []),
        Column(_name_difference(rows), is_number=True),
    ]
    lines = []
    for row, p in zip(rows, p_values, strict=True):
        cells = [row.features, row.classifier, *([row.study] if any(r.study for r in rows) else [])]
        cells += [row.format(name) for name, _ in metrics]
        cells += [_or_dash(row.spread(metrics[0][0]))] if has_seeds else []
        lines.append([*cells, _format_difference(row, p)])
    for name, words in CHANCE_ROWS.items():
        blind = [row.results[0]["blind"][name] for row in rows]
        cells = [words, EMPTY_CELL, *([EMPTY_CELL] if any(r.study for r in rows) else [])]
        cells += [_or_dash(parse_number(blind[0].get(metric))) for metric, _ in metrics]
        lines.append([*cells, *([EMPTY_CELL] if has_seeds else []), EMPTY_CELL])
    table = format_table(columns, lines, style, get_width())
    return join_paragraphs([table, "", *_make_legend(rows)], style)


def _name_difference(rows: Sequence[Row]) -> str:
    """Returns the title of the column of differences, which names the first features if short."""
    first = name_first(rows)
    return f"Difference from {first if len(first) <= _MAX_TITLE else 'the first features'}"


def _make_legend(rows: Sequence[Row]) -> list[str]:
    """Returns the sentences under a table."""
    result = rows[0].results[0]
    has_folds = bool(result["per_fold"])
    groups = result["num_track_groups"]
    of = f"{result['num_test_tracks']} test tracks" + (f", {groups} groups" if groups else "")
    legend = [
        f"{of}; {result['num_train_tracks_used']:.0f} training tracks"
        + (f" in each of {result['num_folds']} folds; brackets: mean over folds plus and minus "
           "Student's t times its standard error." if has_folds
           else "; brackets: 95 % intervals over test data.")
    ]  # fmt: skip
    if any(math.isfinite(p) for p in correct_p_values(rows)):
        legend.append(
            "Differences are over all test tracks together; *: p < 0.05 in a paired test on the "
            "same tracks, corrected (Holm)."
        )
    if any(result["num_folds_without_choice"] for row in rows for result in row.results):
        legend.append(
            "Where there were too few training tracks to choose on, classifiers have their default "
            "settings."
        )
    return legend


def _format_similarity(results: Sequence[Result], style: str) -> str:
    """Returns the table of precision among nearest neighbors."""
    metrics = [(m["name"], m["title"]) for m in results[0]["metrics"]]
    columns = [Column("Features"), *(Column(title, is_number=True) for _, title in metrics)]
    lines = []
    for result in results:
        found = [get_metric(result, name) for name, _ in metrics]
        lines.append([result["features"], *(format_value(m["value"], m["ci"]) for m in found)])
    chance = [_or_dash(parse_number(m["chance"])) for m in results[0]["metrics"]]
    lines.append([CHANCE_ROWS["chance"], *chance])
    note = "Features are standardized by all tracks; brackets: 95 % intervals over test data."
    return join_paragraphs([format_table(columns, lines, style, get_width()), "", note], style)


def _make_confusions(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Returns title and table of the confusions of finished probes with exclusive classes."""
    sections = []
    for result in results:
        if result["error"] is None and result.get("confusion"):
            names = result["labels"]
            columns = [Column("True class"), *(Column(name, is_number=True) for name in names)]
            lines = [
                [name, *map(str, counts)]
                for name, counts in zip(names, result["confusion"], strict=True)
            ]
            title = f"Confusion: {result['key']}"
            sections.append((title, format_table(columns, lines)))
    return sections


def _list_notes(results: Sequence[Result]) -> list[str]:
    """Returns what else keeps the tables honest."""
    notes = list(dict.fromkeys(note for r in results for note in r.get("notes") or ()))
    if any(result.get("is_synthetic") for result in results):
        notes.append(
            "Data sets named synthetic are generated: these numbers say whether the method works "
            "here, and nothing about real music cultures."
        )
    return notes


def _format_difference(row: Row, p_value: float) -> str:
    difference = measure_difference(row)
    if not math.isfinite(difference):
        return EMPTY_CELL
    return f"{difference:+.3f}{' *' if p_value < SIGNIFICANCE else ''}"


def _or_dash(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else EMPTY_CELL
