"""`musrep build`: converts the files of a data set into records for training."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import Json, complete, list_data_sets, print_json


def build(
    name: Annotated[
        str,
        typer.Argument(
            help="NAME, NAME/CONFIG, or audio_folder:FOLDER, as in configs.",
            autocompletion=complete(list_data_sets),
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpus' files; by default DATA_DIR/corpora/NAME."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(min=1, help="Sample rate of the stored audio in Hz; by default 16000."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of generated splits and synthetic music.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one per core where that pays off."),
    ] = None,
    beam: Annotated[bool, typer.Option("--beam", help="Build the tracks on Apache Beam.")] = False,
    beam_options: Annotated[
        str, typer.Option(help='Options of the Beam pipeline, such as "--runner=FlinkRunner ...".')
    ] = "",
    json: Json = False,
) -> None:
    """Build a data set and print its report: tracks, what was refused and why, leakage.

    After any interruption, even kill -9 or a full disk, the same command resumes, and no track is
    built twice. The result is the same, byte for byte, with any number of workers and on Beam.
    """
    import shlex

    from musrep_jax.data.dataset_files import format_report, read_report
    from musrep_jax.data.datasets import DatasetError, make_builder

    if beam_options and not beam:
        raise DatasetError("--beam-options are for --beam, which was not given.")
    given = {"folder": folder, "sample_rate": sample_rate, "seed": seed}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    builder = make_builder(name, data_dir=data_dir, **options)
    was_built = builder.is_built()
    # With JSON output, progress messages must not mix with the result.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        directory = builder.build(
            num_workers=workers, beam_options=shlex.split(beam_options) if beam else None
        )
    report = read_report(directory)
    if json:
        print_json({"directory": str(directory), **report})
    elif was_built:
        typer.echo(f"{format_report(report)}\nnothing to do: the build is in {directory}")
