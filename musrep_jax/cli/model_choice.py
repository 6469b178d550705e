"""Which of the words of a command is a model, and the default where none is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from musrep_jax.cli.common import complete, list_pretrained, say

ModelOrRecordings = Annotated[
    list[str],
    typer.Argument(
        metavar="[MODEL] FILE|FOLDER...",
        help="A model (the folder of an export, hub:OWNER/NAME, or a name of `musrep models "
        "--pretrained`; by default musicnn-msd), then recordings, or folders of them.",
        autocompletion=complete(list_pretrained),
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        help="A model: the folder of an export, hub:OWNER/NAME, or a name of `musrep models "
        "--pretrained`; by default musicnn-msd.",
        autocompletion=complete(list_pretrained),
    ),
]


def split_words(words: Sequence[str]) -> tuple[str | None, list[Path]]:
    """Returns the model that the first word names, None if it names a recording, and the rest.

    A word names a model if it is the folder of an export, begins with "hub:" or "pretrained:", is a
    name of the table of pretrained models where no file or folder has that name, or is nothing that
    exists and not the only word.

    Args:
        words: of a command line, at least one.

    Example:
        >>> split_words(["vgg-mtt", "song.mp3"])[0]
        'vgg-mtt'
    """
    from musrep_jax.inference.layout import CONFIG_FILE, PROGRAMS, find_hub_name
    from musrep_jax.inference.reading import is_pretrained
    from musrep_jax.runtime.integrity import CHECKSUMS_FILE
    from musrep_jax.training.checkpoints import CARD_FILE, PARAMS_FOLDER

    first, *rest = words
    place = Path(first).expanduser()
    marks = (CARD_FILE, PARAMS_FOLDER, CHECKSUMS_FILE, CONFIG_FILE, *PROGRAMS)
    is_model = (
        bool(find_hub_name(first))
        or is_pretrained(first)
        or any((place / mark).exists() for mark in marks)
        or (bool(rest) and not os.path.lexists(place))
    )
    model, places = (first, rest) if is_model else (None, list(words))
    if not places:
        raise typer.BadParameter(f"{first} is a model, and no recording is named after it.")
    return model, [Path(place).expanduser() for place in places]


def take_default(model: str | None) -> str:
    """Returns a model, the default one if none is named, and then says which that is.

    Args:
        model: as it was named.
    """
    from musrep_jax.training.checkpoints import CARD_FILE
    from musrep_jax.weights.fetching import describe_terms, get_export_dir
    from musrep_jax.weights.pretrained import DEFAULT_MODEL, PREFIX

    if model is not None:
        return model
    if (get_export_dir(DEFAULT_MODEL) / CARD_FILE).is_file():
        say(f"no model is named: {describe_terms(DEFAULT_MODEL)}")
    return f"{PREFIX}{DEFAULT_MODEL}"
