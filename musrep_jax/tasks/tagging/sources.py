"""Sources that stand ready: models that were exported or published, with their architecture."""

from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, split_list
from musrep_jax.tasks.jobs import Job
from musrep_jax.training.checkpoints import ExportError, read_card
from musrep_jax.weights.fetching import fetch
from musrep_jax.weights.pretrained import PretrainedError, find_pretrained

EXPORT_PREFIX = "export:"
PRETRAINED_PREFIX = "pretrained:"
READY_PREFIXES = (EXPORT_PREFIX, PRETRAINED_PREFIX)
"""Of sources that no job has to train."""


def find_export(place: str) -> Path:
    """Returns the folder of an export, or of a pretrained model, which is fetched if need be.

    Args:
        place: `export:FOLDER`, `pretrained:NAME`, or a folder.

    Raises:
        ConfigError: if there is no such pretrained model, or it cannot be fetched.
    """
    if not place.startswith(PRETRAINED_PREFIX):
        return Path(place.removeprefix(EXPORT_PREFIX)).expanduser()
    try:
        return fetch(place)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{place} cannot be opened: {error}") from error


def read_architecture(place: str) -> str:
    """Returns the name of the model of a source that stands ready; nothing is fetched.

    Args:
        place: `export:FOLDER` or `pretrained:NAME`.

    Raises:
        ConfigError: if there is no such model.
    """
    try:
        if place.startswith(PRETRAINED_PREFIX):
            return find_pretrained(place).model
        return read_card(find_export(place))["model"]["name"]
    except (ExportError, PretrainedError) as error:
        raise ConfigError(f"source names {place}: {error}") from error


def read_settings(place: str) -> dict[str, Any]:
    """Returns the settings of the model of a source that stands ready, which is fetched if need be.

    Args:
        place: see `find_export`.

    Raises:
        ConfigError: if it cannot be fetched.
        ExportError: if its card cannot be read.
    """
    return read_card(find_export(place))["model"]["settings"]


def list_architectures(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Returns the sources of a config that stand ready, each with the name of its model.

    Args:
        config: of an experiment; without `source` there are none.

    Raises:
        ConfigError: if there is no such model.
    """
    sources = split_list(config.get("source", ""))
    return {
        place: read_architecture(place) for place in sources if place.startswith(READY_PREFIXES)
    }


def find_settings_source(config: ml_collections.ConfigDict, job: Job) -> str | None:
    """Returns the source that the settings of a job's model come from, None for the config's own.

    A model that a source brings has that source's settings also where it is trained from scratch:
    only the same network can be compared.

    Args:
        config: of the experiment.
        job: a training of it.
    """
    architectures = list_architectures(config)
    if job["source"] in architectures:
        return job["source"]
    return next((place for place, name in architectures.items() if name == job["model"]), None)
