"""A small model and its data, with which the tests of the training room train."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musrep_jax.losses import make_tagging_loss
from musrep_jax.training.optim import make_optimizer
from musrep_jax.training.step import create_state, make_train_step

NUM_SAMPLES, NUM_CLASSES = 8, 3


class Toy(nn.Module):
    """Three wide layers and a head; BatchNorm and dropout when asked for."""

    width: int = 16
    has_batch_norm: bool = False
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool, mask=None):
        if mask is not None:
            mask = mask[:, None] > 0
        for index in range(3):
            # A bias before BatchNorm has no gradient but rounding, which Adam would blow up.
            x = nn.Dense(self.width, use_bias=not self.has_batch_norm, name=f"dense{index}")(x)
            if self.has_batch_norm:
                x = nn.BatchNorm(use_running_average=not train, name=f"bn{index}")(x, mask=mask)
            x = nn.relu(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(NUM_CLASSES, name="head")(x)


def make_apply(model):
    def apply(params, model_state, inputs, key, *, train, mask=None):
        variables = {"params": params, **model_state}
        if not train:
            return model.apply(variables, inputs, train=False), model_state
        options = {"mutable": list(model_state), "rngs": {"dropout": key}, "mask": mask}
        return model.apply(variables, inputs, train=True, **options)

    return apply


def make_batch(size, seed=0):
    rng = np.random.default_rng(seed)
    audio = rng.normal(size=(size, NUM_SAMPLES)).astype(np.float32)
    labels = (audio[:, :NUM_CLASSES] > 0).astype(np.float32)
    return {"audio": audio, "labels": labels, "mask": np.ones(size, np.float32)}


def is_head(path):
    return path[0] == "head"


def setup(settings=None, *, is_trainable=None, num_microbatches=1, **fields):
    """Returns (variables, state, train step) of a toy model."""
    model = Toy(**fields)
    variables = model.init(jax.random.key(0), jnp.zeros((2, NUM_SAMPLES)), train=False)
    settings = settings or {"name": "adam", "learning_rate": 0.01}
    tx = make_optimizer(settings, steps_per_epoch=5).tx
    state = create_state(variables, tx, is_trainable)
    step = make_train_step(
        make_tagging_loss(make_apply(model)),
        tx,
        is_trainable=is_trainable,
        num_microbatches=num_microbatches,
    )
    return variables, state, step


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def assert_trees_equal(a, b):
    """Bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), a, b)


def make_batches(start_step, size=8):
    """An endless stream whose batch depends on its number only."""
    step = start_step
    while True:
        yield make_batch(size, step)
        step += 1
