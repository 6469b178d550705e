"""The seam: what an objective may be, and what training makes of it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.training.objective import Objective
from musrep_jax.training.program import make_program, train

PARTS = {
    "variables": {"params": {}},
    "loss_fn": lambda params, model_state, batch, key: (0.0, (model_state, {})),
    "batches": lambda start_step: iter(()),
    "evaluate": lambda state: {"roc_auc": 0.5},
    "select_by": ("roc_auc", "max"),
    "steps_per_epoch": 1,
}


@pytest.mark.parametrize(
    "select_by", ["roc_auc", ("roc_auc",), ("roc_auc", "larger"), ("max", None), (1, "max"), None]
)
def test_the_direction_of_selection_is_explicit(select_by):
    with pytest.raises(ValueError, match=r"select_by is .*'max' or 'min'"):
        Objective(**PARTS | {"select_by": select_by})


@pytest.mark.parametrize(
    "part, words",
    [
        ({"variables": {"batch_stats": {}}}, "lack 'params'; they have 'batch_stats'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; it must be at least 1"),
    ],
)
def test_what_no_training_could_use_is_refused(part, words):
    with pytest.raises(ValueError, match=words):
        Objective(**PARTS | part)


def make_objective(**changes):
    """Learns one number, `x`, to be that of the stream; `mean` follows it."""

    def evaluate(state):
        return {"error": abs(float(state.params["x"]) - 3.0)}

    def batches(start_step):
        return ({"audio": np.full((2, 1), 3.0, np.float32)} for _ in itertools.count())

    variables = {"params": {"x": jnp.zeros(())}, "averaged": {"x": jnp.zeros(())}}
    parts = PARTS | {
        "variables": variables,
        "loss_fn": squared_error,
        "batches": batches,
        "evaluate": evaluate,
        "select_by": ("error", "min"),
        "update_state": average,
    }
    return Objective(**parts | changes)


def squared_error(params, model_state, batch, key):
    return jnp.mean((params["x"] - batch["audio"]) ** 2), (model_state, {})


def average(state, batch, key):
    mean = 0.5 * state.model_state["averaged"]["x"] + 0.5 * state.params["x"]
    return state.replace(model_state={"averaged": {"x": mean}})


SGD = {"name": "sgd", "learning_rate": 0.25, "momentum": 0.0}


def test_what_follows_the_update_sees_the_new_parameters():
    result = train(make_objective(), SGD, key=jax.random.key(0), num_steps=3, eval_every=1)
    x = mean = 0.0
    for _ in range(3):
        x -= 0.25 * 2 * (x - 3.0)
        mean = 0.5 * mean + 0.5 * x
    assert float(result.state.params["x"]) == x == 2.625
    assert float(result.state.model_state["averaged"]["x"]) == mean
    assert result.best_step == 3 and result.best_metrics == {"error": 0.375}
    assert float(result.best_state.model_state["averaged"]["x"]) == mean


@pytest.mark.parametrize(
    ("update_state", "words"),
    [
        (lambda state, batch, key: state.replace(step=state.step + 1), "changed 'step'"),
        (lambda state, batch, key: state.replace(params={}), r"params\['x'\] vanish"),
        (
            lambda state, batch, key: state.replace(params={"x": jnp.zeros(2)}),
            r"params\['x'\] float32\[2\], which was float32\[\]",
        ),
        (lambda state, batch, key: state.params, "returned a dict"),
    ],
)
def test_what_follows_the_update_keeps_the_shape_of_the_state(update_state, words):
    objective = make_objective(update_state=update_state)
    with pytest.raises(ValueError, match=words):
        train(objective, SGD, key=jax.random.key(0), num_steps=1, eval_every=1)


def test_objectives_of_the_same_functions_share_one_program():
    one = make_program(make_objective(), SGD, num_steps=3)
    two = make_program(make_objective(steps_per_epoch=7), SGD, num_steps=5)
    assert one[1] is two[1]  # neither epochs nor the length matter to this optimizer
    decay = {"name": "warmup_decay"}
    three, four, five = (
        make_program(make_objective(steps_per_epoch=epoch), decay, num_steps=3)[1]
        for epoch in (1, 2, 1)
    )
    assert three is five and three is not four
    assert make_program(make_objective(update_state=None), SGD, num_steps=3)[1] is not one[1]


def test_a_queue_takes_from_the_batch_and_draws_numbers_of_its_own():
    """It is filled from the whole batch, also where the batch passes through in parts."""

    def noisy(params, model_state, batch, key):
        loss, _ = squared_error(params, model_state, batch, key)
        return loss, ({**model_state, "drawn": jax.random.uniform(key)}, {})

    def push(state, batch, key):
        before = state.model_state
        queue = jnp.roll(before["queue"], 1).at[0].set(batch["audio"].sum())
        drawn = jnp.stack([before["drawn"], jax.random.uniform(key)])
        pairs = jnp.roll(before["pairs"], 1, axis=0).at[0].set(drawn)
        return state.replace(model_state={**before, "queue": queue, "pairs": pairs})

    def batches(start_step):
        for step in itertools.count(start_step):
            yield {"audio": np.full((4, 1), step, np.float32), "mask": np.ones(4, np.float32)}

    objective = make_objective(
        variables={
            "params": {"x": jnp.zeros(())},
            "queue": jnp.zeros(3),
            "pairs": jnp.zeros((3, 2)),
            "drawn": jnp.zeros(()),
        },
        loss_fn=noisy,
        update_state=push,
        batches=batches,
    )
    for num_microbatches in (1, 2):
        run = functools.partial(train, objective, SGD, key=jax.random.key(0), eval_every=1)
        state = run(num_steps=4, num_microbatches=num_microbatches).state
        np.testing.assert_array_equal(state.model_state["queue"], [12, 8, 4])
        assert len(np.unique(state.model_state["pairs"])) == 6
        again = run(num_steps=4, num_microbatches=num_microbatches).state
        np.testing.assert_array_equal(again.model_state["pairs"], state.model_state["pairs"])
