"""Reads models from export directories, safetensors folders and the Hub."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util

from musrep_jax.inference.layout import (
    CONFIG_FILE,
    FRONT_END_PREFIX,
    PROGRAMS,
    SAFETENSORS_FILE,
    SAFETENSORS_FORMAT,
    find_hub_name,
)
from musrep_jax.runtime.integrity import CHECKSUMS_FILE, find_damage
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.training.checkpoints import (
    CARD_FILE,
    README_FILE,
    ExportError,
    load_export,
    read_json_object,
)
from musrep_jax.types import PyTree
from musrep_jax.weights.fetching import fetch
from musrep_jax.weights.pretrained import PREFIX, PRETRAINED, find_pretrained

_FORMAT_FIELDS = ("library_name", "safetensors_format")


def read_model(place: str | Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns (variables, card) of a model after checking its files.

    Args:
        place: a directory that a training run or `musrep import-weights` wrote, one of the form
            `safetensors`, "hub:OWNER/NAME" or "hub:OWNER/NAME@REVISION" for one on the Hugging Face
            Hub, or the name of a pretrained model, as "musicnn-msd" or "pretrained:musicnn-msd";
            without the prefix, a directory of that name comes first.

    Raises:
        ExportError: if it is missing, half-written, damaged, of a later format, or of a form that
            holds no parameters.
        PretrainedError: if there is no pretrained model of that name, or its license was not
            accepted.
        DownloadError: if a pretrained model cannot be downloaded.
    """
    if name := find_hub_name(place):
        from musrep_jax.inference.hub import pull

        return read_safetensors_folder(pull(name))
    if is_pretrained(place):
        return read_pretrained(str(place))
    path = Path(place).expanduser().absolute()
    for file, package in PROGRAMS.items():
        if (path / file).is_file():
            raise ExportError(
                f"{path} holds a program without parameters to open: run it with {package}, as its "
                f"{README_FILE} says, or open the export that it was made from."
            )
    if (path / SAFETENSORS_FILE).is_file() and not (path / CARD_FILE).exists():
        return read_safetensors_folder(path)
    if not path.exists() and len(Path(place).parts) == 1:
        hint = suggest_name(str(place), PRETRAINED)
        raise ExportError(
            f"There is no exported model at {path}, and no pretrained model {str(place)!r}.{hint} "
            "`musrep models --pretrained` lists those there are."
        )
    return load_export(path)


def is_pretrained(place: str | Path) -> bool:
    """Returns whether a place names a pretrained model.

    Args:
        place: as `read_model` takes it.

    Raises:
        PretrainedError: if it begins with "pretrained:" and is none.
    """
    text = str(place)
    if text.startswith(PREFIX):
        return find_pretrained(text) is not None
    return text in PRETRAINED and not Path(text).exists()


def read_pretrained(name: str) -> tuple[PyTree, dict[str, Any]]:
    """Returns (variables, card) of a pretrained model; a damaged copy in the cache is replaced.

    Args:
        name: a key of `PRETRAINED`, perhaps with its prefix.
    """
    try:
        return load_export(fetch(name))
    except ExportError as error:
        print(f"{error} Converting {name} again.", file=sys.stderr, flush=True)
        return load_export(fetch(name, is_fresh=True))


def read_safetensors_folder(path: Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns (variables, card) of a folder in the format `safetensors`.

    Args:
        path: of the folder.

    Raises:
        ExportError: if a file is missing or damaged, or the format is a later one.
    """
    for name in (CHECKSUMS_FILE, CONFIG_FILE, SAFETENSORS_FILE):
        if not (path / name).is_file():
            raise ExportError(f"{path} is not a complete export: {name} is missing; export again.")
    damage = find_damage(path, listed=[CONFIG_FILE, SAFETENSORS_FILE])
    if damage is not None:
        raise ExportError(f"The export {path} is damaged: {damage}; copy it again or export again.")
    return read_safetensors(path)


def read_safetensors(path: Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns (variables, card) of `config.json` and `model.safetensors`, without checksums.

    Args:
        path: of the folder.

    Raises:
        ExportError: if the format is a later one, or the package is missing.
    """
    card = read_json_object(path / CONFIG_FILE)
    written_format = card.get("safetensors_format")
    if written_format != SAFETENSORS_FORMAT:
        raise ExportError(
            f"{path} has the safetensors format {written_format!r}, but this version reads "
            f"{SAFETENSORS_FORMAT}: open it with the version that wrote it, or a newer one."
        )
    reader = safetensors_numpy()
    try:
        arrays = unflatten_variables(reader.load_file(path / SAFETENSORS_FILE))
    except Exception as error:  # the package raises its own and those of numpy, all bare ones
        raise ExportError(f"{path / SAFETENSORS_FILE} cannot be read: {error}.") from error
    return arrays, {key: card[key] for key in card if key not in _FORMAT_FIELDS}


def safetensors_numpy() -> Any:
    """Returns the module `safetensors.numpy`.

    Raises:
        ExportError: if the package is missing.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ExportError(
            'The package safetensors is missing: install it with pip install "musrep_jax[export]".'
        ) from error
    return safetensors.numpy


def unflatten_variables(arrays: Mapping[str, Any]) -> PyTree:
    """Returns variables as nested dicts of arrays on the first device.

    Args:
        arrays: dotted name -> array, such as `params.head.kernel`; names of front-end constants
            are left out.
    """
    variables = {k: v for k, v in arrays.items() if not k.startswith(FRONT_END_PREFIX)}
    return jax.device_put(traverse_util.unflatten_dict(variables, sep="."), jax.local_devices()[0])
