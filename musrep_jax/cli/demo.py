"""`musrep demo`: trains a small tagger, tags a new recording with it and writes a page."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musrep_jax.cli.common import EXIT_FAILED, Json, OpenPage, open_in_browser, print_json, say

if TYPE_CHECKING:
    import numpy as np

NEW_SEED, RECORDING_SECONDS = 1, 12.0
"""The demo trains on seed 0; another seed has other performers, pieces and rooms."""

QUICK_COMPILATION = "--xla_backend_optimization_level=1"
"""Compiling the train step takes half the CPU seconds of level 3 (7 instead of 15); a step takes as
long, and 150 steps are too few to pay for more."""


def demo(
    workdir: Annotated[
        Path, typer.Option(help="Folder for data, models, results and the page.")
    ] = Path("runs/demo"),
    open_page: OpenPage = False,
    json: Json = False,
) -> None:
    """Train a small tagger, tag a new recording with it, and write a page: under a minute.

    The music is generated on this machine and nothing is downloaded. Training and scores are real:
    a linear model on log-mel statistics stands beside the trained one, and the better of the two on
    validation tags the recording, which is by a performer that neither has heard.
    """
    # JAX reads it when it is first used.
    os.environ["XLA_FLAGS"] = f"{QUICK_COMPILATION} {os.environ.get('XLA_FLAGS', '')}".strip()
    # With JSON output, what the training prints must not mix with the result.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        page = write_demo(workdir, ["--config=demo"])
    if json:
        print_json({"workdir": str(workdir.absolute()), "page": str(page.absolute())})
    else:
        say("The page with scores, labels, and the recording to listen to:")
        typer.echo(str(page))
    if open_page:
        open_in_browser(page)


def write_demo(workdir: Path, words: Sequence[str]) -> Path:
    """Trains, tags a new recording, prints its tags and writes the page; returns its path.

    Args:
        workdir: folder for everything that is written.
        words: of a command line whose config trains on synthetic Western music.

    Raises:
        typer.Exit: with the code of a training that was stopped or failed.
    """
    import soundfile

    from musrep_jax.cli.tag import format_row
    from musrep_jax.command_line import main
    from musrep_jax.experiments.next_steps import choose_best_export
    from musrep_jax.experiments.reading import read_run
    from musrep_jax.inference.tag_output import TagPredictor
    from musrep_jax.inference.tagger import load_tagger
    from musrep_jax.pages.report import make_page
    from musrep_jax.pages.report_tracks import make_playable_track
    from musrep_jax.runtime.files import write_text

    folders = [f"--workdir={workdir}", f"--config.data.data_dir={workdir / 'data'}"]
    code = main(["musrep demo", *words, *folders])
    best = choose_best_export(list(read_run(workdir).results.values())) if code == 0 else None
    if best is None:
        raise typer.Exit(code or EXIT_FAILED)
    tagger = load_tagger(workdir / best["export"])
    recording = workdir / "new_recording.wav"
    audio, labels = make_new_recording(tagger.labels, tagger.sample_rate)
    soundfile.write(recording, audio, tagger.sample_rate)
    scores = tagger.calibrate(list(tagger.predict(audio, tagger.sample_rate).values()))
    tags = format_row(TagPredictor(tagger, is_raw=False), scores, len(labels), is_silent=False)
    typer.echo(f"\nA new recording, {recording}, was made with: {', '.join(labels)}")
    typer.echo(f"{best['model']} ({best['mode']}) tags it, * above the threshold: {tags}")
    played = make_playable_track(tagger, recording.name, audio, labels)
    note = (
        f"A new recording, of another seed and by a performer in none of the splits, tagged by "
        f"{best['model']} ({best['mode']}), the best cell on validation."
    )
    page = workdir / "report.html"
    write_text(page, make_page(read_run(workdir), [played], note))
    return page


def make_new_recording(known: Sequence[str], sample_rate: int) -> "tuple[np.ndarray, list[str]]":
    """Returns a piece of synthetic Western music that no split holds, and what it was made with.

    Args:
        known: labels of the tagger.
        sample_rate: in Hz.

    Returns:
        float32 audio (samples,), and those of its labels that the tagger knows; it is the piece of
        that seed with most of them.
    """
    from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus

    corpus = make_corpus(
        "western", seed=NEW_SEED, seconds=RECORDING_SECONDS, sample_rate=sample_rate
    )
    labels = [[label for label in track.labels if label in known] for track in corpus.tracks]
    chosen = max(range(len(labels)), key=lambda place: len(labels[place]))
    return corpus.render(corpus.tracks[chosen]), labels[chosen]
