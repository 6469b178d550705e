"""Networks that a probe trains before their layers are features.

`trained:DATA SET` is the network `model.name` after training on a data set, the job of tagging that
a transfer starts from too. `sources[OUTPUTS]` stands for the config's `source`: all of them side by
side, and each alone.
"""

from collections.abc import Sequence
from pathlib import Path

import ml_collections

from musrep_jax.config import ConfigError, expand_home, split_list
from musrep_jax.data.deformed.deformations import strip_deformation
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.tagging.features import (
    LOADED_PREFIXES,
    SOURCES,
    TRAINED_PREFIX,
    parse_features,
)
from musrep_jax.tasks.tagging.matrix import make_job, plan_baselines


def expand_sources(features: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """Returns names of features in which `sources` is replaced by what it stands for.

    Args:
        features: names.
        sources: data sets, and `export:FOLDER`, `pretrained:NAME` or `hub:OWNER/NAME`.

    Raises:
        ConfigError: if there are no sources to stand for, one has a name that features cannot
            have, or no features stand for the sources.

    Example:
        >>> expand_sources(["sources[-1,max]"], ["western", "export:a"])
        ('trained:western[-1,max]+export:a[-1,max]', 'trained:western[-1,max]', 'export:a[-1,max]')
    """
    places = [
        name if name.startswith(LOADED_PREFIXES) else f"{TRAINED_PREFIX}{name}" for name in sources
    ]
    found: list[str] = []
    if sources and not any(map(_names_sources, features)):
        raise ConfigError(
            f"source names {', '.join(sources)}, and no features do: add {SOURCES} to "
            "--config.features, or leave --config.source empty."
        )
    for text in features:
        parts = [part.strip() for part in text.split("+")]
        if not _names_sources(text):
            found.append(text)
            continue
        if not places:
            raise ConfigError(
                f"features names {text!r}, and source is empty: name data sets to train on, "
                "export:FOLDER or pretrained:NAME by --config.source."
            )
        for name in sources:
            if set(name) & set("+[]"):
                raise ConfigError(
                    f"source names {name!r}; names of features separate parts by + and outputs by "
                    "brackets, so that a source can have neither: rename the folder."
                )
        for chosen in dict.fromkeys((tuple(places), *((place,) for place in places))):
            replaced = []
            for part in parts:
                name, bracket, outputs = part.partition("[")
                names = chosen if name == SOURCES else (name,)
                replaced += [f"{place}{bracket}{outputs}" for place in names]
            found.append("+".join(replaced))
    return tuple(dict.fromkeys(found))


def _names_sources(text: str) -> bool:
    """Returns whether a part of a name of features stands for the sources."""
    return any(part.strip().partition("[")[0] == SOURCES for part in text.split("+"))


def list_trained(features: str) -> tuple[str, ...]:
    """Returns the data sets that networks of features are trained on, each once.

    Args:
        features: a name, without `sources`.
    """
    return tuple(
        dict.fromkeys(
            encoder.place.removeprefix(TRAINED_PREFIX)
            for encoder in parse_features(features)
            if encoder.place.startswith(TRAINED_PREFIX)
        )
    )


def list_trainings(
    features: Sequence[str], config: ml_collections.ConfigDict, seed: int
) -> dict[str, Job]:
    """Returns the jobs that train networks for features, by data set.

    Args:
        features: names, without `sources`.
        config: of the experiment.
        seed: of the trainings.

    Raises:
        ConfigError: if a data set is also a target, or the config does not name one model.
    """
    names = dict.fromkeys(name for text in features for name in list_trained(text))
    models = split_list(config.model.name)
    if names and len(models) != 1:
        raise ConfigError(
            f"model.name is {config.model.name!r}, and features that are trained have one model: "
            "name one of them."
        )
    targets = {_locate(name): name for name in split_list(config.target)}
    for name in names:
        if _locate(name) in targets:
            raise ConfigError(
                f"features names a network trained on {name!r}, which is also a target: the labels "
                "of its test tracks would be in its features; name another source or target."
            )
    return {name: make_job(name, models[0], seed=seed) for name in names}


def list_baselines(trainings: Sequence[Job], config: ml_collections.ConfigDict) -> list[Job]:
    """Returns what trained networks are held against on their own data, if that is asked for."""
    return plan_baselines(trainings) if config.evaluation.baseline else []


def _locate(dataset: str) -> str:
    """Returns the name of a data set however it is deformed, of a folder with its one place."""
    builder, colon, path = strip_deformation(dataset).partition(":")
    return f"{builder}:{Path(expand_home(path)).resolve()}" if colon else dataset
