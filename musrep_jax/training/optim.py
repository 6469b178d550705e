"""Optimizers and their learning-rate schedules, built from settings by name.

| name                | update            | learning rate                                  |
|---------------------|-------------------|------------------------------------------------|
| `adam`              | Adam              | constant                                       |
| `adam_plateau`      | Adam              | a factor lower on each plateau of validation   |
| `adam_sgd`          | Adam, then SGD    | one constant per phase                         |
| `sgd`               | SGD with momentum | constant, or falling with every step           |
| `sgd_plateau`       | SGD with momentum | a factor lower on each plateau of validation   |
| `warmup_decay`      | Adam              | warm-up times a factor per epoch, as published |
| `warmup_dips`       | Adam              | constant with single-step dips, as executed    |
| `warmup_then_decay` | Adam              | warm-up, then a factor per epoch               |

The entries are in `musrep_jax/training/descent.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from musrep_jax.config import ConfigError, choose
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.training.descent import (
    Adam,
    AdamPlateau,
    AdamSgd,
    OptimizerSettings,
    Schedule,
    Sgd,
    SgdPlateau,
    WarmupDecay,
    WarmupDips,
    WarmupThenDecay,
)
from musrep_jax.training.plateau import Plateau, scale_by_plateau


class Optimizer(NamedTuple):
    """The properties of an optimizer that training needs.

    Attributes:
        tx: the optax transformation.
        learning_rate: step (number of updates already made) -> learning rate of the next update;
            with a plateau, as if the rate had never dropped.
        switch_steps: numbers of updates after which a new phase begins, in order; empty for an
            optimizer with one phase. The published procedure reloads the best weights there.
        name: the name of the settings it was built from.
        plateau: what happens when validation no longer improves, or None if nothing does.
    """

    tx: optax.GradientTransformation
    learning_rate: Schedule
    switch_steps: tuple[int, ...]
    name: str
    plateau: Plateau | None = None


OPTIMIZERS: dict[str, type[OptimizerSettings]] = {
    "adam": Adam,
    "adam_plateau": AdamPlateau,
    "adam_sgd": AdamSgd,
    "sgd": Sgd,
    "sgd_plateau": SgdPlateau,
    "warmup_decay": WarmupDecay,
    "warmup_dips": WarmupDips,
    "warmup_then_decay": WarmupThenDecay,
}


class _Range(NamedTuple):
    """A constraint on a numeric setting: a test and its description."""

    is_allowed: Callable[[float], bool]
    words: str


_POSITIVE = _Range(lambda x: x > 0, "above 0")
_NOT_NEGATIVE = _Range(lambda x: x >= 0, "0 or above")
_BELOW_ONE = _Range(lambda x: 0 <= x < 1, "in [0, 1)")
_SHARE = _Range(lambda x: 0 < x < 1, "in (0, 1)")

_RANGES: dict[str, _Range] = {
    "learning_rate": _POSITIVE,
    "betas": _BELOW_ONE,
    "eps": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "clip_norm": _NOT_NEGATIVE,
    "switch_at": _POSITIVE,
    "sgd_learning_rates": _POSITIVE,
    "sgd_weight_decay": _NOT_NEGATIVE,
    "momentum": _BELOW_ONE,
    "warmup_steps": _NOT_NEGATIVE,
    "decay_factor": _POSITIVE,
    "decay_from_epoch": _NOT_NEGATIVE,
    "dip_every": _POSITIVE,
    "dip_until": _POSITIVE,
    "step_decay": _NOT_NEGATIVE,
    "drop_factor": _SHARE,
    "drop_after": _POSITIVE,
    "num_drops": _NOT_NEGATIVE,
}


def _check_number(field: str, value: Any, kind: type) -> float | int:
    """Returns `value` as `kind` (float or int); raises with the requirement if it is not."""
    allowed = _RANGES[field]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_whole = kind is float or (is_number and value == round(value))
    if not (is_number and math.isfinite(value) and is_whole and allowed.is_allowed(value)):
        noun = "a number" if kind is float else "a whole number"
        raise ConfigError(f"optimizer.{field} is {value!r}; it must be {noun} {allowed.words}.")
    return kind(value)


def _check_value(field: str, value: Any, default: Any) -> Any:
    """Returns a setting's value in the type of its default, or says what it must be."""
    if isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise ConfigError(
                f"optimizer.{field} is {value!r}; it must be a {type(default).__name__}, "
                f"such as {default!r}."
            )
        return value
    if isinstance(default, tuple):
        if not isinstance(value, (tuple, list)) or (field == "betas" and len(value) != 2):
            raise ConfigError(
                f"optimizer.{field} is {value!r}; it must be a sequence of numbers such as "
                f"{default!r}."
            )
        return tuple(_check_number(field, number, float) for number in value)
    return _check_number(field, value, type(default))


def make_optimizer(
    settings: Mapping[str, Any], *, steps_per_epoch: int, num_steps: int | None = None
) -> Optimizer:
    """Returns the optimizer that the settings describe.

    Args:
        settings: `name` (a key of `OPTIMIZERS`) and any fields of that entry; fields that are
            left out keep the entry's defaults, which are the published values.
        steps_per_epoch: updates per epoch, for what is counted in epochs.
        num_steps: updates in the whole training, for what is given as a fraction of it.

    Raises:
        ConfigError: for an unknown name or field, or a value out of range; the sentence names the
            field, the value and what is allowed.

    >>> optimizer = make_optimizer({"name": "adam_sgd"}, steps_per_epoch=10)
    >>> optimizer.switch_steps
    (800, 1000, 1200)
    >>> [f"{optimizer.learning_rate(step):.0e}" for step in (799, 800, 1000, 1200)]
    ['1e-04', '1e-03', '1e-04', '1e-05']
    """
    if steps_per_epoch < 1:
        raise ConfigError(f"steps_per_epoch is {steps_per_epoch}; it must be at least 1.")
    fields = dict(settings)
    name = choose(str(fields.pop("name", None)), list(OPTIMIZERS), "optimizer.name")
    entry = OPTIMIZERS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(entry)}
    for field, value in fields.items():
        if field not in defaults:
            raise ConfigError(
                f"optimizer.{field} is not a setting of {name!r}."
                f"{suggest_name(field, list(defaults))} Its settings: {', '.join(defaults)}."
            )
        fields[field] = _check_value(field, value, defaults[field])
    built = entry(**fields)
    starts = built.phase_starts(steps_per_epoch, num_steps)
    learning_rate = built.schedule(steps_per_epoch, starts)
    clip = optax.clip_by_global_norm(built.clip_norm) if built.clip_norm else optax.identity()
    plateau = built.plateau()
    if plateau is None:
        scale = optax.scale_by_learning_rate(learning_rate)
    else:
        scale = scale_by_plateau(plateau)
    tx = optax.chain(clip, built.direction(starts), scale)
    return Optimizer(tx, learning_rate, starts, name, plateau)
