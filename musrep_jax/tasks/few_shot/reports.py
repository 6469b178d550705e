"""Presents few-shot learning: the verdict, and a table per data set, pool of labels and size."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import split_list
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.pair_tables import collect_pairs, describe_pairs, format_pairs
from musrep_jax.reporting.results import parse_number
from musrep_jax.reporting.tables import format_value
from musrep_jax.runtime.terminal import get_width
from musrep_jax.tasks.few_shot.comparison import PAIRS
from musrep_jax.tasks.few_shot.trial import POOLS, PUBLISHED_F1
from musrep_jax.tasks.jobs import strip_result_folders
from musrep_jax.tasks.tagging.matrix import split_features
from musrep_jax.tasks.task import Result, Tables

TITLES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "f1": "macro F1",
    PUBLISHED_F1: "macro F1 at 0",
}
"""Name of a metric -> its title."""
EVERYTHING, RANDOM = "predict everything", "random scores"


def make_tables(results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
    """Returns the verdict and the tables.

    Args:
        results: of all jobs.
        config: of the experiment.
    """
    methods = split_list(config.few_shot.methods)
    features = split_features(config.features)
    in_order = sorted(
        results,
        key=lambda result: (
            _place(result["features"], features),
            result["seed"],
            _place(result["classifier"], methods),
        ),
    )
    shown = [strip_result_folders(result) for result in in_order]
    done = [result for result in shown if result["error"] is None]
    names = make_display_names([result["target"] for result in shown])
    verdict, text, markdown, sections = [], [], [], []
    keys = dict.fromkeys(
        (result["target"], result["num_labels"], result["num_shots"]) for result in done
    )
    for key in keys:
        ours = [r for r in done if (r["target"], r["num_labels"], r["num_shots"]) == key]
        for pool in POOLS:
            rows = [result for result in ours if pool in result["pools"]]
            if rows:
                title = f"{names[key[0]]}, {key[1]} {pool} labels, {key[2]} examples of each"
                verdict += [f"{title}: {line}" for line in describe_pool(rows, pool)]
                text.append(f"{title}\n{_format_rows(rows, pool, 'text')}")
                markdown.append(f"**{title}**\n\n{_format_rows(rows, pool, 'markdown')}")
                sections += _format_pairs(rows, pool, title)
    notes = [*list_notes(shown), *(f"Failed: {r['key']}: {r['error']}" for r in shown
                                    if r["error"] is not None)]  # fmt: skip
    return Tables(
        text="\n\n".join([*verdict, *text, *notes]),
        markdown="\n\n".join([*verdict, *markdown, *(f"- {note}" for note in notes)]),
        sections=sections,
    )


def describe_pool(rows: Sequence[Result], pool: str) -> list[str]:
    """Returns what the methods show on a pool of labels, and where F1 shows nothing.

    Args:
        rows: results that have the pool.
        pool: of `POOLS`.
    """
    best = max(rows, key=lambda row: _value(row, pool, "roc_auc"))
    found = best["pools"][pool]["metrics"]["roc_auc"]
    shown = format_value(parse_number(found["value"]), found["ci"])
    sentences = [f"the highest ROC-AUC is {shown}, of {_name(best)}; chance is 0.500."]
    place = next(number for number, row in enumerate(rows) if row is best)
    compared = describe_pairs(
        [_name(row) for row in rows], place, *_collect_pairs(rows, pool, "roc_auc")
    )
    sentences += [compared] if compared else []
    beaten = [
        row
        for row in rows
        if parse_number(row["pools"][pool]["everything"]["f1"]["value"])
        >= max(_value(row, pool, "f1"), _value(row, pool, PUBLISHED_F1))
    ]
    if beaten:
        everything = beaten[0]["pools"][pool]["everything"]["f1"]["value"]
        which = "; ".join(map(_name, beaten)) if len(beaten) < len(rows) else "any of the rows"
        sentences.append(
            f"WARNING: predicting every label for every track has a macro F1 of {everything:.3f}, "
            f"at least that of {which}: an F1 below it shows nothing."
        )
    return sentences


def _collect_pairs(rows: Sequence[Result], pool: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns differences between rows and corrected p-values, see `collect_pairs`."""

    def read(result: Result) -> Sequence[Mapping[str, Any]]:
        return ((result.get(PAIRS) or {}).get(pool) or {}).get(metric) or ()

    return collect_pairs([[row] for row in rows], read)


def _format_pairs(rows: Sequence[Result], pool: str, title: str) -> list[tuple[str, str]]:
    """Returns the differences between all rows in ROC-AUC and macro F1, a section each."""
    names = [_name(row) for row in rows]
    found = []
    for metric in ("roc_auc", "f1"):
        matrix = format_pairs(names, *_collect_pairs(rows, pool, metric), TITLES[metric])
        if matrix:
            found.append((f"All pairs, {TITLES[metric]}: {title}", matrix))
    return found


def _format_rows(rows: Sequence[Result], pool: str, style: str) -> str:
    """Returns the table of one pool."""
    columns = [
        Column("Features"),
        Column("Method"),
        *(Column(title, is_number=True) for title in TITLES.values()),
        Column("Everything wins", is_number=True, is_optional=True),
    ]
    has_seeds = len({row["seed"] for row in rows}) > 1
    lines = []
    for row in rows:
        one = row["pools"][pool]
        method = f"{row['classifier']}, seed {row['seed']}" if has_seeds else row["classifier"]
        cells = [row["features"], method, *_format_metrics(one["metrics"])]
        lines.append([*cells, f"{one['num_everything_wins']} of {one['num_episodes']}"])
    first = rows[0]["pools"][pool]
    lines.append([EVERYTHING, EMPTY_CELL, *_format_metrics(first["everything"]), EMPTY_CELL])
    chance = [f"{parse_number(first['random'][name]):.3f}" for name in TITLES]
    lines.append([RANDOM, EMPTY_CELL, *chance, EMPTY_CELL])
    episodes = first["num_episodes"]
    legend = [
        f"{episodes} episode{'s' if episodes > 1 else ''}; in the mean {first['num_support']:.0f} "
        f"support tracks and {first['num_queries']:.0f} queries, all with one of the labels. "
        "Brackets: 95 % intervals over episodes and "
        f"{'groups' if rows[0]['has_groups'] else 'tracks'} of queries at once.",
        "Macro F1 has one threshold for all labels, fitted on support examples that are left out; "
        "at 0 it is the published one. Everything wins: episodes in which predicting every label "
        "has at least that F1.",
    ]
    return join_paragraphs([format_table(columns, lines, style, get_width()), "", *legend], style)


def _format_metrics(found: Mapping[str, Any]) -> list[str]:
    return [format_value(parse_number(found[name]["value"]), found[name]["ci"]) for name in TITLES]


def _place(name: str, order: Sequence[str]) -> int:
    """Returns where a name stands, after all others if it does not."""
    return order.index(name) if name in order else len(order)


def _value(row: Result, pool: str, metric: str) -> float:
    return parse_number(row["pools"][pool]["metrics"][metric]["value"])


def _name(row: Result) -> str:
    seed = f", seed {row['seed']}" if row.get("seed") else ""
    return f"{row['classifier']} on {row['features']}{seed}"


def list_notes(results: Sequence[Result]) -> list[str]:
    """Returns what else keeps the tables honest.

    Args:
        results: of all jobs.
    """
    notes = []
    base = {(r["target"], tuple(r["base_labels"])) for r in results if r["error"] is None}
    if len(base) > len({target for target, _ in base}):
        notes.append(
            "Some rows have other base labels than others, as features were added later, so that "
            "their episodes are not the same: use a new --workdir to compare them."
        )
    for result in results:
        if result.get("missing_pools"):
            notes.append(
                f"Not drawn from {result['target']}, {result['num_labels']} labels, "
                f"{result['num_shots']} examples: {', '.join(result['missing_pools'])}."
            )
        if result["error"] is None and not result["has_groups"]:
            notes.append(
                f"{result['target']} names no performers or recordings: support and query tracks "
                "may be of one, so that these numbers may be too high."
            )
    if any(result.get("is_synthetic") for result in results):
        notes.append(
            "Data sets named synthetic are generated: these numbers say whether the method works "
            "here, and nothing about real music cultures."
        )
    return list(dict.fromkeys(notes))
