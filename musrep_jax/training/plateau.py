"""A learning rate that drops when the selecting validation metric no longer improves.

The loop counts evaluations; what a drop changes is a number in the optimizer's state, which is
saved and resumed with it, and no new program is compiled.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from musrep_jax.types import Array, PyTree


class PlateauState(NamedTuple):
    """State of `scale_by_plateau`.

    Attributes:
        num_drops: how often the rate has dropped.
        num_updates: made since the optimizer started, or restarted at a drop.
    """

    num_drops: Array
    num_updates: Array


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The loop's action when the selecting validation metric no longer improves.

    Attributes:
        drop_after: evaluations without improvement after which the rate drops.
        num_drops: how often it drops; the next plateau ends the training.
        reload_best: whether training then continues from the best weights, with an optimizer that
            starts anew.
        learning_rate: (updates since the optimizer started anew, drops so far) -> rate.
    """

    drop_after: int
    num_drops: int
    reload_best: bool
    learning_rate: Callable[[int | Array, int | Array], float | Array]

    def lower_rate(self, opt_state: PyTree) -> PyTree:
        """Returns the optimizer's state for the next, lower rate, placed on devices as before.

        Args:
            opt_state: of an optimizer with this plateau. Anew it is all zeros, as its `init` makes
                it.
        """

        def lower(opt_state: PyTree) -> PyTree:
            num_drops = opt_state[-1].num_drops + 1
            if self.reload_best:
                opt_state = jax.tree.map(jnp.zeros_like, opt_state)
            return (*opt_state[:-1], opt_state[-1]._replace(num_drops=num_drops))

        shardings = jax.tree.map(lambda leaf: leaf.sharding, opt_state)
        return jax.jit(lower, out_shardings=shardings)(opt_state)


def scale_by_plateau(plateau: Plateau) -> optax.GradientTransformation:
    """Returns the transformation that multiplies directions by minus the rate of a plateau.

    Args:
        plateau: says the rate.
    """

    def init(params: PyTree) -> PlateauState:
        return PlateauState(jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32))

    def update(
        updates: PyTree, state: Any, params: PyTree | None = None
    ) -> tuple[PyTree, PlateauState]:
        rate = jnp.asarray(plateau.learning_rate(state.num_updates, state.num_drops), jnp.float32)
        scaled = jax.tree.map(lambda leaf: (-rate).astype(leaf.dtype) * leaf, updates)
        return scaled, state._replace(num_updates=state.num_updates + 1)

    return optax.GradientTransformation(init, update)
