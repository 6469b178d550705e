"""`musrep train`: runs an experiment, like `python main.py`."""

import contextlib
import json as json_module
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_USAGE, Json, complete, print_json

SUMMARY_FIELDS = (
    "source", "target", "model", "mode", "seed", "num_train_tracks", "roc_auc", "roc_auc_ci",
    "pr_auc", "pr_auc_ci", "num_tracks", "seconds", "export", "error",
)  # fmt: skip


def list_configs() -> Iterable[str]:
    """Returns the names of the package's configs."""
    from musrep_jax import config

    return config.list_configs()


def train(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[:ARGUMENT]] [--config.FIELD=VALUE]...",
            help="A config of the package, and settings.",
            autocompletion=complete(list_configs),
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run an experiment: train, test, compare, and write tables, figures and models to a folder.

    NAME is one of the package's own configs, such as transfer or tagging:smoke; --config=FILE uses
    a file instead. All other options are those of main.py: --workdir=DIR sets the output folder (by
    default runs/NAME), --config.FIELD=VALUE sets a field, --cells=3/16 runs a share,
    --merge=DIR1,DIR2 merges shares. After any interruption, the same command resumes.

    musrep train NAME --help tells what a config runs, and all its fields.
    """
    from musrep_jax.command_line import get_default_workdir, main
    from musrep_jax.config import parse_command_line
    from musrep_jax.usage import is_help

    if words and is_help(words) and len(words) == 1:
        typer.echo(ctx.get_help())
        return
    argv = ["musrep train", *(words or [])]
    if words and not words[0].startswith("-"):
        argv[1] = f"--config={words[0]}"
    # With JSON output, progress messages must not mix with the result.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        code = main(argv)
    if json and code != EXIT_USAGE and not is_help(argv):
        _, workdir = parse_command_line(argv)
        print_json(summarize(Path(workdir or get_default_workdir(argv))) | {"exit_code": code})
    raise typer.Exit(code)


def summarize(workdir: Path) -> dict[str, Any]:
    """Returns the location of an experiment's results and its main numbers, as JSON values.

    Args:
        workdir: of the experiment; before its first result there are no cells.
    """
    return summarize_cells(workdir, SUMMARY_FIELDS)


def summarize_cells(workdir: Path, fields: Sequence[str], task: str = "") -> dict[str, Any]:
    """Returns the location of an experiment's results and fields of each, as JSON values.

    Args:
        workdir: of the experiment; before its first result there are no cells.
        fields: of results.
        task: whose results are listed; all if empty.
    """
    file = workdir.absolute() / "results.json"
    cells = []
    if file.is_file():
        cells = json_module.loads(file.read_text(encoding="utf-8"))["cells"]
    return {
        "workdir": str(file.parent),
        "results": str(file) if file.is_file() else None,
        "cells": [
            {name: cell.get(name) for name in fields}
            for cell in cells
            if not task or cell.get("task") == task
        ],
    }
