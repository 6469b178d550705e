"""Named outputs of models, optionally pooled over time."""

import re
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp

from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.types import Array

Pool = Literal["mean", "max", "both", "statistics"]
_KINDS: dict[Pool, tuple[str, ...]] = {
    "mean": ("mean",),
    "max": ("max",),
    "both": ("mean", "max"),
    "statistics": ("mean", "variance", "max", "min"),
}
POOLS: tuple[Pool, ...] = tuple(_KINDS)
"""Ways to pool over time; "both" is mean and then maximum, side by side on the last axis,
"statistics" mean, variance, maximum and minimum."""


class OutputNameError(ValueError):
    """A model was asked for an output that it does not give."""


def check_output_names(model: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raises when a model does not give an output.

    Args:
        model: its name, for the message.
        names: that are asked for.
        known: that it gives.

    Raises:
        OutputNameError: if one of the names is unknown.
    """
    for name in names:
        if name not in known:
            raise OutputNameError(
                f"{model} has no output {name!r}.{suggest_name(name, known)} It gives "
                f"{', '.join(known)}."
            )


def pool_over_time(value: Array, pool: str | None, counts: Array | None = None) -> Array:
    """Returns an output in float32, pooled over its second axis, which is time.

    Args:
        value: (batch, steps, ...).
        pool: one of `POOLS`; None leaves the steps as they are.
        counts: (batch or 1, steps), true for a step that counts; None counts all. An example none
            of whose steps count becomes zero.

    Returns:
        (batch, ...); twice as long on the last axis for "both", four times for "statistics".

    Raises:
        OutputNameError: if there is no such pooling.
    """
    value = value.astype(jnp.float32)
    if pool is None:
        return value
    if pool not in POOLS:
        raise OutputNameError(f"There is no pooling {pool!r}; choose {', '.join(POOLS)} or none.")
    if counts is None:
        counts = jnp.ones((1, value.shape[1]), bool)
    counts = counts.reshape(*counts.shape, *(1,) * (value.ndim - 2))
    counts = jnp.broadcast_to(counts, value.shape)
    number, is_any = jnp.maximum(counts.sum(axis=1), 1), counts.any(axis=1)
    parts = []
    for kind in _KINDS[pool]:
        if kind == "max":
            parts.append(jnp.where(is_any, jnp.where(counts, value, -jnp.inf).max(axis=1), 0))
        elif kind == "min":
            parts.append(jnp.where(is_any, jnp.where(counts, value, jnp.inf).min(axis=1), 0))
        else:
            mean = jnp.where(counts, value, 0).sum(axis=1) / number
            if kind == "variance":
                square = jnp.where(counts, (value - mean[:, None]) ** 2, 0)
                mean = square.sum(axis=1) / number
            parts.append(mean)
    return jnp.concatenate(parts, axis=-1)


def layer_names(count: int, prefix: str = "layer") -> tuple[str, ...]:
    """Returns the names of so many layers, counted from 1.

    Example:
        >>> layer_names(3)
        ('layer_1', 'layer_2', 'layer_3')
    """
    return tuple(f"{prefix}_{number}" for number in range(1, count + 1))


def expand_layer_numbers(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Returns names of outputs where a number stands for that layer, a negative one from the end.

    Args:
        names: of outputs, or numbers of layers, counted from 1 or, from the last, from -1.
        known: that the model gives.

    Example:
        >>> known = ("embedding", "layer_1", "layer_2", "layer_3")
        >>> expand_layer_numbers(["1", "-1", "embedding"], known)
        ('layer_1', 'layer_3', 'embedding')
    """
    layers = sum(re.fullmatch(r"layer_[1-9]\d*", name) is not None for name in known)
    found = []
    for name in names:
        number = int(name) if re.fullmatch(r"-?\d{1,3}", name) else None
        if number is not None and -layers <= number < 0:
            number += layers + 1
        found.append(name if number is None else f"layer_{number}")
    return tuple(found)


def transformer_options(names: Sequence[str]) -> dict[str, bool]:
    """Returns the arguments of a transformer's `embed` that bring the outputs of these names.

    Args:
        names: of outputs, see `Encoder.outputs`: weights are formed where attention is asked for,
            all tokens go through the last block where layers or tokens are.
    """
    return {
        "return_weights": any("attention" in name for name in names),
        "all_tokens": any(name == "tokens" or name.startswith("layer_") for name in names),
    }
