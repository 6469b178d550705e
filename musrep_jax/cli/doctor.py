"""`musrep doctor`: decodes every audio file once and lists those that should not be used."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musrep_jax.cli.common import EXIT_FAILED, Json, complete, list_data_sets, print_json, say

if TYPE_CHECKING:
    from musrep_jax.data.doctor.diagnosis import Diagnosis, ExpectedFile

NUM_EXAMPLES, NUM_MISSING_EXAMPLES, MAX_LISTED_COUNTS = 3, 20, 6


def doctor(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A corpus, or a folder of recordings.",
            autocompletion=complete(list_data_sets),
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpus; by default DATA_DIR/corpora/NAME."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; by default one per core.")
    ] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine/--no-quarantine", help="Write the quarantine list.")
    ] = True,
    quarantine_duplicates: Annotated[
        bool,
        typer.Option(
            "--quarantine-duplicates", help="Quarantine all but the first of duplicate recordings."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Decode every audio file once and list unreadable, truncated, silent and duplicate files.

    Faulty files go into a quarantine list, which every build respects; notes are for you to review.
    Your files are never changed. Measurements are cached: a second run examines only new and
    changed files, and an interrupted run resumes. The exit code is 1 if there are faults.
    """
    from musrep_jax.data.build.shard_builds import count_cores
    from musrep_jax.data.datasets import default_data_dir
    from musrep_jax.data.doctor.diagnosis import examine
    from musrep_jax.runtime.progress import Progress

    root = (data_dir or default_data_dir()).expanduser()
    patient = resolve_target(name, root, folder)
    progress = Progress("examined", "files")
    try:
        found = examine(
            patient.folder,
            patient.wanted,
            data_dir=root,
            name=patient.name,
            known_bad=patient.known_bad,
            num_workers=workers or count_cores(),
            quarantine_duplicates=quarantine_duplicates,
            write_list=quarantine,
            progress=progress,
        )
    finally:
        progress.close()
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(format_diagnosis(found))
    for sentence in describe_next_steps(found, patient.is_corpus):
        say(sentence)
    if not found.is_healthy:
        raise typer.Exit(EXIT_FAILED)


@dataclasses.dataclass(frozen=True)
class DoctorTarget:
    """The files to examine.

    Attributes:
        name: of a corpus, or the path of a folder.
        folder: contains the files.
        wanted: the files to examine.
        known_bad: path or track id -> reason.
    """

    name: str | Path
    folder: Path
    wanted: "Sequence[ExpectedFile]"
    known_bad: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_corpus(self) -> bool:
        """Whether it is a registered corpus."""
        return isinstance(self.name, str)


def resolve_target(name: str, data_dir: Path, folder: Path | None) -> DoctorTarget:
    """Resolves a name to a corpus of `DATASETS` if it is one, else to a folder.

    Args:
        name: `NAME`, `NAME/CONFIG`, a folder, or `audio_folder:FOLDER`.
        data_dir: root of the data sets.
        folder: of the corpus; None for the default.

    Raises:
        DatasetError: if it is neither, or a data set without files.
        DoctorError: if the folder does not exist, or two were given.
        BuildError: if the metadata of the corpus are not there.
    """
    from musrep_jax.data.datasets import DATASETS, DatasetError, load_builder_class
    from musrep_jax.data.doctor.diagnosis import DoctorError, ExpectedFile, find_audio_files

    kind, colon, rest = name.partition(":")
    key, slash, config = name.partition("/")
    if key in DATASETS and not (colon or (Path(name).is_dir() and slash)):
        from musrep_jax.data.corpora.builder import CorpusBuilder

        builder_class = load_builder_class(key)
        if not issubclass(builder_class, CorpusBuilder):
            raise DatasetError(f"data set {key!r} has no files of its own that could be examined.")
        builder = builder_class(data_dir=data_dir, config=config or None, folder=folder)
        if not builder.folder.is_dir():
            raise DoctorError(
                f"the corpus {key} is not in {builder.folder}; `musrep download {key}` says how to "
                "get it, or give its place with --folder."
            )
        wanted = [
            ExpectedFile(track.path, track.track_id, track.seconds, track.labels, track.split)
            for track in builder.list_all_tracks()
        ]
        return DoctorTarget(key, builder.folder, wanted, builder.KNOWN_BAD)
    if folder is not None:
        raise DoctorError(f"--folder goes with the name of a corpus, and {name!r} is none.")
    path = Path(rest if colon and kind == "audio_folder" else name).expanduser()
    if not path.exists() and not any(sign in name for sign in "/\\:"):
        load_builder_class(name)  # says which names there are
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise DoctorError(f"the folder {path} {what}; give a folder of recordings or a corpus.")
    path = path.resolve()
    return DoctorTarget(path, path, [*find_audio_files(path), *list_table_files(path)])


def list_table_files(folder: Path) -> "list[ExpectedFile]":
    """Returns the files that the `labels.tsv` of a folder lists, with their labels and splits.

    An unreadable table is reported; the files are examined anyway.

    Args:
        folder: of recordings, with a table or without one.
    """
    import os

    from musrep_jax.data.doctor.diagnosis import ExpectedFile
    from musrep_jax.runtime.names import find_path
    from musrep_jax.tfds_builders.audio_folder.label_table import (
        TABLE_NAME,
        TableError,
        read_label_table,
    )

    if not (folder / TABLE_NAME).is_file():
        return []
    try:
        rows = read_label_table(folder)
    except TableError as error:
        say(f"No build can use the table, and it is not compared with the files: {error}")
        return []
    places = (Path(os.path.relpath(find_path(folder, row.path), folder)) for row in rows)
    return [
        ExpectedFile(place.as_posix(), labels=row.labels, split=row.split or "")
        for place, row in zip(places, rows, strict=True)
    ]


def format_diagnosis(found: "Diagnosis") -> str:
    """Returns a table of the findings, examples and a summary, formatted for a terminal."""
    from musrep_jax.data.doctor.findings import FAULTS, NOTES
    from musrep_jax.data.doctor.quarantine import escape_path
    from musrep_jax.reporting.layout import Column, format_table
    from musrep_jax.runtime.terminal import get_width

    summary = found.summary()
    hours = f"{summary['hours']:.2f} h" if summary["hours"] >= 1 else (
        f"{summary['hours'] * 3600:.1f} s"
    )  # fmt: skip
    lines = [
        f"{found.name}: {summary['files']:,} files, {summary['decoded']:,} decoded, {hours}, "
        f"{summary['bytes'] / 1e6:,.1f} MB in {escape_path(str(found.folder))}"
    ]
    for title, key in (("formats", "formats"), ("Hz", "sample_rates"), ("channels", "channels")):
        counts = [f"{value}: {number:,}" for value, number in summary[key].items()]
        more = (
            f", and {len(counts) - MAX_LISTED_COUNTS} more"
            if len(counts) > MAX_LISTED_COUNTS
            else ""
        )
        lines.append(f"  {title:<9} {', '.join(counts[:MAX_LISTED_COUNTS])}{more}")
    kinds = found.group_by_kind()
    if not kinds:
        return "\n".join([*lines, "", "Nothing is wrong with any of them."])
    rows = [
        [kind, "fault" if members[0].is_fault else "note", f"{len(members):,}", meaning]
        for kind, meaning in (FAULTS | NOTES).items()
        if (members := kinds.get(kind))
    ]
    columns = [Column("kind"), Column("severity"), Column("files", True), Column("meaning")]
    lines += ["", format_table(columns, rows, "text", get_width())]
    for kind, members in kinds.items():
        lines += ["", f"{kind}:"]
        shown = NUM_MISSING_EXAMPLES if kind == "missing" else NUM_EXAMPLES
        lines += [f"  {escape_path(f.path)}: {f.reason}" for f in members[:shown]]
        if len(members) > shown:
            lines.append(f"  and {len(members) - shown:,} more (all of them with --json)")
    return "\n".join(lines)


def describe_next_steps(found: "Diagnosis", is_corpus: bool) -> list[str]:
    """Returns sentences about what was written where, and what to do next."""
    kinds = found.group_by_kind()
    told = []
    if found.num_cached:
        told.append(f"Unchanged since the last run, and not decoded again: {found.num_cached:,}.")
    if "not_decoded" in kinds:
        told.append(
            f"Not decoded: {len(kinds['not_decoded']):,}. Install ffmpeg (the extra "
            "musrep_jax[ffmpeg]) and run this again."
        )
    if found.quarantine is None:
        told.append("No quarantine list was written.")
    elif any(finding.is_listed for finding in found.findings):
        told.append(f"Quarantined, and refused by every build: {found.quarantine}")
        told.append(
            "Replace those files and run this again; lines with a fault of your own naming stay."
        )
    else:
        told.append(f"The quarantine list is empty: {found.quarantine}")
    if is_corpus:
        told.append(f"Next: musrep build {found.name}")
    return told
