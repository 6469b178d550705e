"""Shared by all commands: the version, error reporting, printing of results."""

import json
import sys
import webbrowser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from musrep_jax import __version__
from musrep_jax.cli.examples import EXAMPLES
from musrep_jax.runtime.heap import retain_freed_memory
from musrep_jax.runtime.integrity import is_disk_full
from musrep_jax.runtime.signals import exit_code

EXIT_FAILED, EXIT_USAGE = 1, 2
_KINDS = {"int": "N", "float": "X", "path": "PATH"}
"""Type of an option's value, as the library names it -> what stands for it in the help."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def complete(list_names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Returns a function that completes a word of the command line from a list of names.

    Args:
        list_names: called when a word is completed; what it needs it may import then.
    """

    def choose(incomplete: str) -> list[str]:
        return [name for name in list_names() if name.startswith(incomplete)]

    return choose


def list_models() -> Iterable[str]:
    """Returns the names of the architectures."""
    from musrep_jax.models import MODELS

    return MODELS


def list_pretrained() -> Iterable[str]:
    """Returns the names of the pretrained models."""
    from musrep_jax.weights.pretrained import PRETRAINED

    return PRETRAINED


def list_data_sets() -> Iterable[str]:
    """Returns the names of the data sets."""
    from musrep_jax.data.datasets import DATASETS

    return DATASETS


class Command(TyperCommand):
    """A command with examples in its help, whose words are named as in docs/command_line.md.

    Paths may begin with `~`, which shells leave as it is in `--out=~/x`.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in _list_arguments(self):
            param.metavar = _name_argument(param)  # also in messages about a missing one

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the words of the usage line, arguments first.

        Args:
            ctx: the context of the command line.
        """
        words = [(param.metavar, param) for param in _list_arguments(self)]
        shown = [word if p.required or word[0] == "[" else f"[{word}]" for word, p in words]
        required = [
            f"{param.opts[-1]} {param.metavar or _name_kind(param, ctx)}"
            for param in self.params
            if param.param_type_name == "option" and param.required
        ]
        return [*shown, *required, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the tables of arguments and options.

        Args:
            ctx: the context of the command line.
            formatter: takes the text.
        """
        rows = []
        for param in _list_arguments(self):
            record = param.get_help_record(ctx)
            if record is not None:
                rows.append((param.metavar, record[1].removesuffix("[required]").rstrip()))
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        options = [param for param in self.get_params(ctx) if param.param_type_name == "option"]
        for param in options:
            if param.metavar is None and not (param.is_flag or param.count):
                param.metavar = _name_kind(param, ctx)
        records = (param.get_help_record(ctx) for param in options)
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples.

        Args:
            ctx: the context of the command line.
            formatter: takes the text.
        """
        with formatter.section("Examples"):
            for example in EXAMPLES.get(self.name or "", ()):
                formatter.write(f"  {example}\n")

    def invoke(self, ctx: Any) -> Any:
        """Returns what the command returns.

        Args:
            ctx: the context of the command line.
        """
        ctx.params = {name: _expand_paths(value) for name, value in ctx.params.items()}
        return super().invoke(ctx)


def _list_arguments(command: TyperCommand) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "argument"]


def _name_argument(param: Any) -> str:
    """Returns an argument as it stands in the usage."""
    word = param.metavar or param.name.upper()
    return word if param.nargs == 1 or "..." in word else f"{word}..."


def _name_kind(param: Any, ctx: Any) -> str:
    """Returns what stands for the value of an option: N, X, PATH or TEXT."""
    shown = param.get_help_record(ctx)[0].lower().split()  # such as --workers <int range>
    kind = " ".join(word for word in shown if not word.startswith("-"))
    return next((sign for word, sign in _KINDS.items() if word in kind), "TEXT")


def _expand_paths(value: Any) -> Any:
    from musrep_jax.config import expand_home

    if isinstance(value, list | tuple):
        return type(value)(map(_expand_paths, value))
    return Path(expand_home(str(value))) if isinstance(value, Path) else value


def write_any_text() -> None:
    """Makes standard output and error take all text, whatever encoding the system gives them.

    What an encoding lacks (a redirection on Windows, an old locale) is written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def format_json(value: Any, **options: Any) -> str:
    """Returns JSON that standard output can hold: escaped where it does not take all text.

    Args:
        value: of JSON's types.
        **options: of `json.dumps`.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    is_ascii = encoding not in ("utf-8", "utf8")
    return json.dumps(value, ensure_ascii=is_ascii, allow_nan=False, **options)


class CommandGroup(TyperGroup):
    """Runs a command; reports input errors as one sentence on standard error, no traceback.

    The list of commands has the whole first sentence of each.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the list of commands.

        Args:
            ctx: the context of the command line.
            formatter: takes the text.
        """
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, c.get_short_help_str(limit=1000)) for name, c in commands if c is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Returns what the command returns.

        Args:
            ctx: the context of the command line.

        Raises:
            typer.Exit: with the exit code of an error that the message explains.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the output has closed the pipe: the library exits quietly
        except (ValueError, OSError) as error:
            if ctx.params.get("traceback"):
                raise
            say(f"error: {sentence(error)}")
            is_wrong = isinstance(error, ValueError | FileNotFoundError) and not is_disk_full(error)
            raise typer.Exit(EXIT_USAGE if is_wrong else EXIT_FAILED) from error
        except KeyboardInterrupt as error:
            say("Stopped.")
            raise typer.Exit(exit_code(error)) from error


def show_version(is_asked: bool) -> None:
    """Prints the version and exits, if requested."""
    if is_asked:
        typer.echo(f"musrep_jax {__version__}")
        raise typer.Exit


def start(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=show_version),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an error comes from.")
    ] = False,
) -> None:
    """Music taggers and embeddings in JAX: train, import, inspect and use them.

    Results go to standard output, with --json as JSON; everything else to standard error.

    Exit codes: 0 success; 1 something failed during the run; 2 the command or its arguments are
    wrong; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM).
    """
    retain_freed_memory()
    write_any_text()


def sentence(error: Exception) -> str:
    """Returns an error's message on one line, with its type if it has none.

    Example:
        >>> sentence(ValueError("The labels\\n  are missing."))
        'The labels are missing.'
    """
    if isinstance(error, OSError) and is_disk_full(error):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"No room left on the disk{where}; free some space and run the same command again. "
            "What was finished before is kept."
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


def say(text: str) -> None:
    """Prints a line on standard error and flushes it."""
    print(text, file=sys.stderr, flush=True)


def open_in_browser(page: Path) -> None:
    """Opens a file in the browser, or says that there is none.

    Args:
        page: the file.
    """
    if not webbrowser.open(page.absolute().as_uri()):
        say(f"No browser was found: open {page} in one.")


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output."""
    typer.echo(format_json(value, indent=1))


def describe_front_end(front_end: dict[str, Any] | None) -> str:
    """Returns a short description of a front end.

    Args:
        front_end: as in a model's `front_end` or an export's card.

    Example:
        >>> describe_front_end(None)
        'waveform'
    """
    if front_end is None:
        return "waveform"
    window = f"window {front_end['n_fft']}, hop {front_end['hop_length']}"
    if front_end["kind"] == "log_mel":
        scale = {"htk": "HTK", "slaney": "Slaney"}[front_end["mel_scale"]]
        bands = f"{front_end['n_mels']} {scale} mel bands"
        return f"{bands} {front_end['f_min']:g}-{front_end['f_max']:g} Hz, {window}"
    harmonics = f"{front_end['num_harmonics']} harmonics of {front_end['num_bands']} bands"
    return f"{harmonics}, {window}"
