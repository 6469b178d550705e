"""Writes what pages have from elsewhere: `python docs/generate.py`.

docs/command_line.md and docs/published.md come from the code, and do not depend on the versions of
libraries; measured numbers come from the files that `docs/measured.py` writes. Pages are committed,
so that they can be read where the code is, and tests compare them with what this writes.
"""

import inspect
import pathlib
import sys
import typing
from collections.abc import Callable
from typing import Any

import typer

# So that it runs from anywhere, also where a test loads it.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import measured

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by `python docs/generate.py`; change the code and run it again. -->"

COMMANDS_START = """# The command line

`musrep COMMAND --help` prints the same. Results go to standard output (as JSON with `--json`),
everything else to standard error. `musrep --install-completion` sets up completion in your shell,
`musrep --version` prints the version, and `musrep --traceback COMMAND ...` shows where in the code
an error comes from.

| exit code | when |
|---|---|
| 0 | all is done |
| 1 | something failed on the way: a full disk, some files of a folder |
| 2 | the command, or what it was given, is wrong |
| 130 | Ctrl-C |
| 143 | SIGTERM, which `kill` sends |

`musrep train` leaves with the codes of `main.py` ([faults](faults.md#exit-codes)).
"""


def write_command_line() -> str:
    """Returns the text of docs/command_line.md."""
    from musrep_jax.cli import COMMANDS

    sections = [describe_command(name, COMMANDS[name]) for name in sorted(COMMANDS)]
    return "\n".join([NOTE, COMMANDS_START, *sections])


def describe_command(name: str, function: Callable[..., None]) -> str:
    """Returns the section of a command.

    Args:
        name: of the command.
        function: whose parameters are its arguments and options.
    """
    from musrep_jax.cli.examples import EXAMPLES

    hints = typing.get_type_hints(function, include_extras=True)
    words, rows = [f"musrep {name}"], []
    for parameter in inspect.signature(function).parameters.values():
        if hints[parameter.name] is typer.Context:  # no word of the command line
            continue
        kind, info = typing.get_args(hints[parameter.name])[:2]
        is_required = parameter.default is parameter.empty
        is_argument = type(info).__name__ == "ArgumentInfo"
        shown = (argument_word if is_argument else option_words)(parameter.name, kind, info)
        if is_argument or is_required:
            words.append(shown if is_required or shown[0] == "[" else f"[{shown}]")
        cell = shown.replace("|", "\\|")
        rows.append(f"| `{cell}` | {describe_parameter(info, parameter.default)} |")
    usage = " ".join([*words, "[OPTIONS]"])
    text = inspect.cleandoc(function.__doc__ or "")
    return "\n".join([
        f"## musrep {name}", "", "```text", usage, "```", "", text, "",
        "```text", *EXAMPLES[name], "```", "",
        "| argument or option | what |", "|---|---|", *rows, "",
    ])  # fmt: skip


def argument_word(name: str, kind: Any, info: Any) -> str:
    """Returns an argument as it stands in the usage."""
    word = info.metavar or name.upper()
    return f"{word}..." if "list" in str(kind) and "..." not in word else word


def option_words(name: str, kind: Any, info: Any) -> str:
    """Returns an option's names and its value, for example `--top N`."""
    # The library takes the first name that is given in an annotation for a default.
    said = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    names = ", ".join(said or [f"--{name.replace('_', '-')}"]).replace("/", " / ")
    if kind is bool:
        return names
    kinds = {"int": "N", "float": "X", "Path": "PATH"}
    value = next((sign for word, sign in kinds.items() if word in str(kind)), "TEXT")
    return f"{names} {info.metavar or value}"


def describe_parameter(info: Any, default: Any) -> str:
    """Returns what a parameter means, its default and its range."""
    parts = [" ".join((info.help or "").split()).replace("|", "\\|")]
    if isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
        parts.append(f"Default: {default}.")
    if info.min is not None:
        parts.append(f"{info.min:g} {'or more' if info.max is None else f'to {info.max:g}'}.")
    return " ".join(parts)


def write_published() -> str:
    """Returns the page of published results."""
    from musrep_jax.reporting.published import DIFFERENCES, format_published

    differences = "\n".join(f"- {sentence}" for sentence in DIFFERENCES)
    return f"""{NOTE}
# Published results

The table to beat on the six corpora. `musrep compare WORKDIR --published` prints the results of a
run among those of the same corpora. This project has no results of its own on them yet.

`scratch`: trained on the corpus itself. `output_layer` and `all_layers`: a model trained on the
corpus in the column Source first, the best of five. `probe`: a classifier on a frozen pretrained
encoder. Models have the names they have here; `spectrogram_transformer` is AST.

Sources: Papaioannou, Benetos, Potamianos, "From West to East", ISMIR 2023, by the evaluation files
of its public code (pxaris/ccml); the model card of CultureMERT-95M for the probes of MERT-v1-95M,
CultureMERT-95M and CultureMERT-TA-95M. The data is one table,
`musrep_jax/reporting/published.py`.

## What differs in protocol

{differences}

## The table

{format_published()}
"""


PAGES = {"command_line.md": write_command_line, "published.md": write_published}
"""File in docs/ -> the function that writes its text."""


def main() -> None:
    """Writes the pages."""
    for name, write in PAGES.items():
        (REPOSITORY / "docs" / name).write_text(write(), encoding="utf-8")
    for page in measured.list_pages():
        page.write_text(measured.fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
