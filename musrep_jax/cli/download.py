"""`musrep download`: the files of a corpus, fetched where that is allowed."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.frame import EXIT_FAILED, Json, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from musrep_jax.data.downloads import FileState


def download(
    name: Annotated[str, typer.Argument(help="The corpus.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where its files are; by default DATA_DIR/corpora/NAME."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fetch nothing: look at what is there.")
    ] = False,
    delete_archives: Annotated[
        bool, typer.Option("--delete-archives", help="Delete each archive once it is unpacked.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch the files of a corpus, check them, and say what must be got by hand.

    Every file is checked by size and sha256. Interrupted at any time, the same command goes on.
    What is there already is not fetched again, and what is there and wrong is left alone.
    """
    from musrep_jax.data.downloads import check_files, delete_unpacked, fetch_files

    files, folder = files_of(name, data_dir, folder)
    states = check_files(folder, files) if check else fetch_files(folder, files)
    if delete_archives and not check:
        for path in delete_unpacked(folder, states):
            say(f"deleted {path}")
    is_ready = all(state.is_ready for state in states)
    following = f"musrep build {name}"
    if json:
        rows = [describe_file(state) for state in states]
        print_json({"name": name, "folder": str(folder), "files": rows, "is_ready": is_ready})
    else:
        typer.echo(format_files(folder, states))
    if not is_ready:
        say(f"Not all files are there; when they are: {following}")
        raise typer.Exit(EXIT_FAILED)
    say(f"All files are there. Next: {following}")


def files_of(name: str, data_dir: Path | None, folder: Path | None) -> tuple["Sequence", Path]:
    """Returns what belongs to a corpus, and its folder.

    Args:
        name: key of `DATASETS`.
        data_dir: root of the data sets; None for the default.
        folder: of the corpus; None for the default.

    Raises:
        DatasetError: if there is no such data set, or it has no files of its own.
    """
    from musrep_jax.data.corpora import corpus_folder
    from musrep_jax.data.datasets import DatasetError, default_data_dir, load_builder_class

    files = getattr(load_builder_class(name), "FILES", ())
    if not files:
        raise DatasetError(f"data set {name!r} has no files to download.")
    return files, folder or corpus_folder(data_dir or default_data_dir(), name)


def describe_file(state: "FileState") -> dict[str, Any]:
    """Returns what is known of a file, as JSON values."""
    facts = dataclasses.asdict(state.file) | dataclasses.asdict(state)
    del facts["file"]
    return facts | {"is_ready": state.is_ready}


def format_files(folder: Path, states: "Sequence[FileState]") -> str:
    """Returns the table of the files and the notes about those that are not ready."""
    from musrep_jax.evaluation.tables import NOTHING, Column, format_table

    rows = []
    for state in states:
        size = NOTHING if state.file.size is None else f"{state.file.size:,}"
        word = state.state if state.is_unpacked or state.is_absent else f"{state.state}, packed"
        rows.append([state.file.path, size, word, state.file.url or "by hand"])
    columns = [Column("file"), Column("bytes", True), Column("state"), Column("how to get it")]
    table = format_table(columns, rows, style="text")
    notes = [f"{state.file.path}: {state.note}" for state in states if state.note]
    return "\n\n".join([f"in {folder}:", table, *notes])
