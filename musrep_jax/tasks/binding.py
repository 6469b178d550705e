"""How a tagger is called in training: what is trained, what is frozen, what is cached.

The compiled functions are made once for a model and a way of training, and shared by all jobs of
an experiment that agree in both, so that a matrix of jobs compiles a handful of programs.
"""

import functools
from collections.abc import Callable

import jax

from musrep_jax.config import choose
from musrep_jax.kernels.formulations import get_single_run_compiler_options
from musrep_jax.losses import ApplyFn, binary_cross_entropy, cross_entropy, make_tagging_loss
from musrep_jax.models import Encoder, Tagger
from musrep_jax.models.layers import mask_padding
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.training.step import IsTrainable
from musrep_jax.types import Array, LossFn, PyTree

NO_AUGMENTATION = Augmentation()
BATCH_NORM = ("frozen", "update")
AUTO = "auto"
"""The setting `train.loss` that is one of `LOSSES` as soon as the labels are known."""
LOSSES = {"binary_cross_entropy": binary_cross_entropy, "cross_entropy": cross_entropy}
OUTPUT_OF_LOSS = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}
"""Loss -> what turns logits into probabilities, see `evaluation.aggregation`."""


def get_output_activation(loss: str) -> str:
    """Returns "sigmoid" or "softmax", what a model trained with the loss gives.

    Args:
        loss: a key of `LOSSES`.

    Raises:
        ConfigError: if there is no such loss.
    """
    return OUTPUT_OF_LOSS[choose(loss, sorted(LOSSES), "train.loss")]


def make_apply(model: Tagger, batch_norm: str) -> ApplyFn:
    """Returns how a loss calls the whole model.

    Args:
        model: the tagger.
        batch_norm: "update" normalizes by the batch and moves the running statistics; "frozen"
            normalizes by the running statistics and keeps them.

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
        with mask_padding(mask):
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
        variables, name = {"params": params, **model_state}, model.frozen_output
        value = model.apply(variables, inputs, (name,), method="outputs")[name]
        return classify(params, model_state, jax.lax.stop_gradient(value), key, train=train)

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
        logits = model.apply(variables, inputs, train=train, rngs=rngs, method="classify_frozen")
        return logits, model_state

    return apply


@functools.lru_cache(maxsize=64)
def make_loss(
    model: Tagger,
    trained: str,
    batch_norm: str,
    loss: str = "binary_cross_entropy",
    augmentation: Augmentation = NO_AUGMENTATION,
) -> tuple[LossFn, IsTrainable | None]:
    """Returns the loss of a tagger and which parameters it trains; equal arguments share both.

    Args:
        model: the tagger.
        trained: "model", "head" (the output layer, the backbone runs), or "cached" (the output
            layer, on embeddings computed before).
        batch_norm: "frozen" or "update".
        loss: a key of `LOSSES`.
        augmentation: how examples are changed; embeddings were computed before, of none.

    Raises:
        ConfigError: if there is no such `batch_norm` or loss.
    """
    choose(batch_norm, BATCH_NORM, "transfer.batch_norm")
    loss_of_logits = LOSSES[choose(loss, sorted(LOSSES), "train.loss")]
    if trained == "cached":
        return make_tagging_loss(make_embedding_apply(model), loss_of_logits), model.is_head_path
    change = augmentation.make_change(model.sample_rate)
    if trained == "head" and batch_norm == "frozen":
        apply = augmentation.mask(make_head_apply(model))
        return make_tagging_loss(apply, loss_of_logits, change), model.is_head_path
    # Published behavior for the output layer: the backbone runs in training mode.
    apply = augmentation.mask(make_apply(model, batch_norm))
    is_trainable = model.is_head_path if trained == "head" else None
    return make_tagging_loss(apply, loss_of_logits, change), is_trainable


@functools.lru_cache(maxsize=64)
def make_forward(
    model: Encoder,
    names: tuple[str, ...] = ("logits", "embedding"),
    reduce: Callable[[Array], Array] | None = None,
    pool: str | None = None,
) -> Callable[[PyTree, Array], dict[str, Array]]:
    """Returns the compiled function (variables, inputs) -> outputs by name, in evaluation.

    What is not asked for is not computed.

    Args:
        model: the model.
        names: of outputs, of those in `model.output_names()`.
        reduce: applied to every output on the device, such as a norm; functions are compared by
            identity.
        pool: over time, see `Encoder.outputs`.

    Raises:
        ConfigError: if the model gives no output of a name.
    """
    for name in names:
        choose(name, model.output_names(), "The output of the model")

    def forward(variables: PyTree, inputs: Array) -> dict[str, Array]:
        found = model.apply(variables, inputs, names, pool=pool, method="outputs")
        return found if reduce is None else {name: reduce(part) for name, part in found.items()}

    return jax.jit(forward)


@functools.lru_cache(maxsize=64)
def make_classify(model: Tagger) -> Callable[[PyTree, Array], Array]:
    """Returns the compiled function (variables, `frozen_output`) -> logits, in evaluation."""
    return jax.jit(
        lambda variables, value: model.apply(
            variables, value, train=False, method="classify_frozen"
        )
    )


@functools.lru_cache(maxsize=64)
def make_init(model: Tagger) -> Callable[[Array, Array], PyTree]:
    """Returns the compiled function (key, inputs) -> variables with fresh values."""
    return jax.jit(
        lambda key, inputs: model.init({"params": key}, inputs, train=False),
        compiler_options=get_single_run_compiler_options(),
    )
