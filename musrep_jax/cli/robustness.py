"""`musrep robustness`: how far models hold when the sound is changed."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_USAGE, Json, complete, list_pretrained, print_json

FIELDS = (
    "target", "tagger", "deformation", "seed", "roc_auc", "roc_auc_ci", "pr_auc", "pr_auc_ci",
    "versus_clean", "num_tracks", "error",
)  # fmt: skip
"""Of a result, in the JSON output."""


def robustness(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATASET|FOLDER",
            help="Models: folders of exports, names of `musrep models --pretrained`, "
            "hub:OWNER/NAME, linear:FEATURES (an output layer that is fitted on the clean training "
            "tracks) or NAME=MODEL; then a data set, or a folder of recordings with labels.",
            autocompletion=complete(list_pretrained),
        ),
    ],
    deformations: Annotated[
        str,
        typer.Option(
            help="Comma-separated: pitch:SEMITONES, stretch:SPEED, compression:PRESET, "
            "noise:SHARE, ranges such as pitch:-3..3, or published."
        ),
    ] = "published",
    labels: Annotated[
        str, typer.Option(help='Labels of a folder to use, as patterns such as "stroke_*".')
    ] = "",
    workdir: Annotated[
        Path, typer.Option(help="Folder for results, tables and figures; a second run resumes.")
    ] = Path("runs/robustness"),
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    json: Json = False,
) -> None:
    """Test models on recordings whose pitch, tempo, dynamics or noise was changed.

    Whole test tracks are deformed before they are cut into chunks, and every model is compared with
    itself on the clean tracks: ROC-AUC and PR-AUC with paired differences and 95 % intervals, over
    all labels and label by label. Labels are matched by name. A linear model on log-mel statistics
    stands beside. All other settings are those of configs/robustness.py, for musrep train.
    """
    from musrep_jax.command_line import main
    from musrep_jax.config import join_list

    if len(words) < 2:
        raise typer.BadParameter(f"{words[0]!r} alone: name models, then a data set or a folder.")
    argv = [
        "musrep robustness",
        "--config=robustness",
        f"--workdir={workdir}",
        f"--config.taggers={join_list(name_taggers(words[:-1]))}",
        f"--config.target={join_list([name_data(words[-1])])}",
        f"--config.robustness.deformations={deformations}",
        *([f"--config.data.labels={labels}"] if labels else []),
        *([f"--config.data.data_dir={data_dir}"] if data_dir else []),
    ]
    # With JSON output, progress messages must not mix with the result.
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        code = main(argv)
    if json and code != EXIT_USAGE:
        print_json(summarize(workdir) | {"exit_code": code})
    raise typer.Exit(code)


def name_taggers(words: Sequence[str]) -> list[str]:
    """Returns the models of a command line as the config names them.

    Exports whose folders have the same name are told apart by that of their workdir.

    Args:
        words: models.

    Example:
        >>> name_taggers(["musicnn-msd", "runs/a/exports/best", "runs/b/exports/best"])
        ['pretrained:musicnn-msd', 'a-best=export:runs/a/exports/best', \
'b-best=export:runs/b/exports/best']
    """
    from musrep_jax.inference.reading import is_pretrained
    from musrep_jax.tasks.robustness.matrix import are_taggers
    from musrep_jax.tasks.tagging.sources import EXPORT_PREFIX, PRETRAINED_PREFIX

    found = []
    for word in words:
        name, equals, place = word.partition("=")
        if not equals or Path(word).exists():
            name, equals, place = "", "", word
        if is_pretrained(place) and not place.startswith(PRETRAINED_PREFIX):
            place = f"{PRETRAINED_PREFIX}{place}"
        elif Path(place).is_dir() or not are_taggers(place.replace(",", "\\,")):
            place = f"{EXPORT_PREFIX}{place}"
        found.append(f"{name}{equals}{place}")
    last = [Path(text).name for text in found]
    for number, text in enumerate(found):
        path = Path(text.removeprefix(EXPORT_PREFIX))
        if text.startswith(EXPORT_PREFIX) and last.count(path.name) > 1 and found.count(text) == 1:
            above = path.parent.parent if path.parent.name == "exports" else path.parent
            found[number] = f"{above.name}-{path.name}={text}" if above.name else text
    return found


def name_data(word: str) -> str:
    """Returns the data set of a command line as the config names it.

    Args:
        word: a name, or a folder.
    """
    return f"audio_folder:{word}" if Path(word).expanduser().is_dir() else word


def summarize(workdir: Path) -> dict[str, Any]:
    """Returns where the results are, and the main numbers of each, as JSON values.

    Args:
        workdir: of the study.
    """
    from musrep_jax.cli.train import summarize_cells

    return summarize_cells(workdir, FIELDS, task="robustness")
