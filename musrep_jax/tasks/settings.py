"""From an experiment's config to the settings of one job, its model and its durations."""

from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, given, split_list
from musrep_jax.data.deformed.deformations import strip_deformation
from musrep_jax.data.specs import ChunkSpec
from musrep_jax.models import ALIASES, Tagger, create_model, model_settings
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.tasks.jobs import Job

SECTIONS = ("model", "optimizer", "train", "evaluation", "data", "transfer")
SIZES = ("compact", "full")


def get_builder_name(dataset: str) -> str:
    """Returns the builder's name of a data set, e.g. `synthetic_cultures`."""
    return strip_deformation(dataset).partition(":")[0].partition("/")[0]


def list_folder_options(dataset: str, labels: str | None) -> dict[str, Any]:
    """Returns the options of a data set's builder that choose its labels, where it is a folder.

    Args:
        dataset: its name.
        labels: patterns, as in `data.labels`; None takes all.
    """
    return {"labels": labels} if labels and get_builder_name(dataset) == "audio_folder" else {}


def list_source_labels(dataset: str, config: ml_collections.ConfigDict) -> str | None:
    """Returns the patterns of labels of a data set that a network is trained on.

    Args:
        dataset: its name; one of `source` may have patterns of its own.
        config: of the experiment.
    """
    is_source = dataset in (getattr(config, "source", "") or "")
    return (is_source and config.data.source_labels) or config.data.labels


def merge(settings: ml_collections.ConfigDict, deviations: Any, where: str) -> None:
    """Writes deviations over settings, in place.

    Args:
        settings: one config section, or several.
        deviations: nested mapping; every key must exist in `settings`.
        where: for the message.

    Raises:
        ConfigError: if a key does not exist.
    """
    for key, value in deviations.items():
        if key not in settings:
            known = suggest_name(key, list(settings))
            raise ConfigError(f"{where}.{key} is not a setting.{known}")
        if isinstance(settings[key], ml_collections.ConfigDict):
            merge(settings[key], value, f"{where}.{key}")
        else:
            with settings.ignore_type():
                settings[key] = value


def settings_of_job(config: ml_collections.ConfigDict, job: Job) -> ml_collections.ConfigDict:
    """Returns the settings of one job; the order of precedence is documented in
    `configs/common.py`.

    Args:
        config: the experiment's config.
        job: the job; its fields `model`, `mode` and `target` choose deviations where it has them.

    Returns:
        The sections of `SECTIONS`, and the one named like the job's task if the config has one.

    Raises:
        ConfigError: if a deviation names a setting that does not exist.
    """
    sections = [*SECTIONS, *([job.task] if job.task in config else [])]
    settings = ml_collections.ConfigDict({s: config[s].copy_and_resolve_references()
                                          for s in sections})  # fmt: skip
    name, mode, target = (job.get(field) or "" for field in ("model", "mode", "target"))
    model, size = ALIASES.get(name, name), job.study.get("model.size", config.model.size)
    if size == "compact":
        merge(settings.model, config.compact.get(model, {}), f"compact.{model}")
    elif size != "full":
        raise ConfigError(f"model.size is {size!r}; allowed: {', '.join(SIZES)}.")
    for_target = (
        config.for_target.get(get_builder_name(target), {}) if isinstance(target, str) else {}
    )
    overrides = config.get("overrides", {})
    for where, deviations in (
        (f"for_mode.{mode}", config.for_mode.get(mode, {})),
        (f"for_model.{model}", config.for_model.get(model, {})),
        ("for_target", {k: v for k, v in for_target.items() if k != "for_model"}),
        (f"for_target.for_model.{model}", for_target.get("for_model", {}).get(model, {})),
        ("command line", {k: v for k, v in overrides.items() if k in sections}),
    ):
        merge(settings, deviations, where)
    for setting, value in job.study.items():
        section, _, key = setting.partition(".")
        merge(settings, {section: {key: value}}, "study")
    if name:
        settings.model.name = name
    return settings


def model_deviations(settings: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the settings of the model that differ from its published defaults."""
    defaults = model_settings(settings.model.name)
    return {
        key: value
        for key, value in given(settings.model, "name", "size", "start").items()
        if key not in defaults or value != defaults[key]
    }


def build_model(settings: ml_collections.ConfigDict, num_classes: int) -> Tagger:
    """Returns the model that the settings describe.

    Args:
        settings: of a job.
        num_classes: number of output units.
    """
    return create_model(settings.model.name, num_classes, model_deviations(settings))


def make_chunk_spec(model: Tagger) -> ChunkSpec:
    """Returns the excerpt that a model wants to see."""
    return ChunkSpec(
        sample_rate=model.sample_rate, num_samples=model.num_samples, front_end=model.front_end
    )


def duration(steps: int | None, epochs: int | None, steps_per_epoch: int, name: str) -> int:
    """Returns a duration in steps.

    Args:
        steps: the duration in steps, or None.
        epochs: the duration in epochs, or None.
        steps_per_epoch: batches in one pass over the training tracks.
        name: e.g. "num", for the message about `train.num_steps` and `train.num_epochs`.

    Raises:
        ConfigError: unless exactly one of the two is given and positive.
    """
    if (steps is None) == (epochs is None):
        both = "both were given" if steps is not None else "neither was given"
        raise ConfigError(f"Give either train.{name}_steps or train.{name}_epochs; {both}.")
    value = steps if steps is not None else epochs * steps_per_epoch
    if value < 1:
        raise ConfigError(f"train.{name}_steps or train.{name}_epochs must be at least 1.")
    return value


def parse_integers(text: str, where: str) -> tuple[int, ...]:
    """Returns the integers of a comma-separated setting.

    Raises:
        ConfigError: if a part is not a non-negative integer.

    Example:
        >>> parse_integers("0, 1", "seeds")
        (0, 1)
    """
    numbers = []
    for part in split_list(text):
        if not part.isdigit():
            raise ConfigError(f"{where} is {text!r}; {part!r} is not a whole number.")
        numbers.append(int(part))
    return tuple(numbers)
