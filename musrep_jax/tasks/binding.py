"""How a tagger is called in training: what is trained, what is frozen, what is cached.

The compiled functions are made once for a model and a way of training, and shared by all cells of
an experiment that agree in both, so that a matrix of cells compiles a handful of programs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from musrep_jax.config import choose
from musrep_jax.kernels.formulations import compiled_for_one_run
from musrep_jax.losses import ApplyFn, binary_cross_entropy, cross_entropy, make_tagging_loss
from musrep_jax.models import Tagger
from musrep_jax.models.layers import real_examples
from musrep_jax.training.optim import Optimizer, make_optimizer
from musrep_jax.training.sharding import Layout
from musrep_jax.training.step import TrainStep, make_train_step
from musrep_jax.types import Array, ModelOutput, PyTree

BATCH_NORM = ("frozen", "update")
LOSSES = {"binary_cross_entropy": binary_cross_entropy, "cross_entropy": cross_entropy}
OUTPUTS = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}
"""Loss -> what turns logits into probabilities, see `evaluation.aggregation`."""


def output_of(loss: str) -> str:
    """Returns "sigmoid" or "softmax", what a model trained with the loss gives.

    Args:
        loss: a key of `LOSSES`.

    Raises:
        ConfigError: if there is no such loss.
    """
    return OUTPUTS[choose(loss, sorted(LOSSES), "train.loss")]


def is_head(path: tuple[str, ...]) -> bool:
    """Returns whether a parameter belongs to the output layer."""
    return path[0] == "head"


def make_apply(model: Tagger, batch_norm: str) -> ApplyFn:
    """Returns how a loss calls the whole model.

    Args:
        model: the tagger.
        batch_norm: "update" normalises by the batch and moves the running statistics; "frozen"
            normalises by the running statistics and keeps them.

    Returns:
        `(params, model_state, inputs, key, *, train, mask) -> (logits, model_state)`.
    """
    choose(batch_norm, BATCH_NORM, "transfer.batch_norm")

    def apply(
        params: PyTree,
        model_state: PyTree,
        inputs: Array,
        key: Array | None,
        *,
        train: bool,
        mask: Array | None = None,
    ) -> tuple[Array, PyTree]:
        variables = {"params": params, **model_state}
        rngs = {"dropout": key} if train else None
        if not train or batch_norm == "frozen":
            return model.apply(variables, inputs, train=train, rngs=rngs).logits, model_state
        with real_examples(mask):
            output, updated = model.apply(
                variables, inputs, train=True, rngs=rngs, mutable=["batch_stats"]
            )
        return output.logits, {**model_state, **updated}

    return apply


def make_head_apply(model: Tagger) -> ApplyFn:
    """Returns how a loss calls the output layer on top of a backbone that runs as in evaluation."""
    classify = make_embedding_apply(model)

    def apply(
        params: PyTree,
        model_state: PyTree,
        inputs: Array,
        key: Array | None,
        *,
        train: bool,
        mask: Array | None = None,
    ) -> tuple[Array, PyTree]:
        embedding = model.apply({"params": params, **model_state}, inputs, train=False).embedding
        return classify(params, model_state, jax.lax.stop_gradient(embedding), key, train=train)

    return apply


def make_embedding_apply(model: Tagger) -> ApplyFn:
    """Returns how a loss calls the output layer on embeddings that were computed before."""

    def apply(
        params: PyTree,
        model_state: PyTree,
        inputs: Array,
        key: Array | None,
        *,
        train: bool,
        mask: Array | None = None,
    ) -> tuple[Array, PyTree]:
        variables = {"params": params, **model_state}
        rngs = {"dropout": key} if train else None
        logits = model.apply(variables, inputs, train=train, rngs=rngs, method="classify")
        return logits, model_state

    return apply


@functools.lru_cache(maxsize=64)
def _program(
    model: Tagger,
    trained: str,
    batch_norm: str,
    loss: str,
    settings: tuple,
    steps: tuple[int, int],
    num_microbatches: int,
    layout: Layout | None,
) -> tuple[Optimizer, TrainStep]:
    optimizer = make_optimizer(dict(settings), steps_per_epoch=steps[0], num_steps=steps[1])
    if trained == "cached":
        apply, trainable = make_embedding_apply(model), is_head
    elif trained == "head" and batch_norm == "frozen":
        apply, trainable = make_head_apply(model), is_head
    else:
        # Published behaviour for the output layer: the backbone runs in training mode.
        apply, trainable = make_apply(model, batch_norm), is_head if trained == "head" else None
    loss_fn = make_tagging_loss(apply, LOSSES[loss])
    step = make_train_step(
        loss_fn,
        optimizer.tx,
        is_trainable=trainable,
        num_microbatches=num_microbatches,
        layout=layout,
    )
    return optimizer, step


def make_program(
    model: Tagger,
    *,
    trained: str,
    batch_norm: str,
    optimizer: Mapping[str, Any],
    steps_per_epoch: int,
    num_steps: int,
    loss: str = "binary_cross_entropy",
    num_microbatches: int = 1,
    layout: Layout | None = None,
) -> tuple[Optimizer, TrainStep]:
    """Returns the optimiser and the compiled train step; equal arguments share one program.

    Args:
        model: the tagger.
        trained: "model", "head" (the output layer, the backbone runs), or "cached" (the output
            layer, on embeddings computed before).
        batch_norm: "frozen" or "update".
        optimizer: settings for `make_optimizer`.
        steps_per_epoch: batches in one pass over the training tracks.
        num_steps: length of the training.
        loss: a key of `LOSSES`.
        num_microbatches: see `make_train_step`.
        layout: see `make_train_step`.
    """
    choose(batch_norm, BATCH_NORM, "transfer.batch_norm")
    settings = tuple(sorted((k, _frozen(v)) for k, v in optimizer.items()))
    uses_epochs = optimizer.get("name") not in ("adam",)
    steps = (steps_per_epoch, num_steps) if uses_epochs else (1, 1)
    return _program(model, trained, batch_norm, loss, settings, steps, num_microbatches, layout)


def _frozen(value: Any) -> Any:
    """Returns lists as tuples, so that the value can be a key."""
    return tuple(value) if isinstance(value, list) else value


@functools.lru_cache(maxsize=64)
def make_forward(model: Tagger) -> Callable[[PyTree, Array], tuple[Array, Array]]:
    """Returns the compiled function (variables, inputs) -> (logits, embedding), in evaluation."""

    def forward(variables: PyTree, inputs: Array) -> tuple[Array, Array]:
        output: ModelOutput = model.apply(variables, inputs, train=False)
        return output.logits, output.embedding

    return jax.jit(forward)


@functools.lru_cache(maxsize=64)
def make_classify(model: Tagger) -> Callable[[PyTree, Array], Array]:
    """Returns the compiled function (variables, embedding) -> logits, in evaluation."""
    return jax.jit(
        lambda variables, embedding: model.apply(
            variables, embedding, train=False, method="classify"
        )
    )


@functools.lru_cache(maxsize=64)
def make_init(model: Tagger) -> Callable[[Array, Array], PyTree]:
    """Returns the compiled function (key, inputs) -> variables with fresh values."""
    return jax.jit(
        lambda key, inputs: model.init({"params": key}, inputs, train=False),
        compiler_options=compiled_for_one_run(),
    )
