"""The commands that make sense after an experiment, with its own paths."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.reporting.results import BASELINE, CHOSEN_EXPORT, is_failed, parse_number


def list_next_steps(
    results: Sequence[Mapping[str, Any]], workdir: Path, config: ml_collections.ConfigDict
) -> list[tuple[str, str]]:
    """Returns commands and what each does: the report, tags of a file, training on own recordings.

    Args:
        results: of all jobs in the workdir.
        workdir: of the experiment.
        config: of the experiment.
    """
    steps = [(f"musrep report {quote(workdir)} --open", "all of this as one page, with audio")]
    best = choose_best_export(results)
    if best is not None:
        kept = workdir / "exports" / CHOSEN_EXPORT
        model = quote(kept if kept.is_dir() else workdir / best["export"])
        steps.append((f"musrep tag {model} song.mp3", "tags by the best model of validation"))
    own = "your folder with a labels.tsv"
    trained = choose_best_export([r for r in results if r.get("mode") != BASELINE])
    if config.recipe == "transfer" and trained is not None:
        source = quote(f"export:{workdir / trained['export']}")
        words = f"--config.source={source} --config.target=audio_folder:FOLDER"
        command = f"musrep train transfer {words} --workdir=runs/own"
        steps.append((command, f"transfer to {own}"))
    elif config.recipe == "tagging" and config.data.get("path"):  # it was an own folder
        if best is not None:
            steps.append((f"musrep serve {model}", "a local page: drop recordings, see their tags"))
    elif config.recipe == "tagging":
        command = "musrep train tagging --config.data.path=FOLDER --workdir=runs/own"
        steps.append((command, f"a tagger of {own}"))
    return steps


def choose_best_export(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the exported tagger with the highest ROC-AUC on validation, None without one.

    Args:
        results: of jobs of any task.
    """

    def score(result: Mapping[str, Any]) -> float:
        return parse_number((result.get("validation") or {}).get("roc_auc"))

    exported = [r for r in results if r.get("export") and not is_failed(r) and score(r) == score(r)]
    return max(exported, key=score, default=None)


def format_next_steps(steps: Sequence[tuple[str, str]]) -> str:
    """Returns the lines that say what to type next.

    Args:
        steps: commands and what each does.

    Example:
        >>> print(format_next_steps([("musrep report runs/a --open", "all of this as one page")]))
        Next:
          musrep report runs/a --open   # all of this as one page
    """
    return "\n".join(["Next:", *(f"  {command}   # {what}" for command, what in steps)])


def quote(value: Path | str) -> str:
    """Returns a word as a shell takes it."""
    return shlex.quote(str(value))
