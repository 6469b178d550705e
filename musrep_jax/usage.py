"""What `python main.py --help` prints: the configs, or one config with all its fields."""

import ast
import importlib.resources
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from musrep_jax.config import list_configs, move_config_first, parse_command_line, plain

HELP_WORDS = ("--help", "-help", "--helpfull", "-h")
_ADDED = ("overrides", "cells", "merge")  # to the config by the command line, each with its flag


def is_help(words: Sequence[str]) -> bool:
    """Returns whether a command line asks for help.

    Args:
        words: after the program's name.
    """
    return any(word in HELP_WORDS for word in words)


def make_usage(argv: Sequence[str]) -> str:
    """Returns how an experiment is started; with a config named, what it runs and all its fields.

    Args:
        argv: the command line, with the program's name first.

    Raises:
        ConfigError: if the command line names a config that does not exist, or a wrong field.
    """
    program, *words = move_config_first([word for word in argv if word not in HELP_WORDS])
    file = next((w.removeprefix("--config=") for w in words if w.startswith("--config=")), "")
    if not file:
        return _make_overview(f"python {program}" if program.endswith(".py") else program)
    config, _ = parse_command_line([program, *words])
    lines = [read_docstring(Path(file.partition(":")[0])), "", "Fields (--config.FIELD=VALUE):", ""]
    fields = {name: value for name, value in plain(config).items() if name not in _ADDED}
    rows = [(name, "" if value is None else str(value)) for name, value in _flatten(fields)]
    rows.sort(key=lambda row: row[0].startswith("compact."))  # last; they are many
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name.ljust(width)}  {value}".rstrip() for name, value in rows]
    return "\n".join([*lines, "", "An empty field takes the default of the code that reads it."])


def _make_overview(program: str) -> str:
    configs = importlib.resources.files("musrep_jax.configs")
    titles = {}
    for name in list_configs():
        with importlib.resources.as_file(configs / f"{name}.py") as path:
            titles[name] = read_docstring(path).splitlines()[0]
    width = max(map(len, titles))
    listed = [f"  {name.ljust(width)}  {title}" for name, title in titles.items()]
    return "\n".join([
        f"Usage: {program} --config=NAME[:ARGUMENT] [--workdir=DIR] [--config.FIELD=VALUE]...",
        "",
        "Runs an experiment: trains, tests, compares, and writes tables, figures and models.",
        "NAME is a config of the package or a file, such as configs/transfer.py.",
        "",
        "Configs:",
        *listed,
        "",
        "Options:",
        "  --workdir=DIR           Where results are written; by default runs/NAME.",
        "  --config.FIELD=VALUE    Sets a field; --config=NAME --help lists all of them.",
        "  --cells=3/16            Runs a share of the cells, for several machines.",
        "  --merge=DIR1,DIR2       Brings shares together; nothing is trained.",
        "  --help                  Prints this, or with --config=NAME what that config runs.",
        "",
        "Examples:",
        f"  {program} --config=transfer",
        f"  {program} --config=tagging --config.data.path=FOLDER --workdir=runs/own",
        f"  {program} --config=transfer --config.seeds=0,1,2 --config.train.num_steps=1000",
        "",
        "The same command resumes after any interruption. Tools for models, recordings and",
        "folders: musrep --help.",
    ])  # fmt: skip


def read_docstring(path: Path) -> str:
    """Returns what a config file says about itself, without running it.

    Args:
        path: of the file.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.name
    return textwrap.dedent(text).strip()


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names and values; a section that is empty yields nothing."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
