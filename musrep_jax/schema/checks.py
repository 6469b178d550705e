"""The check of a config before anything is built, trained or written."""

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
from flax.errors import FlaxError

from musrep_jax.config import ConfigError, given, split_list, suggest_name
from musrep_jax.configs.common import COMPACT
from musrep_jax.models import ALIASES, MODELS, Encoder, create_encoder, is_tagger
from musrep_jax.rules.kinds import judge
from musrep_jax.schema.fields import BY_NAME, FIELDS
from musrep_jax.tasks import load_task
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.settings import build_model, duration, model_deviations
from musrep_jax.tasks.studies import parse_study
from musrep_jax.tasks.tagging.matrix import BASELINE, LINEAR, SCRATCH
from musrep_jax.training.optim import make_optimizer

_NOT_FIELDS = ("cells", "merge", "overrides")
"""What the command line adds, which is judged where it is read or stands in the fields too."""

_EPOCH = 10**5
"""Steps in an epoch, before it is known how many there are."""

_MODEL_ERRORS = (
    ValueError, TypeError, ArithmeticError, LookupError, AttributeError, AssertionError, FlaxError,
)  # fmt: skip
"""That Flax and JAX raise for layers that cannot be."""


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises unless every field of a config has a value that it can have.

    Nothing is read, built or written. Fields without a rule, of people's own tasks, are passed by.

    Args:
        config: as `parse_command_line` returns it.

    Raises:
        ConfigError: one sentence with the field, the value and what is allowed.
    """
    for field, place, value in _walk(config):
        if field in FIELDS:
            judge(place, value, FIELDS[field])
    for setting, values in _study_of(config).items():
        for value in values:
            if setting in FIELDS:
                judge(f"study of {setting}", value, FIELDS[setting])
    if config.task == "tagging" and "target" in config:
        modes = [mode for mode in split_list(config.transfer.modes) if mode != SCRATCH]
        if modes and not split_list(config.source):
            raise ConfigError(
                f"source is {config.source!r}, but the mode {modes[0]!r} of transfer.modes starts "
                f"from one: name a data set or export:DIRECTORY, or take only {SCRATCH!r}."
            )


def check_jobs(config: ml_collections.ConfigDict) -> None:
    """Raises unless the settings of every job fit together: durations, optimizer, model.

    Nothing is read but impulse responses, and nothing is built or written; shapes are computed and
    no numbers.

    Args:
        config: that `check_config` has let pass.

    Raises:
        ConfigError: one sentence with the fields.
    """
    study, seen = _study_of(config), set()
    for job in load_task(config.task).jobs(config):
        task = load_task(job.task)
        for varied in _vary(job, study):
            # Seeds, sources and training sizes change no setting.
            fields = tuple(varied.get(name) for name in ("model", "mode", "target"))
            key = (fields, str(varied.study))
            if key in seen:
                continue
            seen.add(key)
            settings = task.make_settings(config, varied)
            check_training(settings)
            name = settings.model.name
            if job.get("model") in (*MODELS, *ALIASES):  # a task may name its models otherwise
                _check_model(name, repr(sorted(model_deviations(settings).items())), settings)
                if varied.get("mode") not in (BASELINE, LINEAR) and is_tagger(name):
                    Augmentation.of(settings.train).check(build_model(settings, num_classes=2))


def check_training(settings: ml_collections.ConfigDict) -> None:
    """Raises unless durations, optimizer and batch of a job fit together.

    Args:
        settings: of the job, see `musrep_jax.tasks.settings.settings_of_job`.

    Raises:
        ConfigError: one sentence with the fields.
    """
    train = settings.train
    num_steps = duration(train.num_steps, train.num_epochs, _EPOCH, "num")
    duration(train.evaluate_every_steps, train.evaluate_every_epochs, _EPOCH, "evaluate_every")
    make_optimizer(given(settings.optimizer), steps_per_epoch=_EPOCH, num_steps=num_steps)
    if train.batch_size % train.num_microbatches:
        raise ConfigError(
            f"train.num_microbatches is {train.num_microbatches}; it must divide train.batch_size, "
            f"which is {train.batch_size}."
        )


def _check_model(name: str, deviations: str, settings: ml_collections.ConfigDict) -> None:
    """Raises unless a model can be built, and reads chunks of its own length."""
    try:
        if is_tagger(name):
            model = build_model(settings, num_classes=2)
        else:
            model = create_encoder(name, model_deviations(settings))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _check_bands(model)
    compact = COMPACT.get(ALIASES.get(name, name), {})
    if deviations in ("[]", repr(sorted(compact.items()))):  # those that every test uses
        return
    if reason := _why_not_built(model):
        own = ", ".join(f"model.{key}={value}" for key, value in model_deviations(settings).items())
        raise ConfigError(f"The settings of model {name!r} do not fit together ({own}): {reason}")


@functools.cache
def _why_not_built(model: Encoder) -> str:
    """Returns why a model cannot be built, "" if it can; shapes are computed and no numbers."""
    inputs = model.batch_shape(1)
    try:
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), inputs)
    except _MODEL_ERRORS as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


def _check_bands(model: Encoder) -> None:
    """Raises unless the bands of a model's spectrogram lie in what its sample rate holds."""
    low, high = getattr(model, "f_min", None), getattr(model, "f_max", None)
    if low is None or high is None:
        return
    if not low < high <= model.sample_rate / 2:
        raise ConfigError(
            f"model.f_min is {low:g} and model.f_max is {high:g}; the first must be below the "
            f"second, and that at most half of model.sample_rate, which is {model.sample_rate}."
        )


def _study_of(config: ml_collections.ConfigDict) -> Mapping[str, tuple[Any, ...]]:
    return parse_study(config.get("study") or "", config)


def _vary(job: Job, study: Mapping[str, tuple[Any, ...]]) -> Iterator[Job]:
    """Yields a job as it is and with the first values of a study, and each other value by itself.

    Durations may need two settings of a study at once, so that no value is judged alone.
    """
    first = {setting: values[0] for setting, values in study.items()}
    yield Job(job.task, job.fields, job.needs, first)
    for setting, values in study.items():
        for value in values[1:]:
            yield Job(job.task, job.fields, job.needs, {**first, setting: value})


def _walk(config: ml_collections.ConfigDict) -> Iterator[tuple[str, str, Any]]:
    """Yields (field, where it stands, value) of everything a config holds.

    Deviations stand under names: `for_model.vgg_ish.train.num_epochs` is judged as
    `train.num_epochs`.
    """
    for key, value in config.items():
        if key in _NOT_FIELDS:
            continue
        if key in BY_NAME:
            yield from _walk_named(key, key, value)
        else:
            yield from _walk_section(key, key, value)


def _walk_section(field: str, place: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if field in BY_NAME and isinstance(value, ml_collections.ConfigDict):
        for name, options in value.items():
            _check_name(f"{place}.{name}", name, BY_NAME[field])
            yield from _walk_section(f"{field}.{name}", f"{place}.{name}", options)
    elif isinstance(value, ml_collections.ConfigDict) and field not in FIELDS:
        for key, inside in value.items():
            yield from _walk_section(f"{field}.{key}", f"{place}.{key}", inside)
    else:
        yield field, place, value


def _walk_named(section: str, place: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields the fields of deviations that stand under names of models, modes or data sets."""
    if not isinstance(value, ml_collections.ConfigDict):
        raise ConfigError(f"{place} is {value!r}; it must hold settings by name.")
    for name, deviations in value.items():
        here = f"{place}.{name}"
        _check_name(here, name, BY_NAME[section])
        if not isinstance(deviations, ml_collections.ConfigDict):
            raise ConfigError(f"{here} is {deviations!r}; it must hold settings.")
        for key, inside in deviations.items():
            if section == "compact":
                yield from _walk_section(f"model.{key}", f"{here}.{key}", inside)
            elif key == "for_model":
                yield from _walk_named("for_model", f"{here}.for_model", inside)
            else:
                yield from _walk_section(key, f"{here}.{key}", inside)


def _check_name(place: str, name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=4)
        raise ConfigError(
            f"{place} is for {name!r}, which is no name.{suggest_name(name, allowed)} There are "
            f"{', '.join(near or allowed)}."
        )
