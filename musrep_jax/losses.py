"""Losses on logits, and the loss function that trains a tagger.

Every loss is computed in float32 whatever the compute type of the model, and averages over the
real examples of a batch only: a padded example has mask 0 and counts for nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

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


class Violators(NamedTuple):
    """What WARP found for each example; see `find_violators`.

    Attributes:
        positive: int32 (batch,), the label that should stand above the others.
        negative: int32 (batch,), the first label found that is not below it by the margin.
        num_visited: int32 (batch,), labels looked at until then, that one included.
        is_found: bool (batch,), false if none was found: the other numbers mean nothing then.
    """

    positive: Array
    negative: Array
    num_visited: Array
    is_found: Array


def visit_permutation(violates: Array, is_negative: Array, draws: Array) -> tuple[Array, Array]:
    """Returns the first violating label and how many were visited, in a random order of negatives.

    Ascending draws are a random order: its first violator is that of the smallest draw, and as many
    were visited as negatives have a draw up to it. Neither a sort nor a loop is needed.

    Args:
        violates: bool (batch, labels), true for negatives that are not low enough.
        is_negative: bool (batch, labels).
        draws: (batch, labels), uniform in [0, 1).

    Returns:
        int32 (batch,) and int32 (batch,), which mean nothing where no label violates.
    """
    found = jnp.where(violates, draws, jnp.inf).argmin(axis=1)
    limit = jnp.take_along_axis(draws, found[:, None], axis=1)
    return found, (is_negative & (draws <= limit)).sum(axis=1)


def visit_with_replacement(
    violates: Array, is_negative: Array, draws: Array
) -> tuple[Array, Array]:
    """Returns the first violating label and how many were visited, among independent draws.

    There are as many draws as labels but one: with few labels, those that violate may be missed.

    Args:
        violates: see `visit_permutation`.
        is_negative: bool (batch, labels).
        draws: (batch, labels), uniform in [0, 1); the last column is not used.

    Returns:
        int32 (batch,) and int32 (batch,); the label violates if one was found, else it does not.
    """
    num_draws = draws.shape[1] - 1
    count = is_negative.sum(axis=1, keepdims=True)
    places = jnp.minimum((draws[:, :num_draws] * count).astype(jnp.int32), count - 1)
    negatives = jnp.argsort(~is_negative, axis=1, stable=True)  # negatives first, in their order
    visited = jnp.take_along_axis(negatives, jnp.maximum(places, 0), axis=1)
    first = jnp.take_along_axis(violates, visited, axis=1).argmax(axis=1)
    return jnp.take_along_axis(visited, first[:, None], axis=1)[:, 0], first + 1


WARP_SCHEMES: Mapping[str, Callable[[Array, Array, Array], tuple[Array, Array]]] = {
    "permutation": visit_permutation,
    "with_replacement": visit_with_replacement,
}
"""Ways to look for a violating label: Hamel et al., ISMIR 2013, and WSABIE (IJCAI 2011)."""


def find_violators(
    scores: Array, labels: Array, positive_draws: Array, draws: Array, scheme: str = "permutation"
) -> Violators:
    """Returns, for each example, a positive label and the first negative that comes too close.

    The positive is drawn uniformly. Negatives are visited until one has a score above that of the
    positive less 1.

    Args:
        scores: float (batch, labels).
        labels: (batch, labels), above 0 where the label holds.
        positive_draws: (batch, labels), uniform in [0, 1).
        draws: (batch, labels), uniform in [0, 1), independent of these.
        scheme: a key of `WARP_SCHEMES`.
    """
    is_positive = labels > 0
    positive = jnp.where(is_positive, positive_draws, jnp.inf).argmin(axis=1)
    reached = jnp.take_along_axis(scores, positive[:, None], axis=1)
    violates = ~is_positive & (scores > reached - 1.0)
    negative, num_visited = WARP_SCHEMES[scheme](violates, ~is_positive, draws)
    is_found = jnp.take_along_axis(violates, negative[:, None], axis=1)[:, 0]
    return Violators(positive, negative, num_visited, is_found & is_positive.any(axis=1))


def warp_loss(
    scores: Array,
    labels: Array,
    key: Array,
    mask: Array | None = None,
    scheme: str = "permutation",
) -> Array:
    """Returns the weighted approximate-rank pairwise loss, averaged over the real examples.

    Of Y labels, a violator found as the N-th stands for a rank of r = floor((Y - 1) / N), and
    counts with the weight 1 + 1/2 + ... + 1/r. An example without violators, without labels or with
    all labels counts 0, and is an example of the mean. Choice and weight are constants for the
    gradient.

    Args:
        scores: (batch, labels), any float type.
        labels: (batch, labels), above 0 where the label holds.
        key: of what is drawn.
        mask: (batch,) 1 for a real example and 0 for padding; None takes every example.
        scheme: a key of `WARP_SCHEMES`.

    Returns:
        float32 scalar.

    Raises:
        ValueError: when scores and labels differ in shape, or there are fewer than two labels.

    Source: Weston, Bengio, Usunier, "WSABIE: scaling up to large vocabulary image annotation",
    IJCAI 2011; Hamel et al., "Transfer learning in MIR: sharing learned latent representations for
    music audio classification and similarity", ISMIR 2013.
    """
    if scores.shape != labels.shape or scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"scores have the shape {scores.shape} and labels {labels.shape}; both must be "
            "(batch, labels) with at least two labels."
        )
    scores = scores.astype(jnp.float32)
    first, second = jax.random.split(key)
    found = find_violators(
        jax.lax.stop_gradient(scores),
        labels,
        jax.random.uniform(first, scores.shape),
        jax.random.uniform(second, scores.shape),
        scheme,
    )
    others = scores.shape[1] - 1
    weights = jnp.concatenate([jnp.zeros(1), jnp.cumsum(1.0 / jnp.arange(1, others + 1))])
    weight = weights[others // jnp.maximum(found.num_visited, 1)]
    high, low = (
        jnp.take_along_axis(scores, column[:, None], axis=1)[:, 0]
        for column in (found.negative, found.positive)
    )
    return masked_mean(jnp.where(found.is_found, weight * (1.0 + high - low), 0.0), mask)


def make_tagging_loss(
    apply: ApplyFn,
    loss: Callable[..., Array] = binary_cross_entropy,
    change: Callable[[Array, Stream], Stream] | None = None,
) -> LossFn:
    """Returns the loss function that trains a tagger on batches of inputs and labels.

    Args:
        apply: calls the model in training mode, see `ApplyFn`.
        loss: `(logits, labels, mask) -> scalar`; `cross_entropy` for one class per example.
        change: `(key, stream) -> stream`, what is done to examples before; None for nothing.

    Returns:
        A loss function for `musrep_jax.training.step.make_train_step`.
    """

    def loss_fn(
        params: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        stream = cast(Stream, batch)
        if change is not None:
            key, own = jax.random.split(key)
            stream = change(own, stream)
        mask = stream.get("mask")
        logits, model_state = apply(
            params, model_state, model_inputs(stream), key, train=True, mask=mask
        )
        return loss(logits, stream["labels"], mask), (model_state, {})

    return loss_fn
