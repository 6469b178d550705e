"""The command line `musrep`: one file per command, one line per command in the table here.

Exit codes: 0 when all is done; 1 when something failed on the way (a full disk, a part of a
folder); 2 when the command or its arguments are wrong; 130 when interrupted, 143 when terminated.
Results go to standard output (as JSON with `--json`), everything else to standard error. Commands
import what they need when they run, so that help and shell completion respond immediately.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import typer

from musrep_jax.cli.build import build
from musrep_jax.cli.common import Command, CommandGroup, start
from musrep_jax.cli.compare import compare
from musrep_jax.cli.demo import demo
from musrep_jax.cli.doctor import doctor
from musrep_jax.cli.download import download
from musrep_jax.cli.embed import embed
from musrep_jax.cli.explain import explain
from musrep_jax.cli.export import export
from musrep_jax.cli.import_weights import import_weights
from musrep_jax.cli.merge import merge
from musrep_jax.cli.models import models
from musrep_jax.cli.pull import pull
from musrep_jax.cli.report import report
from musrep_jax.cli.robustness import robustness
from musrep_jax.cli.search import search
from musrep_jax.cli.serve import serve
from musrep_jax.cli.similar import similar
from musrep_jax.cli.splits import splits
from musrep_jax.cli.suggest import suggest
from musrep_jax.cli.tag import tag
from musrep_jax.cli.teach import teach
from musrep_jax.cli.train import train
from musrep_jax.runtime.signals import exit_program

COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "compare": compare,
    "demo": demo,
    "doctor": doctor,
    "download": download,
    "embed": embed,
    "explain": explain,
    "export": export,
    "import-weights": import_weights,
    "merge": merge,
    "models": models,
    "pull": pull,
    "report": report,
    "robustness": robustness,
    "search": search,
    "serve": serve,
    "similar": similar,
    "splits": splits,
    "suggest": suggest,
    "tag": tag,
    "teach": teach,
    "train": train,
}
"""Name -> function; its parameters are the command's options, its docstring is the help."""

PASSTHROUGH_COMMANDS = {"train"}
"""Commands that forward unknown options as words, `--help` too: it may be about a config."""


def make_app() -> typer.Typer:
    """Returns the command line with all commands."""
    app = typer.Typer(
        name="musrep",
        cls=CommandGroup,
        no_args_is_help=True,
        rich_markup_mode=None,  # plain text in logs and for screen readers
        pretty_exceptions_enable=False,
    )
    app.callback()(start)
    for name, function in COMMANDS.items():
        settings: dict[str, Any] = {}
        if name in PASSTHROUGH_COMMANDS:
            settings = {"ignore_unknown_options": True, "help_option_names": []}
        app.command(name, cls=Command, context_settings=settings)(function)
    return app


app = make_app()


def run() -> NoReturn:
    """Runs the command given on the command line and exits the program."""
    try:
        app(prog_name="musrep")  # also of `python -m musrep_jax`: completion is set up by this name
    except SystemExit as end:
        exit_program(end.code)
    exit_program(None)
