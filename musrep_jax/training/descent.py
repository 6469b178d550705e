"""The entries of the optimizer table: update rules and their learning rates.

Weight decay is the coupled kind everywhere (L2: added to the gradient before the moments, as in
PyTorch's `Adam` and `SGD`; not AdamW). Every transformation is traced once: a switch of phase is a
branch inside the compiled step, and a rate that falls on a plateau is a number in its state, not a
new program.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from musrep_jax.config import ConfigError, choose
from musrep_jax.training.plateau import Plateau
from musrep_jax.types import Array, PyTree

Schedule = Callable[[Any], Any]
"""Number of updates made -> learning rate; plain numbers on the host, arrays in a step."""

UNITS = ("epochs", "steps", "fraction")


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
        updates: PyTree, state: Any, params: PyTree | None = None
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
class OptimizerSettings:
    """Base class of all optimizers.

    Attributes:
        learning_rate: step size.
        weight_decay: coefficient of the coupled L2 term.
        clip_norm: largest global norm of the gradient of the trained parameters, before weight
            decay is added; 0 does not clip.
    """

    learning_rate: float
    weight_decay: float
    clip_norm: float = 0.0

    depends_on_length: ClassVar[bool] = False
    """Whether steps per epoch or the length of the training change what is compiled."""

    def phase_starts(self, steps_per_epoch: int, num_steps: int | None) -> tuple[int, ...]:
        """Returns the numbers of updates after which a new phase begins."""
        return ()

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        """Returns step -> learning rate."""
        return optax.constant_schedule(self.learning_rate)

    def direction(self, starts: tuple[int, ...]) -> optax.GradientTransformation:
        """Returns the transformation of gradients into descent directions of unit step size."""
        raise NotImplementedError

    def plateau(self) -> Plateau | None:
        """Returns the action on a plateau, or None."""
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSettings):
    """Adam with a constant learning rate.

    Attributes:
        betas: decay rates of the first and second moment, each in [0, 1).
        eps: added to the root of the second moment.

    Source: "From West to East" (ISMIR 2023), CNN taggers, as executed by its published code.
    """

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-4

    def direction(self, starts: tuple[int, ...]) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_adam(b1=self.betas[0], b2=self.betas[1], eps=self.eps),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgd(OptimizerSettings):
    """SGD with momentum, as in PyTorch and Keras without dampening.

    Update number s (from 0) has the rate `learning_rate / (1 + step_decay * s)`.

    Attributes:
        momentum: share of the last direction that is kept; 0 is plain SGD.
        nesterov: whether momentum looks ahead.
        step_decay: how fast the rate falls from update to update, Keras's `decay`; 0 keeps it.

    Source: training code of SampleCNN (SMC 2017), with `step_decay=1e-6`.
    """

    learning_rate: float = 0.01
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    step_decay: float = 0.0

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        return lambda step: self.learning_rate / (1.0 + self.step_decay * step)

    def direction(self, starts: tuple[int, ...]) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.trace(decay=self.momentum, nesterov=self.nesterov),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlateauOptimizer(OptimizerSettings):
    """A rate that drops by a factor when the selecting validation metric no longer improves.

    An improvement is a better value of the metric, or an equal one with a lower validation loss.
    After the last drop, the next plateau ends the training.

    Attributes:
        drop_factor: what each drop multiplies the rate by.
        drop_after: evaluations without improvement before a drop.
        num_drops: how often the rate drops.
        reload_best: whether each drop goes back to the best weights (and starts momentum and
            `step_decay` anew), or continues from the latest.
    """

    drop_factor: float = 0.2
    drop_after: int = 3
    num_drops: int = 4
    reload_best: bool = True

    def plateau(self) -> Plateau:
        undropped = self.schedule(1, ())
        drops = range(self.num_drops + 1)
        factors = np.array([self.drop_factor**drop for drop in drops], np.float32)

        def learning_rate(count: int | Array, num_drops: int | Array) -> Any:
            return undropped(count) * jnp.asarray(factors)[num_drops]

        return Plateau(self.drop_after, self.num_drops, self.reload_best, learning_rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SgdPlateau(Sgd, PlateauOptimizer):
    """SGD with momentum whose rate drops on plateaus.

    The defaults are the published five stages, 0.01 to 0.000016, each of which ends after three
    epochs without a better validation loss (`train.evaluate_every_epochs=1`). There every stage
    forgets the best loss of the one before; here a stage has to beat it.

    Source: training code of SampleCNN (SMC 2017); Lee et al., MIREX 2017.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamPlateau(Adam, PlateauOptimizer):
    """Adam whose rate drops on plateaus: a training that ends when validation stops rising."""

    drop_after: int = 4
    num_drops: int = 2


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

    depends_on_length: ClassVar[bool] = True

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
    """Adam with a linear warm-up and a constant factor per epoch, for transformers, as published.

    Update number s (from 1) has the rate `learning_rate * min(1, s / warmup_steps)`, times
    `decay_factor` once for each epoch begun since epoch `decay_from_epoch` (counted from 0). The
    published recipe raises the rate in stairs of 50 steps; here it is a straight line. Where the
    warm-up is longer than `decay_from_epoch` epochs, as on small data sets, the two overlap and the
    full rate is never reached: see `WarmupThenDecay`.

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

    depends_on_length: ClassVar[bool] = True

    def decay_start(self) -> int:
        """Returns the number of updates after which epochs are counted for the decay."""
        return 0

    def schedule(self, steps_per_epoch: int, starts: tuple[int, ...]) -> Schedule:
        def learning_rate(step: int | Array) -> Array:
            warmup = jnp.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
            epoch = (jnp.asarray(step) - self.decay_start()) // steps_per_epoch
            num_drops = jnp.maximum(0, epoch - self.decay_from_epoch + 1)
            return self.learning_rate * warmup * self.decay_factor**num_drops

        return learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupThenDecay(WarmupDecay):
    """Adam with a linear warm-up and, counted from its end, a constant factor per epoch.

    As `WarmupDecay`, but epochs are counted from the end of the warm-up: the full rate is reached,
    and kept for `decay_from_epoch` epochs, whatever the size of the data set.

    Source: training recipe of the Audio Spectrogram Transformer (Interspeech 2021), whose data
    sets are so large that the warm-up is over before the decay begins.
    """

    def decay_start(self) -> int:
        return self.warmup_steps


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
