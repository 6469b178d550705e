"""`musrep similar`: finds the tracks of a store that are nearest to a recording."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import Json, print_json, say

if TYPE_CHECKING:
    from musrep_jax.store import Store

StorePath = Annotated[Path, typer.Argument(help="Store written by musrep embed.")]
Count = Annotated[int, typer.Option("-k", min=1, help="Number of tracks to show.")]


def similar(
    store: StorePath,
    query: Annotated[
        str, typer.Argument(metavar="FILE|TRACK", help="A file, or a track of the store.")
    ],
    k: Count = 10,
    metric: Annotated[str, typer.Option(help="cosine, dot or euclidean.")] = "cosine",
    model: Annotated[
        str | None,
        typer.Option(help="The store's model, if it is no longer where it was."),
    ] = None,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact",
            help="Through an index of faiss, or track by track; by default approximate from a "
            "million tracks, if faiss is installed.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the tracks of a store that are nearest to a recording, nearest first.

    A track of the store, given by its path or the end of its path, needs no model. Any other file
    is first embedded with the model that made the store. An approximate search finds at least nine
    in ten of the same tracks, with the same scores; its index is built in the store at the first
    search, and rebuilt when the store has grown by a tenth.
    """
    from musrep_jax.store import Store, rank_by_vector
    from musrep_jax.store.approximate import (
        MIN_APPROXIMATE_TRACKS,
        is_available,
        rank_approximately,
    )

    opened = Store(store)
    row = find_track(opened, query)
    vector = embed_query(opened, query, model) if row is None else opened.embeddings[row]
    present = opened.is_present()
    if row is not None:
        present[row] = False
    if approximate is None:
        approximate = len(opened) >= MIN_APPROXIMATE_TRACKS and is_available()
    if approximate:
        rows, scores = rank_approximately(
            opened, vector, k, metric=metric, present=present, tell=say
        )
    else:
        rows, scores = rank_by_vector(opened.embeddings, vector, k, metric=metric, present=present)
    found = [describe(opened, int(r), float(s)) for r, s in zip(rows, scores, strict=True)]
    search = "approximate" if approximate else "exact"
    if json:
        print_json({"query": query, "metric": metric, "search": search, "tracks": found})
    else:
        print_tracks(found, [])
        typer.echo(f"\n{search} search of {len(opened):,} tracks")


def find_track(store: "Store", query: str) -> int | None:
    """Returns the row of a track by its path or the end of it; None if it is a file of its own.

    Args:
        store: the store to search.
        query: a path, or the end of one.

    Raises:
        StoreError: if it is neither, or the end of several paths.
    """
    import os

    from musrep_jax.data.doctor.quarantine import escape_path
    from musrep_jax.store import StoreError, identify_file

    path = os.path.normpath(Path(query).expanduser().absolute())
    row = store.find(escape_path(path))
    if row is not None:
        return row
    if Path(path).is_file():
        return store.find_by_content(identify_file(path).sha256)
    rows = store.find_by_suffix(query)
    if len(rows) == 1:
        return rows[0]
    if rows:
        listed = ", ".join(store.track(row)["path"] for row in rows[:3])
        raise StoreError(f"{len(rows)} tracks end in {query!r}: {listed}; give more of the path.")
    raise StoreError(f"there is no file {query}, and no track of {store.path} ends in it.")


def embed_query(store: "Store", query: str, model: str | None) -> Any:
    """Returns the embedding of a file by the model of a store.

    Args:
        store: names the model.
        query: path of the file.
        model: its location; None for the recorded one.

    Raises:
        StoreError: if that is another model.
        ExportError: if there is none.
        AudioError: if the file cannot be read, or is silent.
    """
    from musrep_jax.data.audio.reading import AudioError
    from musrep_jax.inference.folders import SILENT, run_files
    from musrep_jax.inference.layout import find_hub_name
    from musrep_jax.inference.reading import is_pretrained
    from musrep_jax.inference.tagger import load_encoder
    from musrep_jax.store import StoreError

    place = model or store.about["export"]
    if not (find_hub_name(place) or is_pretrained(place) or Path(place).exists()):
        raise StoreError(f"the model of {store.path} is not in {place}: say where with --model.")
    tagger = load_encoder(place)
    if tagger.fingerprint != store.about["model"]:
        raise StoreError(
            f"{place} is not the model that made {store.path} ({store.about['name']}): give that "
            "one with --model."
        )
    (heard,) = run_files(tagger, [query], num_workers=1)
    failure = heard.failure or (SILENT if heard.is_silent else "")
    if failure:
        raise AudioError(query, failure)
    return heard.embeddings.mean(axis=0)


def describe(store: "Store", row: int, score: float) -> dict[str, Any]:
    """Returns a result as JSON values."""
    track = store.track(row)
    return {
        "path": track["path"],
        "score": score,
        "seconds": track["seconds"],
        "also": track["also"],
        "row": row,
    }


def print_tracks(found: list[dict[str, Any]], columns: list[str]) -> None:
    """Prints the results as a table.

    Args:
        found: from `describe`, with `tags` where there are further columns.
        columns: labels whose probability is shown.
    """
    from musrep_jax.reporting.layout import Column, format_table

    titles = [Column("score", True), *(Column(name, True) for name in columns)]
    rows = [
        [f"{track['score']:.4f}", *(f"{track['tags'][name]:.2f}" for name in columns),
         f"{int(track['seconds']) // 60}:{int(track['seconds']) % 60:02d}", track["path"]]
        for track in found
    ]  # fmt: skip
    typer.echo(format_table([*titles, Column("length", True), Column("track")], rows, "text"))
