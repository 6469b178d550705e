"""The report of a run: one self-contained HTML file that makes no requests to any server.

Tables are written here and are there without JavaScript; the page's own script sorts and filters
them, draws the curves from data that stand in the page, and plays the taggrams. A policy in the
page (Content-Security-Policy) lets run and look only what is in it, by hash. There is no framework
and no template language: a few hundred lines of plain JavaScript and of `markup` do it, and the
file opens in ten years.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from musrep_jax import __version__
from musrep_jax.experiments.reading import Run
from musrep_jax.pages import read_static, report_data, report_models, report_tables
from musrep_jax.pages.document import make_document
from musrep_jax.pages.markup import Markup, data_block, element, facts, join, table
from musrep_jax.pages.report_disagreements import Disagreement, make_section
from musrep_jax.pages.report_tracks import PlayableTrack
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.captions import describe_resampled
from musrep_jax.reporting.display_names import make_display_names
from musrep_jax.reporting.job_table import make_job_table
from musrep_jax.reporting.results import METRIC_TITLES
from musrep_jax.tasks.jobs import strip_result_folders, title_of
from musrep_jax.tasks.tagging.reports import describe_findings, notes_on
from musrep_jax.training.checkpoints import CARD_FILE
from musrep_jax.training.logs import strip_folders

STYLES = ("theme.css", "report.css")
SCRIPTS = ("taggram.js", "maps.js", "tables.js", "charts.js", "report.js")

_PATH = re.compile(r"""^(?!.*://).*?(?:^|[("'=:,])~?/\w""")

Section = tuple[str, str, Markup]
"""Its id, its title, its content."""


def make_page(
    run: Run,
    played: Sequence[PlayableTrack],
    listening: str,
    disagreements: tuple[Sequence[Disagreement], str] | None = None,
) -> str:
    """Returns the report of a run as an HTML file.

    Args:
        run: the workdir.
        played: test tracks to listen to.
        listening: which cell is heard, or a sentence on why there is nothing to hear.
        disagreements: tracks on which transfer and scratch disagree, and what is compared; None
            for no such section.
    """
    everything = {name: strip_result_folders(result) for name, result in run.results.items()}
    shown = {name: result for name, result in everything.items() if _is_of_tagger(result)}
    others = [result for result in everything.values() if not _is_of_tagger(result)]
    finished = {name: r for name, r in shown.items() if not cells_file.is_failed(r)}
    sections: list[Section] = [
        *_transfer(list(shown.values())),
        *(_cells(list(shown.values())) if shown or not others else []),
        *_make_task_sections(others),
        *_make_cell_section(finished),
        ("listen", "Listen: tags over time", _make_listening_section(played, listening)),
        *(
            []
            if disagreements is None
            else [
                (
                    "disagree",
                    "Listen: where transfer and scratch disagree",
                    make_section(*disagreements, first=len(played)),
                )
            ]
        ),
        *_failures(everything, run.unfinished),
        ("made", "How this was made", _make_provenance_section(run)),
    ]
    pairs = [] if disagreements is None else disagreements[0]
    heard = [*played, *(track for one in pairs for track in (one.transfer, one.scratch))]
    data = {
        "cells": [
            report_data.make_cell_details(name, result, run.rows(name))
            for name, result in finished.items()
        ],
        "learning": report_data.learning_curves(list(shown.values()), _synthetic(shown)),
        "taggrams": [track.taggram for track in heard],
        "maps": [track.maps for track in heard],
        "metrics": METRIC_TITLES,
    }
    title = f"{run.path.absolute().name}: report"
    navigation = element(
        "nav",
        element("ul", [element("li", element("a", t, href=f"#{i}")) for i, t, _ in sections]),
        aria_label="Sections",
        class_="sections",
    )
    body = element(
        "body",
        element("a", "Skip to the results", href=f"#{sections[0][0]}", class_="skip"),
        element(
            "div",
            element(
                "header",
                element("h1", f"Report of {run.path.absolute().name}"),
                _overview(run, everything),
            ),
            navigation,
            element("main", [_panel(*section) for section in sections]),
            class_="page",
        ),
        data_block("report-data", data),
        element("script", Markup(_script())),
    )
    return make_document(title, body, STYLES, _script())


def _is_of_tagger(result: Mapping[str, Any]) -> bool:
    """Returns whether a result is of a tagger that a run trained, and not of another task."""
    return "per_label" in result and "model" in result


def _has_failed(result: Mapping[str, Any]) -> bool:
    """Returns whether a result of any task is an error."""
    if _is_of_tagger(result):
        return cells_file.is_failed(result)
    return result.get("error") is not None


def _make_task_sections(results: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Returns a section with the table of each task that is not tagging."""
    sections = []
    for name in cells_file.ordered(results, "task"):
        made = make_job_table([result for result in results if result["task"] == name])
        heads = [(c.title, "number" if c.is_number else "text") for c in made.columns]
        legend = [sentence for sentence in made.legend if not sentence.startswith("Failed")]
        content = table(" ".join(legend), heads, made.rows, class_="sortable")
        sections.append((f"task-{name}", f"All cells: {name}", content))
    return sections


def describe_cell(run: Run, name: str) -> str:
    """Returns a description of a cell.

    Args:
        run: the workdir.
        name: of the cell.
    """
    return title_of(strip_result_folders(run.results[name]))


def strip_local_paths(text: str) -> str:
    """Returns a text with the last part only of its absolute paths, because pages travel.

    >>> strip_local_paths("There is nothing in /home/some/body/runs: see https://example.org/a/b.")
    'There is nothing in runs: see https://example.org/a/b.'
    """
    words = text.split(" ")
    return " ".join(strip_folders(word) if _PATH.search(word) else word for word in words)


def _strip_folders(value: Any) -> Any:
    """Returns a config with the last part only of its absolute paths."""
    if isinstance(value, Mapping):
        return {key: _strip_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strip_folders(item) for item in value]
    return strip_folders(value) if isinstance(value, str) else value


def _script() -> str:
    """Returns the page's JavaScript."""
    return "\n".join(read_static(name) for name in SCRIPTS)


def _panel(name: str, title: str, content: Markup) -> Markup:
    heading = element("h2", title, id=f"{name}-title")
    return element(
        "section", heading, content, id=name, class_="panel", aria_labelledby=f"{name}-title"
    )


def _synthetic(shown: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted({r["target"] for r in shown.values() if r.get("is_synthetic")})


def _names(results: Sequence[Mapping[str, Any]]) -> dict[str | None, str]:
    """Returns the shown name of every data set."""
    return make_display_names([r["target"] for r in results] + [r.get("source") for r in results])


def _overview(run: Run, shown: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Returns the lines under the page's title."""
    failed = sum(_has_failed(result) for result in shown.values())
    states = [f"{len(shown) - failed} finished"]
    states += [f"{failed} failed"] if failed else []
    states += [f"{len(run.unfinished)} without a result"] if run.unfinished else []
    results = [result for result in shown.values() if _is_of_tagger(result)]
    targets, models = (cells_file.ordered(results, field) for field in ("target", "model"))
    sources = cells_file.order_sources(results)
    names = _names(results)
    config = ml_collections.ConfigDict({"model": {"size": None}})
    config.update(ml_collections.ConfigDict(run.config))
    notes, verdict = notes_on(results, config), describe_findings(results, config)
    return join(
        [
            element("p", " ".join(verdict), class_="verdict") if verdict else None,
            facts(
                [
                    ("Experiment", run.config.get("recipe")),
                    ("Cells", ", ".join(states)),
                    ("Sources", ", ".join(names[source] for source in sources)),
                    ("Targets", ", ".join(names[target] for target in targets)),
                    ("Models", ", ".join(models)),
                ]
            ),
            element("ul", [element("li", note) for note in notes], class_="note")
            if notes
            else None,
        ]
    )


def _transfer(results: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Returns the sections on transfer, none if nothing was transferred."""
    if not any(result.get("source") for result in results):
        return []
    synthetic = sorted({r["target"] for r in results if r.get("is_synthetic")})
    matrices = report_tables.make_transfer_matrices(results, synthetic)
    over = describe_resampled(results)
    legend = element(
        "p",
        "Color: difference to training from scratch on the same tracks, ",
        element("span", "worse", class_="key down-4"),
        " ",
        element("span", "better", class_="key up-4"),
        f". Small print: the 95 % interval over {over}, then the difference; * p < 0.05 in every "
        "seed.",
        class_="small soft",
    )
    content = [element("div", class_="controls", id="matrix-controls"), matrices, legend]
    sections = [("transfer", "Transfer matrix", join(content))]
    curves = join(
        [
            element("p", f"Lines: mean over seeds; bars: 95 % intervals over {over}.",
                    class_="small soft"),
            element("div", class_="controls", id="learning-controls"),
            element("div", id="learning", class_="charts"),
        ]
    )  # fmt: skip
    if len({result.get("num_train_tracks") for result in results if result.get("source")}) > 1:
        sections.append(("curves", "Learning curves", curves))
    differences = report_tables.make_differences_table(results, _names(results))
    if differences is None:
        differences = element(
            "p",
            "No cell has been compared with scratch yet: that happens when a run ends, for cells "
            "whose scratch cell is there.",
        )
    sections.append(("scratch", "Differences to scratch", differences))
    return sections


def _cells(results: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Returns the section with the table of all cells."""
    if not results:
        text = element("p", "No cell has a result yet: the page can be made again at any time.")
        return [("cells", "All cells", text)]
    names = _names(results)
    models = report_models.make_model_tables(results, names)
    sections = [("models", "Models", join(models))] if models else []
    return [*sections, ("cells", "All cells", report_tables.make_results_table(results, names))]


def _make_cell_section(finished: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    """Returns the section on labels and training of one cell, which the page's script fills."""
    if not finished:
        return []
    options = [
        element("option", f"{title_of(result)}, seed {result.get('seed')}", value=index)
        for index, result in enumerate(finished.values())
    ]
    content = [
        element(
            "div",
            element("label", "Cell", element("select", options, id="cell")),
            class_="controls",
        ),
        element("div", id="cell-details"),
        element(
            "noscript",
            element("p", "Curves and labels need JavaScript; results.md has the same numbers."),
        ),
    ]
    return [("labels", "One cell: training and labels", join(content))]


def _make_listening_section(played: Sequence[PlayableTrack], listening: str) -> Markup:
    """Returns the tracks to listen to."""
    cards = []
    for number, track in enumerate(played):
        cut = ", its start" if track.is_cut else ""
        truth = ", ".join(track.true_labels) or "none"
        cards.append(
            element(
                "article",
                element("h3", track.track_id, id=f"track-{number}"),
                element("p", f"{track.seconds:.0f} s{cut}. Labels in the data set: {truth}.",
                        class_="small"),
                element("audio", controls=True, preload="metadata", src=track.url,
                        aria_labelledby=f"track-{number}"),
                element("div", class_="taggram", data_track=number),
                element("details", element("summary", "What the tags rest on"),
                        element("div", class_="maps", data_track=number))
                if track.maps else None,
            )
        )  # fmt: skip
    return join(
        [element("p", strip_local_paths(listening), class_=None if played else "note"), cards]
    )


def _failures(
    shown: Mapping[str, Mapping[str, Any]], unfinished: Mapping[str, str]
) -> list[Section]:
    """Returns the section on cells without a result, none when all have one."""
    entries = [
        (title_of(result), element("code", strip_local_paths(result.get("error") or "no result")))
        for result in shown.values()
        if _has_failed(result)
    ]
    entries += [(name, element("span", sentence)) for name, sentence in unfinished.items()]
    if not entries:
        return []
    listed = [
        element("li", element("strong", title), element("br"), text, class_="problem")
        for title, text in entries
    ]
    return [("failed", "Failed and unfinished cells", element("ul", listed, class_="problems"))]


def _make_provenance_section(run: Run) -> Markup:
    """Returns command, versions, config, and what to cite."""
    record = run.record
    packages = ", ".join(f"{k} {v}" for k, v in (record.get("packages") or {}).items() if v)
    device = f"{record.get('num_devices')} {record.get('device_kind')}" if record else None
    command = record.get("command")
    about = facts(
        [
            ("Command", element("code", command) if command else None),
            ("Python", record.get("python")),
            ("Packages", packages),
            ("Code", record.get("git_revision")),
            ("Devices", device),
            ("Page", f"made with musrep_jax {__version__} on {datetime.date.today():%d %B %Y}"),
        ]
    )
    config = None
    if run.config:
        config = element(
            "details",
            element("summary", "The resolved config"),
            element(
                "pre",
                json.dumps(_strip_folders(run.config), indent=1, ensure_ascii=False),
                tabindex="0",
                role="region",
                aria_label="The resolved config",
            ),
        )
    return join([about, config, element("h3", "How to cite"), _citations(run)])


def _citations(run: Run) -> Markup:
    """Returns what to cite: this package, and the data sets that the exported models name."""
    data = {}
    for name, result in run.results.items():
        file = run.export_dir(name) / CARD_FILE
        target = json.dumps(result.get("target"))  # of several data sets, their names
        if target not in data and file.is_file():
            about = json.loads(file.read_text(encoding="utf-8")).get("data")
            data |= {target: about} if about else {}  # a task's cards need not name a data set
    revision = run.record.get("git_revision")
    package = f"musrep_jax {__version__}{f', revision {revision}' if revision else ''}"
    listed = [element("li", f"{package} (Apache-2.0).")]
    by_text: dict[str, list[str]] = {}
    for about in data.values():
        cited = by_text.setdefault(about["citation"].strip(), [])
        cited.append(f"{about['name']} ({about['licence']})")
    for text, cited in by_text.items():
        shown = element("pre", text, tabindex="0") if text.startswith("@") else text
        listed.append(element("li", f"{', '.join(cited)}: ", shown))
    return element("ul", listed)
