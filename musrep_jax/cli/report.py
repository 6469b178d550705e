"""`musrep report`: writes a run as a single HTML file with figures and audio."""

from pathlib import Path
from typing import Annotated

import typer

from musrep_jax.cli.common import EXIT_USAGE, Json, OpenPage, open_in_browser, print_json, say


def report(
    workdir: Annotated[Path, typer.Argument(help="The --workdir of a run, finished or not.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; by default WORKDIR/report.html.")
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            help="Cell whose model tags the tracks; by default the one with the highest ROC-AUC."
        ),
    ] = None,
    tracks: Annotated[
        int, typer.Option(min=0, max=12, help="Test tracks to listen to, with tags over time.")
    ] = 3,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Maps of what the tags of these tracks rest on, see musrep explain."
        ),
    ] = False,
    disagreements: Annotated[
        int,
        typer.Option(
            min=0,
            max=12,
            help="Test tracks on which a transfer and its training from scratch disagree most, "
            "with the maps of both.",
        ),
    ] = 0,
    open_page: OpenPage = False,
    json: Json = False,
) -> None:
    """Write a page about a run: transfer matrix, curves, labels, and test tracks to listen to.

    The page is a single file that needs no server: numbers, figures, scripts and audio are
    embedded. Unfinished runs and runs with failed cells are reported as they are.
    """
    from musrep_jax.experiments.reading import read_run
    from musrep_jax.pages.report import describe_cell, make_page
    from musrep_jax.pages.report_disagreements import find_disagreements
    from musrep_jax.pages.report_tracks import MAX_SECONDS, find_best_cells, make_playable_tracks
    from musrep_jax.runtime.files import write_text

    run = read_run(workdir)
    if cell is not None and cell not in run.results:
        say(f"error: {workdir} has no cell {cell!r}; it has {', '.join(run.results) or 'none'}.")
        raise typer.Exit(EXIT_USAGE)
    played, sentences = [], ["No cell has an exported model yet, so there is nothing to hear."]
    candidates = [cell] if cell else find_best_cells(run)
    if tracks == 0:
        candidates, sentences = [], ["No tracks were asked for (--tracks)."]
    elif candidates:
        sentences = []
    for heard in candidates:  # the data set of the best one may hold no audio
        played, reason = make_playable_tracks(run, heard, tracks, is_explained=explain)
        if played:
            break
        sentences.append(reason)
    sentence = " ".join(sentences)
    if played:
        num_tested = run.results[heard]["num_tracks"]
        best = (
            "" if cell else ", the best cell by ROC-AUC that can be heard (of the transfers first)"
        )
        sentence = (
            f"Heard by {describe_cell(run, heard)}{best}. Test tracks, evenly spread over the "
            f"test split: {len(played)} of {num_tested}, up to {MAX_SECONDS:g} s of each. Click "
            "into a map, or use the arrow keys on it, to move through the recording."
        )
    page = out or workdir / "report.html"
    differing = find_disagreements(run, disagreements, cell) if disagreements else None
    write_text(page, make_page(run, played, sentence, differing))
    failed = sum(result.get("error") is not None for result in run.results.values())
    if json:
        print_json(
            {
                "page": str(page),
                "bytes": page.stat().st_size,
                "num_cells": len(run.results),
                "num_failed": failed,
                "unfinished": dict(run.unfinished),
                "heard": heard if played else None,
                "tracks": [track.track_id for track in played],
                "note": None if played else sentence,
            }
        )
    else:
        if not played:
            say(sentence)
        say(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB, {len(run.results)} cells)")
    if open_page:
        open_in_browser(page)
