"""`musrep compare`: tests whether systems evaluated on the same tracks differ."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import Json, print_json, say
from musrep_jax.cli.published import print_published

if TYPE_CHECKING:
    import numpy as np

    from musrep_jax.experiments.reading import Run, TestScores

METRICS = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


def compare(
    baseline: Annotated[
        Path,
        typer.Argument(help="The baseline: a workdir, a cell or an export."),
    ],
    others: Annotated[list[Path] | None, typer.Argument(help="Workdirs, cells or exports.")] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Print the results of one workdir or results.json among the published ones of "
            "the same corpora.",
        ),
    ] = False,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="Also print the differences per label.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=100, help="Number of random swaps for intervals and p-values.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the random swaps.")] = 0,
    by: Annotated[
        str, typer.Option(help="Unit of swapping: groups where known, or tracks.")
    ] = "groups",
    json: Json = False,
) -> None:
    """Compare systems on the same test tracks: differences with 95 % intervals and p-values.

    A cell is WORKDIR/cells/NAME, and an export WORKDIR/exports/NAME stands for its cell. Of two
    workdirs the cells of the same name are compared, of a cell and a workdir all cells of the same
    data set with that one. The scores of both are swapped on random tracks (paired permutation
    test); p-values are also corrected for the number of comparisons (Holm). Where a data set has
    groups, such as performers or recordings, whole groups are swapped, unless --by tracks. Systems
    that were tested on different tracks are refused.

    With --published there is one argument, and nothing is tested: see docs/published.md.
    """
    from musrep_jax.config import ConfigError, choose
    from musrep_jax.evaluation.support import RESAMPLE_BY

    if bool(others) == published:
        raise ConfigError(
            "Name what the baseline is compared with: other workdirs, cells or exports, or "
            "--published alone."
        )
    if published or not others:
        print_published(baseline, as_json=json)
        return
    choose(by, RESAMPLE_BY, "--by")
    pairs, left_out = find_pairs(baseline, others)
    for sentence in left_out:
        say(sentence)
    compared = [compare_pair(*pair, resamples, seed, by) for pair in pairs]
    add_corrected_p_values(compared)
    if json:
        print_json(
            {"num_resamples": resamples, "seed": seed, "comparisons": compared,
             "left_out": left_out}
        )  # fmt: skip
    else:
        print_comparisons(compared, per_label)


@dataclasses.dataclass(frozen=True)
class System:
    """One thing that was tested.

    Attributes:
        run: the workdir it stands in.
        name: of its cell.
        place: as a person names it.
    """

    run: "Run"
    name: str
    place: str

    @property
    def target(self) -> str:
        """The data set it was tested on."""
        return self.run.results[self.name]["target"]

    def scores(self) -> "TestScores":
        """Returns what it gave its test tracks.

        Raises:
            ConfigError: if that is not there.
        """
        from musrep_jax.experiments.reading import read_scores

        return read_scores(self.run, self.name)


def find_systems(path: Path) -> tuple[list[System], bool]:
    """Returns the systems that a path names, and whether it is a whole workdir.

    Args:
        path: a workdir, WORKDIR/cells/NAME or WORKDIR/exports/NAME.

    Raises:
        ConfigError: if it is none of these, or holds nothing that was tested.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.experiments.reading import SCORES_FILE, read_run

    whole = path.absolute()
    if whole.parent.name in ("cells", "exports"):
        run = read_run(whole.parent.parent)
        System(run, whole.name, str(path)).scores()
        return [System(run, whole.name, str(path))], False
    if not path.joinpath("cells").is_dir():
        what = "is not there" if not path.exists() else "is none of these"
        raise ConfigError(
            f"{path} {what}: name a workdir, a cell WORKDIR/cells/NAME, or an export "
            "WORKDIR/exports/NAME (an export that stands alone does not know its test scores)."
        )
    run = read_run(path)
    finished = [
        name
        for name, result in run.results.items()
        if result.get("error") is None and (path / "cells" / name / SCORES_FILE).is_file()
    ]
    if not finished:
        raise ConfigError(f"{path} holds no finished cell yet: run it to its end first.")
    return [System(run, name, str(path / "cells" / name)) for name in finished], True


def find_pairs(
    baseline: Path, others: Sequence[Path]
) -> tuple[list[tuple[System, System]], list[str]]:
    """Returns which systems are compared, each with its baseline, and sentences on the rest.

    Args:
        baseline: what the others are compared with.
        others: workdirs, cells or exports.

    Raises:
        ConfigError: if a path cannot be used, or nothing is left to compare.
    """
    from musrep_jax.config import ConfigError

    bases, is_workdir = find_systems(baseline)
    by_name = {system.name: system for system in bases}
    pairs, left_out = [], []
    for path in others:
        found, is_whole = find_systems(path)
        if not is_workdir:
            (base,) = bases
            taken = [
                system
                for system in found
                if not is_whole or (system.target == base.target and system.place != base.place)
            ]
            pairs += [(base, system) for system in taken]
        elif not is_whole:
            # One cell beside a whole workdir: the baseline's cells of the same data set.
            (system,) = found
            taken = [b for b in bases if b.target == system.target and b.place != system.place]
            pairs += [(base, system) for base in taken]
        else:
            taken = [system for system in found if system.name in by_name]
            pairs += [(by_name[system.name], system) for system in taken]
            only = sorted(by_name.keys() ^ {system.name for system in found})
            if only and taken:
                left_out.append(f"In one of {baseline} and {path} only: {', '.join(only)}.")
        if not taken:
            raise ConfigError(
                f"Nothing in {path} can be compared with {baseline}: of two workdirs the cells of "
                "the same name are compared, otherwise those tested on the same data set; name "
                "the cells themselves, WORKDIR/cells/NAME."
            )
    return pairs, left_out


def compare_pair(
    base: System, system: System, resamples: int, seed: int, by: str = "groups"
) -> dict[str, Any]:
    """Returns the comparison of two systems as JSON values.

    Args:
        base: the baseline.
        system: that is compared with it.
        resamples: random swaps.
        seed: of the swaps.
        by: `groups` or `tracks`: what is swapped as a whole.

    Raises:
        ConfigError: if they were not tested on the same tracks, or share no label.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.evaluation import metrics
    from musrep_jax.evaluation.comparison import compare_systems
    from musrep_jax.evaluation.support import choose_groups, make_units
    from musrep_jax.runtime.files import to_json_safe

    names, labels, ours, theirs, known = align(base, system)
    groups = None
    if by == "groups" and known:
        groups = known[0]
        if any(
            (make_units(len(labels), g).index != make_units(len(labels), groups).index).any()
            for g in known[1:]
        ):
            raise ConfigError(
                f"{base.place} and {system.place} were tested on the same tracks in different "
                "groups (performers, recordings), because the data set was changed in between: "
                "train one of them anew, or compare with --by tracks."
            )
    found = compare_systems(
        labels,
        ours,
        theirs,
        num_resamples=resamples,
        seed=seed,
        track_groups=choose_groups(groups),
    )
    overall, per_label = found.overall.to_dict(), found.per_label
    used = metrics.is_evaluable(labels)
    measured = {
        metric: [measure(labels, scores) for scores in (theirs, ours)]
        for metric, measure in (
            ("roc_auc", metrics.roc_auc),
            ("pr_auc", metrics.average_precision),
        )
    }
    label_entries = {}
    for column, (name, one) in enumerate(zip(names, per_label, strict=True)):
        entry: dict[str, Any] = {"positives": int(labels[:, column].sum())}
        for metric in METRICS if one else ():
            before, after = (float(values[column]) for values in measured[metric])
            entry[metric] = {"baseline": before, "system": after, **one.to_dict()[metric]}
        label_entries[name] = entry
    return to_json_safe(
        {
            "baseline": base.place,
            "system": system.place,
            "target": system.target,
            "num_tracks": len(labels),
            "num_labels": int(used.sum()),
            "resampled": found.overall.resampled,
            "num_units": found.overall.num_units,
            "are_groups_known": bool(known),
            **{
                metric: {
                    "baseline": metrics.average_selected(measured[metric][0], used),
                    "system": metrics.average_selected(measured[metric][1], used),
                    **overall[metric],
                }
                for metric in METRICS
            },
            "per_label": label_entries,
        }
    )


def align(
    base: System, system: System
) -> tuple[list[str], "np.ndarray", "np.ndarray", "np.ndarray", list["np.ndarray"]]:
    """Returns label names, labels, the system's scores and the baseline's, row by row the same.

    At the end the groups of the tracks, once from each of the two that knows them.

    Args:
        base: the baseline.
        system: that is compared with it.

    Raises:
        ConfigError: if the tracks, or what is true of them, differ, or no label is common.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.experiments.data_changes import check_same_data

    first, second = base.scores(), system.scores()
    which = f"{base.place} and {system.place}"
    rows = {track: row for row, track in enumerate(second.track_ids)}
    if set(rows) != set(first.track_ids):
        common = len(rows.keys() & set(first.track_ids))
        raise ConfigError(
            f"{which} were tested on different tracks ({len(first.track_ids)} and {len(rows)}, "
            f"{common} in common), so their difference would say nothing about the systems: test "
            "both on the same split of the same data set."
        )
    names = [name for name in first.label_names if name in second.label_names]
    if not names:
        raise ConfigError(f"{which} have no label in common, so there is nothing to compare.")
    order = [rows[track] for track in first.track_ids]
    ours = [second.label_names.index(name) for name in names]
    theirs = [first.label_names.index(name) for name in names]
    labels = first.labels[:, theirs]
    if (second.labels[order][:, ours] != labels).any():
        raise ConfigError(
            f"{which} were tested against different labels of the same tracks: the data set was "
            "changed in between; train one of them anew."
        )
    for sentence in check_same_data(first.result, second.result, which):
        say(sentence)
    if len(names) < max(len(first.label_names), len(second.label_names)):
        say(
            f"{which}: only the {len(names)} labels that both have are compared (of "
            f"{len(first.label_names)} and {len(second.label_names)})."
        )
    known = [] if first.groups is None else [first.groups]
    known += [] if second.groups is None else [second.groups[order]]
    return names, labels, second.scores[order][:, ours], first.scores[:, theirs], known


def add_corrected_p_values(compared: Sequence[dict[str, Any]]) -> None:
    """Adds `p_value_holm`: over all comparisons, and of labels over those of one comparison.

    Args:
        compared: from `compare_pair`, changed in place.
    """
    for metric in METRICS:
        _correct([entry[metric] for entry in compared])
        for entry in compared:
            labels = entry["per_label"].values()
            _correct([label[metric] for label in labels if metric in label])


def _correct(entries: Sequence[dict[str, Any]]) -> None:
    """Adds the corrected p-value to entries of one family of comparisons."""
    from musrep_jax.evaluation.comparison import apply_holm_correction
    from musrep_jax.runtime.files import to_json_safe

    p_values = [float("nan") if e["p_value"] is None else e["p_value"] for e in entries]
    for entry, value in zip(entries, apply_holm_correction(p_values).tolist(), strict=True):
        entry["p_value_holm"] = to_json_safe(value)


def print_comparisons(compared: Sequence[Mapping[str, Any]], has_labels: bool) -> None:
    """Prints the comparisons as tables.

    Args:
        compared: from `compare_pair`, corrected.
        has_labels: whether the tables of labels are printed too.
    """
    from musrep_jax.evaluation.comparison import MIN_EXAMPLES
    from musrep_jax.reporting.layout import Column, format_table
    from musrep_jax.runtime.terminal import get_width

    columns = [Column(title, True) for title in ("Baseline", "System", "Difference [95 %]",
                                                 "p", "p (Holm)")]  # fmt: skip
    for number, entry in enumerate(compared):
        typer.echo("\n" * (number > 0) + f"baseline  {entry['baseline']}")
        typer.echo(f"system    {entry['system']}")
        typer.echo(f"{_describe_tracks(entry)}\n")
        rows = [[title, *_format_columns(entry[metric])] for metric, title in METRICS.items()]
        typer.echo(format_table([Column("Metric"), *columns], rows, "text", get_width()))
        if has_labels:
            for metric, title in METRICS.items():
                labels = sorted(
                    (item for item in entry["per_label"].items() if metric in item[1]),
                    key=lambda item: -abs(item[1][metric]["difference"]),
                )
                rows = [
                    [name, str(label["positives"]), *_format_columns(label[metric])]
                    for name, label in labels
                ]
                heads = [Column(f"{title} of"), Column("Positives", True), *columns]
                typer.echo(f"\n{format_table(heads, rows, 'text', get_width())}")
    typer.echo(
        "\nDifference: system minus baseline, with its 95 % interval for other test tracks. p: of "
        "no difference\n(paired permutation test); Holm: corrected for "
        + (
            "all comparisons, and among labels for all labels. Labels with less than "
            f"{MIN_EXAMPLES}\npositives or negatives among the tracks are not tested."
            if has_labels
            else "all comparisons."
        )
    )


def _describe_tracks(entry: Mapping[str, Any]) -> str:
    """Returns on how many tracks, groups and labels a comparison rests."""
    if entry["resampled"] == "groups":
        by = f" in {entry['num_units']} groups, swapped as a whole"
    elif entry["are_groups_known"]:
        by = ", swapped one by one"
    else:
        by = ", by tracks (the scores were written without groups)"
    return (
        f"{entry['num_tracks']} test tracks{by}; {entry['num_labels']} labels with positives and "
        "negatives among them"
    )


def _format_columns(entry: Mapping[str, Any]) -> list[str]:
    """Returns the columns of one difference."""
    from musrep_jax.reporting.layout import EMPTY_CELL
    from musrep_jax.reporting.tables import format_number, format_reason

    low, high = entry["ci"]
    bounds = format_reason(entry["reason"]) if low is None else f" [{low:+.3f}, {high:+.3f}]"
    p_values = [entry["p_value"], entry["p_value_holm"]]
    return [
        format_number(entry["baseline"]),
        format_number(entry["system"]),
        f"{entry['difference']:+.3f}{bounds}",
        *(EMPTY_CELL if p is None else f"{p:.2g}" for p in p_values),
    ]
