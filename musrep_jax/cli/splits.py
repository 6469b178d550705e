"""`musrep splits`: shows the content of a split and the leakage between its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import Json, complete, list_data_sets, print_json, say

if TYPE_CHECKING:
    from musrep_jax.data.corpora.builder import CorpusBuilder

NUM_EXAMPLES = 3


def splits(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[/LABELS-SPLIT]",
            help="A corpus; its first split if none.",
            autocompletion=complete(list_data_sets),
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where its files are; by default DATA_DIR/corpora/NAME."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of a generated split.")] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Search for identical files in two parts.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the split to, as a table and a card.")
    ] = None,
    json: Json = False,
) -> None:
    """Print sizes, label counts and leakage of a split: shared artists, sources, identical audio.

    Only the metadata of the corpus are required. The available audio is searched for files with the
    same bytes in two parts.
    """
    from musrep_jax.data.corpora.split_report import (
        describe_split,
        find_identical_audio,
        write_split,
    )
    from musrep_jax.runtime.progress import Progress

    builder = find_builder(name, data_dir, folder, seed)
    card = describe_split(builder)
    card["identical_audio"] = None
    if audio:
        progress = Progress("compared")
        try:
            found = find_identical_audio(builder.tracks, builder.folder, progress)
        finally:
            progress.close()
        card["identical_audio"] = found
        if found["missing"]:
            say(f"{found['missing']} of {len(builder.tracks)} files are not there to compare.")
    if out is not None:
        for path in write_split(builder.tracks, card, out):
            say(f"wrote {path}")
    if json:
        print_json(card | {"others": list_other_splits(builder)})
    else:
        typer.echo(format_card(card, list_other_splits(builder)))


def find_builder(
    name: str, data_dir: Path | None, folder: Path | None, seed: int | None
) -> "CorpusBuilder":
    """Returns the builder of a split.

    Args:
        name: NAME, NAME/LABELS-SPLIT, or the name of a config.
        data_dir: root of the data sets.
        folder: of the corpus.
        seed: of a generated split.

    Raises:
        DatasetError: if it is not a corpus, or has no such split; the message lists its splits.
    """
    from musrep_jax.data.corpora.builder import CorpusBuilder
    from musrep_jax.data.datasets import DatasetError, default_data_dir, load_builder_class
    from musrep_jax.runtime.suggestions import suggest_name

    key, _, wanted = name.partition("/")
    corpus = load_builder_class(key)
    if not issubclass(corpus, CorpusBuilder):
        raise DatasetError(
            f"data set {key!r} has no splits of its own to show: its build report tells what leaks "
            "between the parts that were given or made."
        )
    configs = {config.name.rpartition("-")[0]: config.name for config in corpus.BUILDER_CONFIGS}
    known = list(dict.fromkeys(configs))
    wanted = wanted or known[0]
    if wanted in {config.name for config in corpus.BUILDER_CONFIGS}:
        wanted = wanted.rpartition("-")[0]
    if wanted not in configs:
        hint = suggest_name(wanted, known)
        raise DatasetError(
            f"data set {key!r} has no labels and split {wanted!r}.{hint} It has {', '.join(known)}."
        )
    return corpus(
        data_dir=data_dir or default_data_dir(), config=configs[wanted], folder=folder, seed=seed
    )


def list_other_splits(builder: "CorpusBuilder") -> list[str]:
    """Returns NAME/LABELS-SPLIT of the other splits of the corpus."""
    own = f"{builder.label_set}-{builder.split_name}"
    every = dict.fromkeys(config.name.rpartition("-")[0] for config in builder.BUILDER_CONFIGS)
    return [f"{builder.NAME}/{name}" for name in every if name != own]


def format_card(card: Mapping[str, Any], others: Sequence[str]) -> str:
    """Returns a split's card, formatted for a terminal.

    Args:
        card: as `describe_split` gives it, with `identical_audio`.
        others: names of the other splits.
    """
    by = f"Published: {card['source']}." if card["source"] else f"Made here, seed {card['seed']}."
    blocks = [
        f"{card['name']}/{card['labels']}-{card['split']}\n{card['rule']}\n{by}",
        format_parts(card["parts"]),
        format_leakage(card),
        format_positives(card["positives"]),
    ]
    if others:
        blocks.append("\n  ".join(["Others:", *others]))
    return "\n\n".join(blocks)


def format_parts(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table of sizes."""
    from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table
    from musrep_jax.runtime.terminal import get_width

    def show(value: float | None, form: str) -> str:
        return EMPTY_CELL if value is None else format(value, form)

    titles = ("tracks", "published", "hours", "without labels", "labels per track")
    columns = [Column("part"), *(Column(title, True) for title in titles)]
    rows = [
        [
            name,
            f"{part['tracks']:,}",
            show(part["published"], ",d"),
            show(part["hours"], ".1f"),
            f"{part['without_labels']:,}",
            show(part["labels_per_track"], ".2f"),
        ]
        for name, part in parts.items()
    ]
    return format_table(columns, rows, "text", get_width())


def format_leakage(card: Mapping[str, Any]) -> str:
    """Returns the leakage between parts: one line per kind of source, and identical files."""
    lines = []
    for kind, found in card["sources"].items():
        pairs = [f"{number} in {pair}" for pair, number in found["shared"].items() if number]
        of_part = ", ".join(f"{number} {part}" for part, number in found["parts"].items())
        examples = ", ".join(row["source"] for row in found["list"][:NUM_EXAMPLES])
        more = ", ..." * (len(found["list"]) > NUM_EXAMPLES)
        shared = f"{'; '.join(pairs)} (for example {examples}{more})" if pairs else "none shared"
        lines.append(f"{kind}: {shared}; of {of_part}")
    if not card["sources"]:
        lines.append("the metadata that are there name no artist, album or other source")
    audio = card["identical_audio"]
    if audio is None:
        lines.append("identical audio: not looked for (--no-audio)")
    elif not audio["files"]:
        lines.append("identical audio: no audio is there to compare")
    else:
        lines.append(f"identical audio: copies in another part: {len(audio['sets'])}")
        lines += [f"  {' = '.join(row['tracks'])}" for row in audio["sets"][:NUM_EXAMPLES]]
    return "\n  ".join(["Leakage between parts:", *lines])


def format_positives(positives: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the table of labels in their order, with the number of tracks that have each."""
    from musrep_jax.reporting.layout import Column, format_table
    from musrep_jax.runtime.terminal import get_width

    parts = list(positives)
    names = list(next(iter(positives.values())))
    rows = [
        [str(index), name, *(f"{positives[part][name]:,}" for part in parts)]
        for index, name in enumerate(names)
    ]
    columns = [Column("", True), Column("label"), *(Column(part, True) for part in parts)]
    return format_table(columns, rows, "text", get_width())
