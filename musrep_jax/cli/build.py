"""`musrep build`: a data set, from its files to records that training reads."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import Json, print_json


def build(
    name: Annotated[
        str, typer.Argument(help="NAME, NAME/CONFIG, or audio_folder:FOLDER, as in configs.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the corpus' own files are; by default DATA_DIR/corpora/NAME."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(min=1, help="Of the stored audio in Hz; by default 16000.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of splits that are made, and of synthetic music.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; by default one per core, where it is worth while."),
    ] = None,
    beam: Annotated[bool, typer.Option("--beam", help="Make the tracks on Apache Beam.")] = False,
    beam_options: Annotated[
        str, typer.Option(help='Of its pipeline, such as "--runner=FlinkRunner ...".')
    ] = "",
    json: Json = False,
) -> None:
    """Build a data set and print its report: tracks, what was refused and why, leakage.

    Interrupted at any time, even by kill -9 or a full disk, the same command goes on, and no track
    is made twice. The result is the same, byte for byte, with any number of workers, and on Beam.
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
    # What a build says on its way is no result where the result is JSON.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        directory = builder.build(
            num_workers=workers, beam_options=shlex.split(beam_options) if beam else None
        )
    report = read_report(directory)
    if json:
        print_json({"directory": str(directory), **report})
    elif was_built:
        typer.echo(f"{format_report(report)}\nnothing to do: it stands in {directory}")
