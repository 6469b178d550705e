"""What transfer from published models is worth on real recordings: one table, one figure.

python benchmarks/real_music.py runs/real/* --figure docs/figures/real_music.png

tells of runs that are there: workdirs of `configs/transfer.py:pretrained` and of
`configs/tagging.py`, whose recordings have exactly one of several labels each. The page
`docs/real_music.md` has the commands of the runs. Right is a recording whose highest score is its
label; differences to the baseline are of the shares that are right, means over seeds, paired by
recording, swapped by whole groups. `WORKDIR=NOTE` puts a note behind what was done there.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from musrep_jax.evaluation.comparison import compare_values
from musrep_jax.evaluation.subsets import Size, rank_size, shorten_size
from musrep_jax.reporting.drawing import canvas, save_figure

BASELINE = "baseline: linear on log-mel statistics"
SIZES = {"1 per class": "1", "3 per class": "3", "10 per class": "10", "all": "all"}
"""Of training sets -> in the titles of columns."""
COMPARED = ("3 per class", "all")
COLUMNS = [
    "Folder", "What", "Seeds", *(f"ROC-AUC at {SIZES[size]}" for size in SIZES),
    *(f"{what} at {SIZES[size]}" for size in COMPARED for what in ("Right", "Minus baseline")),
]  # fmt: skip
STYLES = {
    BASELINE: ("#888888", "s", "-."),
    "linear on log-mel statistics + musicnn-msd": ("#D55E00", "D", "-"),
    "linear on musicnn-msd": ("#E69F00", "D", "-"),
    "output layer on musicnn-msd": ("#0072B2", "o", "-"),
    "output layer on musicnn-mtt": ("#56B4E9", "o", "-"),
    "output layer on vgg-msd": ("#009E73", "^", "-"),
    "all layers of vgg-msd": ("#CC79A7", "^", "--"),
    "vgg_original from scratch": ("#CC79A7", "v", ":"),
    "short_chunk_resnet from scratch": ("#000000", "v", ":"),
}
"""What the figure has -> color, marker and line; the table has all."""


@dataclasses.dataclass(frozen=True)
class Score:
    """The tests of one method at one size of the training set, of all seeds.

    Attributes:
        size: of the training set, see `musrep_jax.evaluation.subsets`.
        roc_auc: of every seed.
        right: (tracks,), share of the seeds with which a track is right.
        groups: (tracks,), their groups.
        num_labels: that a track can have.
        num_tracks: of training.
    """

    size: Size
    roc_auc: tuple[float, ...]
    right: np.ndarray
    groups: np.ndarray
    num_labels: int
    num_tracks: int


def name_method(cell: Mapping[str, Any]) -> str:
    """Returns what was done, for a row of the table.

    Args:
        cell: of `results.json`.
    """
    if cell["mode"] == "baseline":
        return BASELINE
    if cell["source"] is None:
        return f"{cell['model']} from scratch"
    source = cell["source"].replace("pretrained:", "")
    source = source.replace("log_mel_statistics+", "log-mel statistics + ")
    word = "of" if cell["mode"] == "all_layers" else "on"
    return f"{cell['mode'].replace('_', ' ')} {word} {source}"


def read_scores(workdirs: Iterable[str]) -> dict[str, dict[str, list[Score]]]:
    """Returns the scores by folder and method, sizes rising.

    Args:
        workdirs: of runs, some with `=NOTE`; what several runs have is read from the first.
    """
    found: dict[str, dict[str, dict[Size, list[tuple[Path, Any]]]]] = {}
    for words in workdirs:
        name, _, note = words.partition("=")
        workdir = Path(name)
        cells = json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            folder = cell["target"].rpartition("/")[2].rpartition(":")[2]
            method = name_method(cell)
            if note and method != BASELINE:
                method = f"{method} ({note})"
            if cell["error"] is None:
                sizes = found.setdefault(folder, {}).setdefault(method, {})
                members = sizes.setdefault(cell["num_train_tracks"], [])
                if all(other["seed"] != cell["seed"] for _, other in members):
                    members.append((workdir, cell))
    return {
        folder: {
            method: [_read_score(size, sizes[size]) for size in sorted(sizes, key=rank_size)]
            for method, sizes in methods.items()
        }
        for folder, methods in found.items()
    }


def _read_score(size: Size, members: Sequence[tuple[Path, Mapping[str, Any]]]) -> Score:
    """Returns the score of all seeds of a method at a size."""
    right, first = [], None
    for workdir, cell in members:
        with np.load(workdir / "cells" / cell["key"] / "scores.npz") as file:
            arrays = dict(file)
        first = arrays if first is None else first
        if arrays["track_ids"].tolist() != first["track_ids"].tolist():
            raise SystemExit(f"{workdir}: the seeds of {cell['key']} were tested on other tracks.")
        labels, scores = arrays["labels"], arrays["scores"]
        right.append(labels[np.arange(len(labels)), scores.argmax(axis=1)] > 0)
    return Score(
        size=size,
        roc_auc=tuple(cell["roc_auc"] for _, cell in members),
        right=np.mean(right, axis=0),
        groups=first["groups"],
        num_labels=first["labels"].shape[1],
        num_tracks=round(np.mean([cell["num_train_tracks_used"] for _, cell in members])),
    )


def list_rows(scores: Mapping[str, Mapping[str, Sequence[Score]]]) -> list[list[str]]:
    """Returns the rows of the table, see `COLUMNS`: ROC-AUC by tracks per class, then shares right.

    Args:
        scores: as `read_scores` returns them.
    """
    rows, places = [], list(STYLES)
    for folder, methods in scores.items():
        baseline = {shorten_size(score.size): score for score in methods[BASELINE]}
        for method in sorted(methods, key=[*places, *methods].index):
            found = {shorten_size(score.size): score for score in methods[method]}
            row = [folder, method, "/".join(sorted({str(len(s.roc_auc)) for s in found.values()}))]
            for size in SIZES:
                row.append(f"{np.mean(found[size].roc_auc):.3f}" if size in found else "")
            for size in COMPARED:
                score = found.get(size)
                row.append("" if score is None else f"{score.right.mean():.2f}")
                is_compared = score is not None and method != BASELINE
                row.append(format_difference(score, baseline[size]) if is_compared else "")
            rows.append(row)
    return rows


def format_difference(score: Score, baseline: Score) -> str:
    """Returns by how much more often a method is right than the baseline, with its interval.

    Args:
        score: of the method.
        baseline: on the same tracks.
    """
    found = compare_values(
        score.right, baseline.right, higher_is_better=True, track_groups=score.groups
    )
    if found.reason is not None:
        return f"{found.value:+.2f} (one group)"
    mark = " *" if found.p_value < 0.05 else ""
    return f"{found.value:+.2f} [{found.ci[0]:+.2f}, {found.ci[1]:+.2f}]{mark}"


def draw(scores: Mapping[str, Mapping[str, Sequence[Score]]], path: Path) -> None:
    """Saves the figure: a panel per folder, the share right over tracks per class.

    Args:
        scores: as `read_scores` returns them.
        path: of the PNG file.
    """
    num_rows = len(scores) // 3 + 1  # the last place is that of the legend
    with canvas(11, 3.3 * num_rows) as figure:
        panels = list(figure.subplots(num_rows, 3, sharey=True, squeeze=False).flat)
        for panel, (folder, methods) in zip(panels, scores.items(), strict=False):
            sizes = sorted({s.size for part in methods.values() for s in part}, key=rank_size)
            for method in (name for name in STYLES if name in methods):
                colour, marker, line = STYLES[method]
                panel.plot(
                    [sizes.index(score.size) for score in methods[method]],
                    [score.right.mean() for score in methods[method]],
                    color=colour, marker=marker, ls=line, ms=5, label=method, clip_on=False,
                )  # fmt: skip
            counts = {s.size: s.num_tracks for s in methods[BASELINE]}
            ticks = [f"{shorten_size(size)}\n({counts[size]})" for size in sizes]
            panel.set_xticks(range(len(sizes)), ticks)
            some = methods[BASELINE][0]
            panel.axhline(1 / some.num_labels, color="#999999", ls=":", lw=1)
            panel.set_title(f"{folder}: {some.num_labels} labels, {len(some.right)} test tracks")
            panel.set_ylim(0, 1.02)
            panel.grid(alpha=0.3)
            panel.tick_params(labelleft=True)
        for panel in panels[len(scores) :]:
            panel.set_axis_off()
        handles = {}
        for panel in panels[: len(scores)]:
            handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        names = [name for name in STYLES if name in handles]
        panels[-1].legend([handles[name] for name in names], names, loc="center", frameon=False)
        figure.supylabel("share of test tracks that are right")
        figure.supxlabel("labeled training tracks (how many); dotted: guessing")
        save_figure(figure, path)


def main(arguments: Sequence[str]) -> None:
    """Prints the table, and draws the figure if it was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdirs", nargs="+", help="each as WORKDIR or WORKDIR=NOTE")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    settings = parser.parse_args(arguments)
    scores = read_scores(settings.workdirs)
    lines = [COLUMNS, ["---"] * len(COLUMNS), *list_rows(scores)]
    print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    if settings.figure is not None:
        draw(scores, settings.figure)


if __name__ == "__main__":
    main(sys.argv[1:])
