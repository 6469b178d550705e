"""Studies: any setting may hold a list of values, and every job is run with each of them.

`--config.study="model.num_harmonics=1|2|3; optimizer.learning_rate=1e-3|1e-4"` runs every job six
times. The values of a job appear in its name, in its result and in the tables.
"""

import ast
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, choose
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import SECTIONS
from musrep_jax.tasks.task import Task

AXES = {
    "model.name": "--config.model.name=A,B",
    "data.name": "--config.target=A,B of configs/transfer.py",
    "data.path": "--config.target=A,B of configs/transfer.py",
    "transfer.modes": "--config.transfer.modes=A,B",
}
"""Settings that a study cannot vary -> what does."""

EXAMPLE = "model.num_harmonics=1|2|3"


def parse_study(text: str, config: ml_collections.ConfigDict) -> dict[str, tuple[Any, ...]]:
    """Returns the settings of a study with their values, which have the types of the settings.

    Args:
        text: `SETTING=VALUE|VALUE`, several separated by `;`, or "".
        config: of the experiment, whose settings may be varied.

    Raises:
        ConfigError: if it cannot be read, or names a setting or a value that cannot be.
    """
    study: dict[str, tuple[Any, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        setting, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise ConfigError(
                f"study is {part!r}: write a setting and its values, such as {EXAMPLE}; several "
                "settings are separated by a semicolon."
            )
        section, dot, key = setting.partition(".")
        if not dot:
            raise ConfigError(
                f"study varies {setting!r}, which names no section: write it as in {EXAMPLE}."
            )
        choose(section, [*SECTIONS, *([config.task] if config.task in config else [])], "study")
        if setting in AXES:
            raise ConfigError(
                f"study varies {setting}, which takes a list itself: {AXES[setting]}."
            )
        if key not in config[section]:
            near = suggest_name(key, list(config[section]))
            raise ConfigError(f"study varies {setting}, which is not a setting.{near}")
        if setting in study:
            raise ConfigError(f"study varies {setting} twice: give all its values at once.")
        found = [_parse_value(value.strip(), config[section], key, setting)
                 for value in values.split("|")]  # fmt: skip
        if any(value in found[:place] for place, value in enumerate(found)):
            raise ConfigError(f"study has a value of {setting} twice: {values!r}.")
        study[setting] = tuple(found)
    return study


def repeat_jobs(
    jobs: Sequence[Job], study: Mapping[str, Sequence[Any]], tasks: Mapping[str, Task]
) -> list[Job]:
    """Returns every job once for every combination of a study's values.

    What a job needs has the same values. A job that a setting cannot change, see
    `Task.is_affected`, and that needs none that it can, is there once.

    Args:
        jobs: each after those that it needs.
        study: setting -> values, from `parse_study`.
        tasks: of the jobs, by name.

    Raises:
        ConfigError: if a setting changes no job.
    """
    repeated: list[Job] = []
    for values in itertools.product(*study.values()):
        combination = dict(zip(study, values, strict=True))
        found: dict[str, Job] = {}
        for job in jobs:
            needed = [found[key] for key in job.needs]
            kept = {
                setting: value
                for setting, value in combination.items()
                if tasks[job.task].is_affected(job, setting)
                or any(setting in other.study for other in needed)
            }
            found[job.key] = Job(job.task, job.fields, tuple(n.key for n in needed), kept)
        repeated += found.values()
    used = {setting for job in repeated for setting in job.study}
    for setting in study:
        if setting not in used:
            raise ConfigError(
                f"study varies {setting}, which changes nothing in any of the {len(jobs)} jobs: "
                "vary a setting that their models and modes have."
            )
    return check_jobs(repeated)


def _parse_value(text: str, settings: ml_collections.ConfigDict, key: str, setting: str) -> Any:
    """Returns a value of the setting's type; None is one where a setting can be left empty."""
    kind = settings.get_type(key)
    try:
        value = text if kind is str else ast.literal_eval(_CONSTANTS.get(text.lower(), text))
    except (ValueError, SyntaxError):
        value = text
    if text.lower() == "none" and settings[key] is None:
        return None
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if type(value) is not kind:
        raise ConfigError(
            f"study gives {setting} the value {text!r}; it must be of type {kind.__name__}."
        )
    return value


_CONSTANTS = {"true": "True", "false": "False"}
"""Words in settings -> Python values."""
