"""The jobs of a probe: data sets x features x classifiers x numbers of examples x seeds."""

import ast
import re
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, split_list
from musrep_jax.evaluation.subsets import parse_sizes
from musrep_jax.probing.classifiers import CLASSIFIERS, Classifier, load_classifier
from musrep_jax.probing.neighbors import DISTANCES
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.probe.sources import (
    expand_sources,
    list_baselines,
    list_trained,
    list_trainings,
)
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.matrix import split_features

SIMILARITY = "similarity"
"""In the place of a classifier: precision among nearest neighbors, which learns nothing."""
CLASSIFIER_WORDS = (
    f"names separated by commas of {', '.join(CLASSIFIERS)}, settings in brackets as in "
    "svm[cost=10,standardize=scalar]"
)
SIMILARITY_WORDS = f"none, one or several of {', '.join(DISTANCES)}, separated by commas"
_NAME = re.compile(r"(?P<name>\w+)(\[(?P<settings>[^\[\]]*)\])?")


def list_jobs(config: ml_collections.ConfigDict) -> list[Job]:
    """Returns the jobs that a config asks for; what needs the same features stands together.

    Networks that are trained for features come first, each with the baseline of its own data.

    Args:
        config: with `source`, `target`, `features`, `classifiers`, `similarity`,
            `num_train_tracks`, `seeds`.

    Raises:
        ConfigError: if a setting cannot be read, or nothing is left to do.
    """
    jobs: list[Job] = []
    sizes, seeds = parse_sizes(config.num_train_tracks), parse_integers(config.seeds, "seeds")
    names = list_features(config)
    trainings = {seed: list_trainings(names, config, seed) for seed in seeds}
    trained = [job for by_dataset in trainings.values() for job in by_dataset.values()]
    jobs += [*list_baselines(trained, config), *trained]
    for target in split_list(config.target):
        for features in names:
            common = {"target": target, "features": features}
            needs = {
                seed: tuple(trainings[seed][name].key for name in list_trained(features))
                for seed in seeds
            }
            if config.similarity:
                fields = {**common, "classifier": SIMILARITY, "num_train_tracks": 0, "seed": 0}
                jobs.append(Job("probe", fields, needs[seeds[0]]))
            for classifier in split_features(config.classifiers):
                for size in sizes:
                    for seed in seeds:
                        varied = {"num_train_tracks": size, "seed": seed}
                        fields = {**common, "classifier": classifier, **varied}
                        jobs.append(Job("probe", fields, needs[seed]))
    return check_jobs(jobs)


def list_features(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the names of features that a config asks for, see `sources.expand_sources`.

    Args:
        config: with `features` and `source`.
    """
    return expand_sources(split_features(config.features), split_list(config.source))


def parse_classifier(text: str) -> tuple[Classifier, tuple[str, ...]]:
    """Returns a classifier, and the names of the settings that the text gives.

    Args:
        text: such as `ridge` or `svm[cost=10,standardize=scalar]`.

    Raises:
        ConfigError: if it cannot be read.

    Example:
        >>> parse_classifier("ridge[strength=0]")
        (Ridge(standardize='features', strength=0), ('strength',))
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"classifiers names {text!r}; it must be {CLASSIFIER_WORDS}.")
    settings: dict[str, Any] = {}
    for part in split_list(match["settings"] or ""):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name in settings:
            raise ConfigError(
                f"classifiers names {text!r}, of which {part!r} is no setting: write each once, as "
                "in svm[cost=10,standardize=scalar]."
            )
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return load_classifier(match["name"], **settings), tuple(settings)


def are_classifiers(value: Any) -> bool:
    """Returns whether a value names classifiers that can be.

    Args:
        value: of the setting `classifiers`.
    """
    names = split_features(value) if isinstance(value, str) else ()
    try:
        return bool(names) and all(parse_classifier(name) for name in names)
    except (ConfigError, RecursionError, MemoryError):
        return False


def are_distances(value: Any) -> bool:
    """Returns whether a value names distances, or nothing.

    Args:
        value: of the setting `similarity`.
    """
    return isinstance(value, str) and all(part in DISTANCES for part in split_list(value))
