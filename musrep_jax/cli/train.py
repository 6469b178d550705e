"""`musrep train`: an experiment, as `python main.py` runs it."""

import contextlib
import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_USAGE, Json, print_json

SUMMARY_FIELDS = (
    "source", "target", "model", "mode", "seed", "num_train_tracks", "roc_auc", "roc_auc_ci",
    "pr_auc", "pr_auc_ci", "num_tracks", "seconds", "export", "error",
)  # fmt: skip


def complete(start: str) -> list[str]:
    """Returns the names of the package's configs that begin so, for shell completion."""
    from musrep_jax.config import list_configs

    return [name for name in list_configs() if name.startswith(start)]


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[:ARGUMENT]] [--config.FIELD=VALUE]...",
            help="A config of the package, and settings.",
            autocompletion=complete,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run an experiment: train, test, compare, and leave tables, figures and models in a folder.

    NAME is one of the package's own configs, such as transfer, tagging:smoke; --config=FILE takes a
    file instead. Everything else is as for main.py: --workdir=DIR says where results go (by default
    runs/NAME), --config.FIELD=VALUE sets a field, --cells=3/16 runs a share, --merge=DIR1,DIR2
    brings shares together. Stopped at any time, the same command goes on.
    """
    from musrep_jax.command_line import get_default_workdir, main
    from musrep_jax.config import parse_command_line

    argv = ["musrep train", *(words or [])]
    if words and not words[0].startswith("-"):
        argv[1] = f"--config={words[0]}"
    # What an experiment prints on its way is no result where the result is JSON.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        code = main(argv)
    if json and code != EXIT_USAGE:
        _, workdir = parse_command_line(argv)
        print_json(summarize(Path(workdir or get_default_workdir(argv))) | {"exit_code": code})
    raise typer.Exit(code)


def summarize(workdir: Path) -> dict[str, Any]:
    """Returns where the results of an experiment are and the main numbers, as JSON values.

    Args:
        workdir: of the experiment; before its first result there are no cells.
    """
    file = workdir.absolute() / "results.json"
    cells = []
    if file.is_file():
        cells = json_module.loads(file.read_text(encoding="utf-8"))["cells"]
    return {
        "workdir": str(file.parent),
        "results": str(file) if file.is_file() else None,
        "cells": [{name: cell.get(name) for name in SUMMARY_FIELDS} for cell in cells],
    }
