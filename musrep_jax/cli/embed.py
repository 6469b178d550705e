"""`musrep embed`: embeds and tags a folder of recordings into a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_FAILED, Json, print_json, say
from musrep_jax.cli.model_choice import ModelOrRecordings, split_words, take_default

if TYPE_CHECKING:
    from musrep_jax.inference.folders import Tally

Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that decode; by default one per core.")
]
FAILED_FILE = "failed.tsv"


def embed(
    words: ModelOrRecordings,
    store: Annotated[Path, typer.Option(help="Folder of the store; created if missing.")],
    per_chunk: Annotated[
        bool, typer.Option("--per-chunk", help="Also store every chunk with its time span.")
    ] = False,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Embed and tag recordings and store the results for similar and search.

    Run it again at any time, even after kill -9: files already in the store are not embedded again,
    even if they were moved or renamed. Files that cannot be used are listed in STORE/failed.tsv,
    and the exit code is 1.
    """
    from musrep_jax.data.build.shard_builds import count_cores
    from musrep_jax.inference.folders import describe_model, embed_files, find_recordings
    from musrep_jax.inference.tagger import load_encoder
    from musrep_jax.runtime.locks import Lock
    from musrep_jax.runtime.progress import Progress
    from musrep_jax.store import StoreWriter

    named, places = split_words(words)
    paths = find_recordings(places)
    model = take_default(named)
    tagger = load_encoder(model)
    tagger.check_input("audio")
    about = describe_model(tagger, model) | {"per_chunk": per_chunk}
    store.absolute().parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(store.absolute().with_name(f"{store.name}.lock"), f"The store {store}")
    progress = Progress("embedded", "tracks")
    with lock, StoreWriter(store, about) as writer:
        with FailureTable(store / FAILED_FILE) as failed:
            try:
                tally = embed_files(
                    writer, tagger, paths, workers or count_cores(),
                    progress=progress, on_failure=failed.add,
                )  # fmt: skip
            finally:
                progress.close()
        num_tracks = len(writer)
    if json:
        print_json(describe(tally, store, num_tracks))
    else:
        typer.echo(format_tally(tally, store, num_tracks))
    if tally.failed:
        say(f"{len(tally.failed):,} of {len(paths):,} files cannot be used: {store / FAILED_FILE}")
        raise typer.Exit(EXIT_FAILED)


class FailureTable:
    """A table of files that cannot be used, written line by line; no file if there are none."""

    def __init__(self, path: Path) -> None:
        """Removes the table of the previous run.

        Args:
            path: of the table.
        """
        self._path = path
        path.unlink(missing_ok=True)
        self._file: Any = None

    def add(self, path: str, reason: str) -> None:
        """Adds a line."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
            self._file.write("path\treason\n")
        self._file.write(f"{path}\t{' '.join(reason.split())}\n")
        self._file.flush()

    def __enter__(self) -> "FailureTable":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            self._file.close()


def describe(tally: "Tally", store: Path, num_tracks: int) -> dict[str, Any]:
    """Returns a summary as JSON values.

    Args:
        tally: of the files.
        store: the folder.
        num_tracks: number of tracks in the store.
    """
    return {
        "store": str(store.absolute()),
        "tracks": num_tracks,
        "added": tally.added,
        "known": tally.known,
        "met_again": tally.met,
        "seconds": tally.seconds,
        "failed": [{"path": path, "reason": reason} for path, reason in tally.failed],
    }


def format_tally(tally: "Tally", store: Path, num_tracks: int) -> str:
    """Returns a summary for a terminal."""
    parts = [f"{tally.added:,} embedded ({tally.seconds / 3600:.2f} h)"]
    if tally.known:
        parts.append(f"{tally.known:,} known from before")
    if tally.met:
        parts.append(f"{tally.met:,} moved or copies")
    if tally.failed:
        parts.append(f"{len(tally.failed):,} failed")
    return f"{', '.join(parts)}; {store} holds {num_tracks:,} tracks"
