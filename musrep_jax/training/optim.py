"""Optimisers and their learning-rate schedules, built from settings by name.

| name           | update                                | learning rate                           |
|----------------|---------------------------------------|-----------------------------------------|
| `adam`         | Adam                                  | constant                                |
| `adam_sgd`     | Adam, then SGD with Nesterov momentum | one constant per phase                  |
| `warmup_decay` | Adam                                  | linear warm-up, then a factor per epoch |
| `warmup_dips`  | Adam                                  | constant with single-step dips          |

Weight decay is the coupled kind everywhere (L2: added to the gradient before the moments, as in
PyTorch's `Adam` and `SGD`; not AdamW). Every transformation is traced once: a switch of phase is a
branch inside the compiled step, not a new program.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from musrep_jax.config import ConfigError, choose, suggest_name
from musrep_jax.types import Array, PyTree

Schedule = Callable[[int | Array], float | Array]

UNITS = ("epochs", "steps", "fraction")


class Optimizer(NamedTuple):
    """What training needs to know of an optimiser.

    Attributes:
        tx: the optax transformation.
        learning_rate: step (number of updates already made) -> learning rate of the next update.
        switch_steps: numbers of updates after which a new phase begins, in order; empty for an
            optimiser with one phase. The published procedure reloads the best weights there.
        name: the name of the settings it was built from.
    """

    tx: optax.GradientTransformation
    learning_rate: Schedule
    switch_steps: tuple[int, ...]
    name: str


class SwitchState(NamedTuple):
    """State of `switch_at`: both phases' states and the number of updates made."""

    step: Array
    before: PyTree
    after: PyTree


def switch_at(
    step: int, before: optax.GradientTransformation, after: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns a transformation that is `before` for the first `step` updates and `after` from then.

    The state of the phase that does not run is left alone, so `after` starts fresh.

    Args:
        step: number of updates made by `before`.
        before: the first phase.
        after: the second phase.
    """

    def init(params: PyTree) -> SwitchState:
        return SwitchState(jnp.zeros([], jnp.int32), before.init(params), after.init(params))

    def update(
        updates: PyTree, state: SwitchState, params: PyTree | None = None
    ) -> tuple[PyTree, SwitchState]:
        def first(_: None) -> tuple[PyTree, PyTree, PyTree]:
            new, inner = before.update(updates, state.before, params)
            return new, inner, state.after

        def second(_: None) -> tuple[PyTree, PyTree, PyTree]:
            new, inner = after.update(updates, state.after, params)
            return new, state.before, inner

        new, inner_before, inner_after = jax.lax.cond(state.step < step, first, second, None)
        return new, SwitchState(state.step + 1, inner_before, inner_after)

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam with a constant learning rate.

    Attributes:
        learning_rate: step size.
        betas: decay rates of the first and second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: coefficient of the coupled L2 term.
        clip_norm: largest global norm of the gradient of the trained parameters, before weight
            decay is added; 0 does not clip.

    Source: "From West to East" (ISMIR 2023), CNN taggers, as executed by its published code.
    """

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    clip_norm: float = 0.0

    def phase_starts(self, steps_per_epoch: int, num_steps: int | None) -> tuple[int, ...]:
        """Returns the numbers of updates after which a new phase begins."""
        return ()

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        """Returns step -> learning rate."""
        return optax.constant_schedule(self.learning_rate)

    def direction(self, starts: tuple[int, ...]) -> optax.GradientTransformation:
        """Returns the transformation of gradients into descent directions of unit step size."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_adam(b1=self.betas[0], b2=self.betas[1], eps=self.eps),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamSgd(Adam):
    """Adam, then SGD with Nesterov momentum at falling learning rates.

    The momentum buffer starts at zero at the switch and survives the later drops.

    Attributes:
        switch_at: where each SGD phase begins. The default is that of the evaluation of CNN
            taggers; the harmonic CNN and the self-attention tagger use (60, 80, 100).
        switch_unit: `epochs`, `steps`, or `fraction` of the whole training.
        sgd_learning_rates: one per SGD phase.
        sgd_weight_decay: coefficient of the L2 term in the SGD phases.
        momentum: of SGD.
        nesterov: whether momentum looks ahead.

    Source: "Evaluation of CNN-based Automatic Music Tagging Models" (SMC 2020), training code.
    """

    switch_at: tuple[float, ...] = (80, 100, 120)
    switch_unit: str = "epochs"
    sgd_learning_rates: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    sgd_weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = True

    def phase_starts(self, steps_per_epoch: int, num_steps: int | None) -> tuple[int, ...]:
        choose(self.switch_unit, UNITS, "optimizer.switch_unit")
        if len(self.switch_at) != len(self.sgd_learning_rates) or not self.switch_at:
            raise ConfigError(
                f"optimizer.switch_at has {len(self.switch_at)} entries and "
                f"optimizer.sgd_learning_rates has {len(self.sgd_learning_rates)}; give one "
                "learning rate for each SGD phase."
            )
        if self.switch_unit == "fraction" and num_steps is None:
            raise ConfigError(
                "optimizer.switch_unit is 'fraction', which needs the length of the training: "
                "pass num_steps to make_optimizer."
            )
        unit = {"epochs": steps_per_epoch, "steps": 1, "fraction": num_steps}[self.switch_unit]
        starts = tuple(round(at * unit) for at in self.switch_at)
        if starts[0] < 1 or any(a >= b for a, b in itertools.pairwise(starts)):
            raise ConfigError(
                f"optimizer.switch_at = {self.switch_at} {self.switch_unit} gives the steps "
                f"{starts}; they must be at least 1 and strictly increasing."
            )
        return starts

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        rates = (self.learning_rate, *self.sgd_learning_rates)
        return optax.join_schedules([optax.constant_schedule(rate) for rate in rates], starts)

    def direction(self, starts: tuple[int, ...]) -> optax.GradientTransformation:
        sgd = optax.chain(
            optax.add_decayed_weights(self.sgd_weight_decay),
            optax.trace(decay=self.momentum, nesterov=self.nesterov),
        )
        return switch_at(starts[0], super().direction(starts), sgd)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupDecay(Adam):
    """Adam with a linear warm-up and then a constant factor per epoch, for transformers.

    Update number s (from 1) has the rate `learning_rate * min(1, s / warmup_steps)`, times
    `decay_factor` once for each epoch begun since epoch `decay_from_epoch` (counted from 0). The
    published recipe raises the rate in stairs of 50 steps; here it is a straight line.

    Attributes:
        warmup_steps: length of the warm-up in updates; 0 for none.
        decay_factor: what each epoch multiplies the rate by.
        decay_from_epoch: the first epoch, counted from 0, with a lower rate.

    Source: training recipe of the Audio Spectrogram Transformer (Interspeech 2021), as meant.
    """

    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 5e-7
    warmup_steps: int = 1000
    decay_factor: float = 0.85
    decay_from_epoch: int = 5

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        def learning_rate(step: int | Array) -> Array:
            warmup = jnp.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
            epoch = jnp.asarray(step) // steps_per_epoch
            num_drops = jnp.maximum(0, epoch - self.decay_from_epoch + 1)
            return self.learning_rate * warmup * self.decay_factor**num_drops

        return learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupDips(Adam):
    """Adam as the published cross-cultural code runs it for transformers: a rate that dips.

    Its warm-up writes the full rate at every step except each 50th of the first 1000, and
    overwrites the decay of the epochs. Update number s (from 1) has the rate
    `learning_rate * s / dip_until` if `dip_every` divides s <= `dip_until`, else `learning_rate`.

    Attributes:
        dip_every: distance between dips in updates.
        dip_until: last update that may dip.

    Source: training code of "From West to East" (ISMIR 2023), as executed.
    """

    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 5e-7
    dip_every: int = 50
    dip_until: int = 1000

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        def learning_rate(step: int | Array) -> Array:
            s = jnp.asarray(step) + 1
            is_dip = (s % self.dip_every == 0) & (s <= self.dip_until)
            return self.learning_rate * jnp.where(is_dip, s / self.dip_until, 1.0)

        return learning_rate


OPTIMIZERS: dict[str, type[Adam]] = {
    "adam": Adam,
    "adam_sgd": AdamSgd,
    "warmup_decay": WarmupDecay,
    "warmup_dips": WarmupDips,
}


class _Range(NamedTuple):
    """What a number among the settings may be, as a test and in words."""

    is_allowed: Callable[[float], bool]
    words: str


_POSITIVE = _Range(lambda x: x > 0, "above 0")
_NOT_NEGATIVE = _Range(lambda x: x >= 0, "0 or above")
_BELOW_ONE = _Range(lambda x: 0 <= x < 1, "in [0, 1)")

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
}


def _check_number(field: str, value: Any, kind: type) -> float | int:
    """Returns `value` as `kind` (float or int), or says what it must be."""
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
    """Returns the optimiser that the settings describe.

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
    tx = optax.chain(clip, built.direction(starts), optax.scale_by_learning_rate(learning_rate))
    return Optimizer(tx, learning_rate, starts, name)
