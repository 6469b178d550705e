"""Losses on logits, and the loss function that trains a tagger.

Every loss is computed in float32 whatever the compute type of the model, and averages over the
real examples of a batch only: a padded example has mask 0 and counts for nothing.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp

from musrep_jax.types import Array, Batch, LossFn, PyTree, Stream, model_inputs


class ApplyFn(Protocol):
    """How a model is called by losses and evaluation, which know no models."""

    def __call__(
        self,
        params: PyTree,
        model_state: PyTree,
        inputs: Array,
        key: Array | None,
        *,
        train: bool,
        mask: Array | None = None,
    ) -> tuple[Any, PyTree]:
        """Returns (logits, new model_state).

        `key` seeds dropout and is None in evaluation; `mask` (batch,) is 0 for examples that must
        not count in batch statistics.
        """
        ...


def masked_mean(values: Array, mask: Array | None = None) -> Array:
    """Returns the mean of `values` over the examples whose mask is not 0.

    Args:
        values: (batch,) one value per example.
        mask: (batch,) weights, 1 for a real example and 0 for padding; None takes every example.

    Returns:
        float32 scalar; 0 when no example is real.

    >>> print(masked_mean(jnp.array([1.0, 3.0, 100.0]), jnp.array([1.0, 1.0, 0.0])))
    2.0
    """
    values = values.astype(jnp.float32)
    if mask is None:
        return values.mean()
    mask = mask.astype(jnp.float32)
    total = jnp.where(mask > 0, values * mask, 0.0).sum()
    return total / jnp.where(mask.sum() > 0, mask.sum(), 1.0)


def binary_cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Returns the mean over real examples and labels of the binary cross-entropy, in nats.

    Computed from logarithms of sigmoids, `-y log s(x) - (1 - y) log s(-x)`, which neither overflow
    nor lose digits for large logits, and whose gradient at 0 is `s(x) - y` as elsewhere. (A loss
    on sigmoid outputs, as in the published PyTorch code, clamps each logarithm at -100.)

    Args:
        logits: (batch, classes), any float type.
        labels: (batch, classes) in [0, 1], multi-hot or soft.
        mask: (batch,) 1 for a real example and 0 for padding; None takes every example.

    Returns:
        float32 scalar.

    Raises:
        ValueError: when logits and labels differ in shape.

    >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1.0, 0.0]])
    >>> print(f"{binary_cross_entropy(logits, labels):.6f}")
    0.220095
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"logits have the shape {logits.shape} but labels have {labels.shape}; "
            "both must be (batch, classes)."
        )
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.float32)
    each = labels * jax.nn.log_sigmoid(logits) + (1.0 - labels) * jax.nn.log_sigmoid(-logits)
    return masked_mean(-each.mean(axis=-1), mask)


def cross_entropy(logits: Array, targets: Array, mask: Array | None = None) -> Array:
    """Returns the mean over real examples of the softmax cross-entropy, in nats.

    Args:
        logits: (batch, classes), any float type.
        targets: integer class indices (batch,) in [0, classes), or float rows (batch, classes)
            that sum to 1.
        mask: (batch,) 1 for a real example and 0 for padding; None takes every example.

    Returns:
        float32 scalar.

    Raises:
        ValueError: when the shape of the targets is neither of the two.

    >>> logits = jnp.array([[1.0, 2.0, 3.0]])
    >>> print(f"{cross_entropy(logits, jnp.array([2])):.6f}")
    0.407606
    >>> print(f"{cross_entropy(logits, jnp.array([[0.0, 0.5, 0.5]])):.6f}")
    0.907606
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    if targets.shape == logits.shape:
        rows = targets.astype(jnp.float32)
    elif targets.shape == logits.shape[:-1] and jnp.issubdtype(targets.dtype, jnp.integer):
        rows = jax.nn.one_hot(targets, logits.shape[-1])
    else:
        raise ValueError(
            f"targets have the shape {targets.shape} and type {targets.dtype}, logits the shape "
            f"{logits.shape}; targets must be integer (batch,) or float (batch, classes)."
        )
    return masked_mean(-(rows * log_probabilities).sum(axis=-1), mask)


def make_tagging_loss(apply: ApplyFn, loss: Callable[..., Array] = binary_cross_entropy) -> LossFn:
    """Returns the loss function that trains a tagger on batches of inputs and labels.

    Args:
        apply: calls the model in training mode, see `ApplyFn`.
        loss: `(logits, labels, mask) -> scalar`; `cross_entropy` for one class per example.

    Returns:
        A loss function for `musrep_jax.training.step.make_train_step`.
    """

    def loss_fn(
        params: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        stream = cast(Stream, batch)
        mask = stream.get("mask")
        logits, model_state = apply(
            params, model_state, model_inputs(stream), key, train=True, mask=mask
        )
        return loss(logits, stream["labels"], mask), (model_state, {})

    return loss_fn
