"""The jobs of a probe: data sets x features x classifiers x numbers of examples x seeds."""

import ast
import re
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, split_list
from musrep_jax.probing.classifiers import CLASSIFIERS, Classifier, load_classifier
from musrep_jax.probing.neighbors import DISTANCES
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.matrix import split_features
from musrep_jax.tasks.training_sizes import parse_sizes

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

    Args:
        config: with `target`, `features`, `classifiers`, `similarity`, `num_train_tracks`, `seeds`.

    Raises:
        ConfigError: if a setting cannot be read, or nothing is left to do.
    """
    jobs = []
    sizes, seeds = parse_sizes(config.num_train_tracks), parse_integers(config.seeds, "seeds")
    for target in split_list(config.target):
        for features in split_features(config.features):
            common = {"target": target, "features": features}
            if config.similarity:
                fields = {**common, "classifier": SIMILARITY, "num_train_tracks": 0, "seed": 0}
                jobs.append(Job("probe", fields))
            for classifier in split_features(config.classifiers):
                for size in sizes:
                    for seed in seeds:
                        varied = {"num_train_tracks": size, "seed": seed}
                        jobs.append(Job("probe", {**common, "classifier": classifier, **varied}))
    return check_jobs(jobs)


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
