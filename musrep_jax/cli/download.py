"""`musrep download`: fetches the files of a corpus where that is allowed."""

import dataclasses
import os
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_FAILED, Json, complete, list_data_sets, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from musrep_jax.data.download.dunya_api import DunyaState
    from musrep_jax.data.download.files import FileState, SourceFile


def download(
    name: Annotated[
        str, typer.Argument(help="The corpus.", autocompletion=complete(list_data_sets))
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of its files; by default DATA_DIR/corpora/NAME."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fetch nothing; only check which files are present.")
    ] = False,
    delete_archives: Annotated[
        bool, typer.Option("--delete-archives", help="Delete each archive once it is unpacked.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help='Files to process, such as "split/*"; repeatable.'),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="Dunya: file of the wanted recordings, one MusicBrainz id per line."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Dunya: all recordings, not only those of the published splits."
        ),
    ] = False,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Dunya: request refused recordings again.")
    ] = False,
    pause: Annotated[
        float, typer.Option(min=0.0, help="Dunya: seconds between two requests.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Fetch the files of a corpus, check them, and list those to download manually.

    Every file is checked by size and sha256. After an interruption the same command resumes. Files
    that are present are not fetched again, and present files that fail the check are left
    untouched.

    Turkish makam, Hindustani and Carnatic music come from Dunya, which requires the token of your
    account in the environment variable DUNYA_TOKEN.
    """
    from musrep_jax.data.corpora.builder import corpus_folder
    from musrep_jax.data.datasets import DatasetError, default_data_dir, load_builder_class
    from musrep_jax.data.download.files import check_files, delete_unpacked, fetch_files
    from musrep_jax.data.download.http_client import HttpClient

    builder_class = load_builder_class(name)
    tradition = getattr(builder_class, "TRADITION", "")
    if not tradition and (ids or everything or retry_refused):
        raise DatasetError(
            f"data set {name!r} does not come from Dunya: --ids, --all and --retry-refused are "
            "not for it."
        )
    places = {"--folder": folder, "--data-dir": data_dir}
    given = [word for pair in places.items() if pair[1] for word in map(str, pair)]
    following = shlex.join(["musrep", "build", name, *given])
    files = filter_files(name, getattr(builder_class, "FILES", ()), only)
    folder = folder or corpus_folder(data_dir or default_data_dir(), name)
    states = (
        check_files(folder, files) if check else fetch_files(folder, files, web=HttpClient(say=say))
    )
    if delete_archives and not check:
        for path in delete_unpacked(folder, states):
            say(f"deleted {path}")
    is_ready = all(state.is_ready for state in states)
    result = {"name": name, "folder": str(folder), "files": [describe(state) for state in states]}
    if not json:
        typer.echo(format_files(folder, states))
    if tradition and not only:
        if is_ready or ids or everything:
            wanted = None if everything else read_ids(ids) if ids else read_published_ids(folder)
            recordings = fetch_recordings(tradition, folder, wanted, check, retry_refused, pause)
            is_ready = bool(recordings.wanted) and not recordings.missing
            result["recordings"] = summarize_recordings(recordings)
            if not json:
                typer.echo(format_recordings(recordings))
        else:
            say("The recordings themselves come from Dunya, once the lists are there.")
    if json:
        print_json(result | {"is_ready": is_ready})
    if not is_ready:
        say(f"Not everything is there. When it is: {following}")
        raise typer.Exit(EXIT_FAILED)
    say("What was asked for is there." if only else f"Everything is there. Next: {following}")


def filter_files(
    name: str, files: "Sequence[SourceFile]", patterns: "Sequence[str] | None"
) -> "list[SourceFile]":
    """Returns the files that match any of the patterns; all files if there are no patterns.

    Args:
        name: of the data set.
        files: that belong to it.
        patterns: as in a shell.

    Raises:
        DatasetError: if there is no such file.
    """
    from musrep_jax.data.datasets import DatasetError

    if not files:
        raise DatasetError(f"data set {name!r} has no files to download.")
    chosen = [
        file for file in files if not patterns or any(fnmatch(file.path, p) for p in patterns)
    ]
    if not chosen:
        raise DatasetError(
            f"data set {name!r} has no file {' or '.join(patterns or ())}; it has "
            f"{', '.join(file.path for file in files)}."
        )
    return chosen


def describe(state: "FileState") -> dict[str, Any]:
    """Returns the state of a file as JSON values."""
    facts = dataclasses.asdict(state.file) | dataclasses.asdict(state)
    del facts["file"]
    return facts | {"is_ready": state.is_ready}


def format_files(folder: Path, states: "Sequence[FileState]") -> str:
    """Returns the table of the files and the notes about those that are not ready."""
    from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table

    rows = []
    for state in states:
        size = EMPTY_CELL if state.file.size is None else f"{state.file.size:,}"
        word = state.state if state.is_unpacked or state.is_absent else f"{state.state}, packed"
        rows.append([state.file.path, size, word, state.file.url or "by hand"])
    columns = [Column("file"), Column("bytes", True), Column("state"), Column("how to get it")]
    table = format_table(columns, rows, style="text")
    notes = [f"{state.file.path}: {state.note}" for state in states if state.note]
    return "\n\n".join([f"in {folder}:", table, *notes])


def read_ids(path: Path) -> list[str]:
    """Returns the ids in a text file, one per line."""
    return path.read_text(encoding="utf-8").split()


def read_published_ids(folder: Path) -> list[str]:
    """Returns the recordings of the published splits of a corpus from Dunya."""
    from musrep_jax.data.corpora.dunya import SPLIT_LISTS
    from musrep_jax.data.corpora.files import CorpusFiles

    lists = CorpusFiles()
    lists.folder = folder
    return [mbid for path in SPLIT_LISTS.values() for mbid in lists.read_list(path)]


def fetch_recordings(
    tradition: str,
    folder: Path,
    wanted: "Sequence[str] | None",
    check: bool,
    retry_refused: bool,
    pause: float,
) -> "DunyaState":
    """Fetches missing recordings unless `check`, and returns which are present."""
    from musrep_jax.data.download.dunya_api import (
        TOKEN_VARIABLE,
        DunyaClient,
        look,
        make_dunya_http_client,
    )

    state = look(folder, wanted)
    if check or (wanted is not None and not state.missing and not retry_refused):
        return state
    web = make_dunya_http_client(os.environ.get(TOKEN_VARIABLE), pause_seconds=pause, say=say)
    return DunyaClient(tradition, folder, web, say=say).fetch(wanted, retry_refused=retry_refused)


def summarize_recordings(state: "DunyaState") -> dict[str, Any]:
    """Returns which recordings are present, as JSON values."""
    refused = [
        {"mbid": mbid, "status": status, "reason": reason, "date": date}
        for mbid, (status, reason, date) in state.refused.items()
    ]
    return {
        "wanted": len(state.wanted),
        "with_metadata": len(state.described),
        "with_audio": len(state.heard),
        "missing": list(state.missing),
        "refused": refused,
    }


def format_recordings(state: "DunyaState") -> str:
    """Returns a table of which recordings are present."""
    from musrep_jax.reporting.layout import Column, format_table

    facts = {
        "wanted": state.wanted,
        "with metadata": state.described,
        "with audio": state.heard,
        "refused (refused.tsv)": state.refused,
        "still missing": state.missing,
    }
    rows = [[title, f"{len(found):,}"] for title, found in facts.items()]
    return "\n" + format_table([Column("recordings"), Column("number", True)], rows, style="text")
