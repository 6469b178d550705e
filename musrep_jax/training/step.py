"""One update of the state: the gradient of a loss function, taken for the trained parameters only.

The tree of parameters is split into trained and frozen leaves *before* differentiation, so that
the gradient of a frozen backbone is never computed, its moments are never stored, and clipping
and weight decay never see it. BatchNorm statistics are no parameters: whether they move is the
decided by the model (the new state that `apply` returns), not here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from musrep_jax.training.objective import IsTrainable, UpdateState
from musrep_jax.training.sharding import Layout
from musrep_jax.training.streams import map_streams, stream_length
from musrep_jax.types import Array, Batch, LossFn, Metrics, PyTree, TrainState

TrainStep = Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]


_UPDATE_KEY = np.uint32(2**32 - 1)
"""Folded into a step's key for `update_state`; microbatches fold in their numbers, from 0."""


class FrozenChangedError(ValueError):
    """A frozen parameter has changed."""


def split_params(params: PyTree, is_trainable: IsTrainable | None) -> tuple[PyTree, PyTree]:
    """Returns (trained, frozen): two nested dicts that together hold every leaf of `params`.

    Args:
        params: nested dict of arrays.
        is_trainable: path of a leaf, such as `("head", "kernel")` -> whether it is trained; None
            trains every leaf.

    Raises:
        ValueError: when no leaf is trained.
    """
    if is_trainable is None:
        return params, {}
    leaves = traverse_util.flatten_dict(params)
    trained = {path: leaf for path, leaf in leaves.items() if is_trainable(path)}
    if not trained:
        names = ", ".join(sorted({path[0] for path in leaves}))
        raise ValueError(
            f"No parameter is trainable: is_trainable refused all {len(leaves)} leaves of "
            f"{names}; let it accept at least one, such as the output layer 'head'."
        )
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(frozen)


def merge_params(trained: PyTree, frozen: PyTree) -> PyTree:
    """Returns the nested dict that `split_params` split.

    Args:
        trained: nested dict of arrays.
        frozen: nested dict of arrays with other paths.
    """
    if not frozen:
        return trained
    leaves = traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(leaves)


def create_state(
    variables: PyTree,
    tx: optax.GradientTransformation,
    is_trainable: IsTrainable | None = None,
) -> TrainState:
    """Returns a state at step 0 with copies of the variables.

    They are copied because a train step gives its state's memory back to the compiler: the
    caller's `variables` stay valid for comparisons.

    Args:
        variables: what `model.init` returns: `params` and other collections.
        tx: the transformation whose state is created, for the trained parameters only.
        is_trainable: see `split_params`.
    """
    variables = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), dict(variables))
    params = variables.pop("params")
    trained, _ = split_params(params, is_trainable)
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        model_state=variables,
        opt_state=tx.init(trained),
    )


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    is_trainable: IsTrainable | None = None,
    update_state: UpdateState | None = None,
    num_microbatches: int = 1,
    layout: Layout | None = None,
) -> TrainStep:
    """Returns the compiled function (state, batch, key) -> (new state, metrics).

    The state passed in is consumed (donated): use the one returned. The key is the same for every
    step of a run; the step folds its own number in, so that a resumed run repeats its randomness.

    Args:
        loss_fn: what is minimized, see `musrep_jax.types.LossFn`.
        tx: the transformation that the state was created with.
        is_trainable: the one that the state was created with.
        update_state: what follows each update, see `Objective.update_state`; None for nothing.
        num_microbatches: parts in which the batch passes through the model, to save memory; it must
            divide the length of every stream. The gradient is that of the whole batch: parts are
            weighted by their real examples, of all streams together. (A sum of one mean per stream
            is met exactly where each part has as many real examples of a stream as the others.)
            BatchNorm normalizes by the statistics of each part, moves its running ones once per
            part, and each part has dropout of its own.
        layout: how the state lies on the devices if some of it is split over them; None leaves it
            as it is.

    Returns:
        The step. Its metrics are those of the loss function and `loss`, `grad_norm` (global norm
        of the trained parameters' gradient before clipping) and `is_finite` (bool), all scalars
        on the device.
    """

    gather, constrain = (lambda tree: tree), (lambda tree: tree)
    if layout is not None:
        gather, constrain = layout.gather, layout.constrain

    def gradients(
        trained: PyTree, frozen: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        def loss_of(trained: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
            params = merge_params(trained, frozen)
            return loss_fn(gather(params), gather(model_state), batch, key)

        (loss, (model_state, extra)), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
        return constrain(grads), constrain(model_state), {**extra, "loss": loss}

    def accumulated_gradients(
        trained: PyTree, frozen: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        parts = split_batch(batch, num_microbatches)
        counts: list[Array] = []
        map_streams(lambda stream: counts.append(stream["mask"].sum(axis=1)), parts)
        num_real = functools.reduce(jnp.add, counts)
        weights = num_real / jnp.maximum(num_real.sum(), 1)

        def weighted(model_state: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
            batch, weight, index = part
            grads, model_state, metrics = gradients(
                trained, frozen, model_state, batch, jax.random.fold_in(key, index)
            )
            return model_state, jax.tree.map(lambda leaf: leaf * weight, (grads, metrics))

        def add(carry: tuple[PyTree, PyTree], part: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
            model_state, terms = weighted(carry[0], part)
            return (model_state, jax.tree.map(jnp.add, carry[1], terms)), None

        everything = (parts, weights, jnp.arange(num_microbatches))
        first = jax.tree.map(lambda leaf: leaf[0], everything)
        _, shapes = jax.eval_shape(weighted, model_state, first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (model_state, (grads, metrics)), _ = jax.lax.scan(add, (model_state, zeros), everything)
        return grads, model_state, metrics

    take_gradients = gradients if num_microbatches == 1 else accumulated_gradients

    def train_step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        trained, frozen = split_params(state.params, is_trainable)
        key = jax.random.fold_in(key, state.step)
        grads, model_state, metrics = take_gradients(trained, frozen, state.model_state, batch, key)
        updates, opt_state = tx.update(grads, state.opt_state, trained)
        new_state = TrainState(
            step=state.step + 1,
            params=merge_params(optax.apply_updates(trained, updates), frozen),
            model_state=model_state,
            opt_state=opt_state,
        )
        if update_state is not None:
            updated = update_state(new_state, batch, jax.random.fold_in(key, _UPDATE_KEY))
            _check_updated(new_state, updated)
            new_state = updated
        new_state = constrain(new_state)
        grad_norm = optax.tree.norm(grads)
        is_finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(grad_norm)
        return new_state, {**metrics, "grad_norm": grad_norm, "is_finite": is_finite}

    return jax.jit(train_step, donate_argnums=0)


def _check_updated(before: TrainState, after: TrainState) -> None:
    """Raises unless `update_state` kept all shapes and types, and the optimizer's part."""
    if not isinstance(after, TrainState):
        raise ValueError(f"update_state returned a {type(after).__name__}; return the state.")
    for name in ("step", "opt_state"):
        pairs = zip(
            jax.tree.leaves(getattr(before, name)),
            jax.tree.leaves(getattr(after, name)),
            strict=False,
        )
        if any(old is not new for old, new in pairs):
            raise ValueError(f"update_state changed {name!r}, which the step alone may change.")
    old, new = (
        {jax.tree_util.keystr(path): jax.typeof(leaf) for path, leaf in leaves}
        for leaves in (jax.tree_util.tree_leaves_with_path(state) for state in (before, after))
    )
    for path in sorted(old.keys() | new.keys()):
        if str(old.get(path)) != str(new.get(path)):
            raise ValueError(
                f"update_state made state{path} {new.get(path, 'vanish')}, which was "
                f"{old.get(path, 'not there')}; every array must keep its shape and type."
            )


def split_batch(batch: Batch, num_parts: int) -> Batch:
    """Returns the batch with arrays (parts, examples / parts, ...), every stream with a mask.

    Part i takes every `num_parts`-th example of a stream from i on: then each device keeps the
    examples it holds, nothing moves between devices, and streams of one length stay side by side.

    Args:
        batch: one stream of arrays (examples, ...), or named streams.
        num_parts: number of parts, which must divide the length of every stream.

    Raises:
        ValueError: when it does not, or arrays of one stream differ in length.
    """

    def split_stream(stream: Batch) -> Batch:
        size = stream_length(stream)
        if size % num_parts:
            raise ValueError(
                f"num_microbatches is {num_parts}, which does not divide the batch of {size} "
                f"({', '.join(stream)})."
            )

        def split(leaf: Array) -> Array:
            leaf = jnp.asarray(leaf)
            return leaf.reshape(size // num_parts, num_parts, *leaf.shape[1:]).swapaxes(0, 1)

        mask = stream.get("mask", jnp.ones(size, jnp.float32))
        return jax.tree.map(split, {**stream, "mask": mask})

    return map_streams(split_stream, batch)


def make_eval_step(
    apply: Callable[..., tuple[Any, PyTree]],
) -> Callable[[PyTree, PyTree, Array], Any]:
    """Returns the compiled function (params, model_state, inputs) -> outputs in evaluation mode.

    Args:
        apply: `(params, model_state, inputs, key, *, train) -> (outputs, model_state)`.
    """

    def eval_step(params: PyTree, model_state: PyTree, inputs: Array) -> Any:
        return apply(params, model_state, inputs, None, train=False)[0]

    return jax.jit(eval_step)


def assert_frozen_identical(
    before: PyTree, after: PyTree, is_trainable: IsTrainable | None
) -> None:
    """Raises when a frozen parameter differs in any bit from what it was.

    Args:
        before: parameters before training, a nested dict.
        after: parameters after training.
        is_trainable: the one that was trained with.

    Raises:
        FrozenChangedError: naming the first frozen leaf that changed or is missing.
    """
    if is_trainable is None:
        return
    old, new = traverse_util.flatten_dict(before), traverse_util.flatten_dict(after)
    for path in sorted(old.keys() | new.keys()):
        if is_trainable(path):
            continue
        name = "/".join(path)
        if path not in old or path not in new:
            raise FrozenChangedError(
                f"The frozen parameter {name} exists only {'after' if path in new else 'before'} "
                "training; the two trees must have the same leaves."
            )
        if np.asarray(old[path]).tobytes() != np.asarray(new[path]).tobytes():
            raise FrozenChangedError(
                f"The frozen parameter {name} changed in training; it must stay bit-identical. "
                "Check that is_trainable is the same in create_state and make_train_step."
            )
