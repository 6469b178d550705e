"""Writes docs/command_line.md and docs/api.md from the code: `python docs/generate.py`.

Both are committed, so that they can be read where the code is, and a test compares them with what
this writes. The command line is read from the functions of the table of commands, the reference
from docstrings in the source: neither text depends on the versions of libraries.
"""

import ast
import inspect
import pathlib
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by `python docs/generate.py`; change the code and run it again. -->"

API = {
    "Use a model": {
        "inference/tagger": ("load_tagger", "LoadedTagger"),
        "data/audio/reading": ("read_audio",),
        "inference/chunks": ("AudioInputError",),
        "exports/writing": ("export_as",),
    },
    "Search": {
        "store/store": ("Store",),
        "store/search": ("rank_by_tags", "rank_by_vector"),
    },
    "Data": {
        "data/datasets": ("open_dataset", "Dataset"),
        "data/specs": ("DatasetSpec",),
        "data/input/tracks": ("Tracks",),
    },
    "Models": {
        "models/__init__": ("create_model", "model_settings"),
        "models/base": ("Tagger", "SpectrogramTagger"),
        "types": ("ModelOutput", "TrainState"),
        "dsp/spectrogram": ("LogMel", "log_mel_spectrogram"),
    },
    "Training": {
        "losses": ("make_tagging_loss", "binary_cross_entropy", "cross_entropy"),
        "training/optim": ("make_optimizer",),
        "training/step": ("make_train_step", "make_eval_step"),
        "training/loop": ("fit",),
    },
    "Evaluation": {
        "evaluation/metrics": ("roc_auc", "average_precision"),
        "evaluation/tagging": ("make_report", "TaggingReport"),
        "evaluation/bootstrap": ("bootstrap_intervals",),
        "evaluation/comparison": ("paired_bootstrap", "PairedComparison"),
        "evaluation/calibration": ("fit_calibration", "calibrate"),
    },
}
"""Chapter -> file of the package -> what is called from other programs."""

API_START = """# Reference

What is called from other programs, with its docstrings. `python -m pydoc` tells the same of
everything else:

```
python -m pydoc musrep_jax.training.loop
```
"""

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
    hints = typing.get_type_hints(function, include_extras=True)
    words, rows = [f"musrep {name}"], []
    for parameter in inspect.signature(function).parameters.values():
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
        "| argument or option | what |", "|---|---|", *rows, "",
    ])  # fmt: skip


def argument_word(name: str, kind: Any, info: Any) -> str:
    """Returns an argument as it stands in the usage."""
    word = info.metavar or name.upper()
    return f"{word}..." if "list" in str(kind) and not word.endswith("...") else word


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


def write_api() -> str:
    """Returns the text of docs/api.md."""
    parts = [NOTE, API_START]
    for chapter, files in API.items():
        parts += [f"## {chapter}", ""]
        for file, names in files.items():
            path = REPOSITORY / "musrep_jax" / f"{file}.py"
            tree = ast.parse(path.read_text(encoding="utf-8"))
            module = f"musrep_jax.{file.removesuffix('/__init__').replace('/', '.')}"
            nodes = {node.name: node for node in tree.body if hasattr(node, "name")}
            for name in names:
                parts += describe_object(f"{module}.{name}", nodes[name])
    return "\n".join(parts)


def describe_object(path: str, node: ast.AST) -> Iterator[str]:
    """Yields the lines about a function or a class.

    Args:
        path: dotted name with which it is imported.
        node: its definition.
    """
    if path in ("musrep_jax.inference.tagger.load_tagger",):
        path = "musrep_jax.load_tagger"
    yield from (f"### {path}", "")
    if isinstance(node, ast.FunctionDef):
        yield from ("```text", signature(node), "```", "")
    yield from (as_markdown(ast.get_docstring(node) or ""), "")
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            is_public = isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
            if not is_public or not ast.get_docstring(member):
                continue
            is_method = not any("property" in ast.unparse(d) for d in member.decorator_list)
            title = signature(member) if is_method else member.name
            yield from (f"#### `{title}`", "", as_markdown(ast.get_docstring(member)), "")


def signature(node: ast.FunctionDef) -> str:
    """Returns a function's name with its parameters and what it returns."""
    text = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({text}){returns}"


def as_markdown(docstring: str) -> str:
    """Returns a docstring of this house's style as Markdown."""
    lines, section = [], ""
    for line in docstring.splitlines():
        title = re.fullmatch(r"(Args|Returns|Raises|Yields|Attributes|Example|Source):(.*)", line)
        if title:
            section = title[1]
            lines += ["", f"*{section}*:{title[2]}"]
            if section in ("Args", "Raises", "Attributes"):
                lines.append("")
        elif section == "Example" and line.startswith("    "):
            lines.append(line)
        elif section in ("Args", "Raises", "Attributes") and line.startswith("    "):
            entry = re.match(r"    (\w+): (.*)", line)
            lines.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"  {line.strip()}")
        elif section and line.startswith("    "):
            lines.append(line.strip())
        else:
            section = section if not line else ""
            lines.append(line)
    text = "\n".join(lines)
    text = re.sub(r"\*Example\*:\n((?:    .*\n?|\n)+)", _as_code, text)
    text = re.sub(r"(?<=\n\n)>>> .*\n(?:(?!\n).*\n?)*", _as_code, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _as_code(match: re.Match) -> str:
    code = match[1] if match.re.groups else match[0]
    return f"```python\n{inspect.cleandoc(code)}\n```\n"


PAGES = {"command_line.md": write_command_line, "api.md": write_api}
"""File in docs/ -> the function that writes its text."""


def main() -> None:
    """Writes the pages."""
    for name, write in PAGES.items():
        (REPOSITORY / "docs" / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
