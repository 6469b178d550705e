"""A rate that drops when validation no longer improves: where, to what, and after a resume."""

import functools
import itertools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_training import assert_trees_equal

from musrep_jax.training import logs
from musrep_jax.training.checkpoints import TrainCheckpoints
from musrep_jax.training.loop import Interrupted
from musrep_jax.training.objective import Objective
from musrep_jax.training.program import make_program, train
from musrep_jax.training.sharding import Layout, make_mesh

KEY = jax.random.key(0)
LOSSES = (5, 3, 4, 4, 2, 3, 3, 3, 3, 3, 3, 3)
"""Validation losses, one per two steps: the best are of steps 4 and 10; after two without a better
one the rate drops, at steps 8, 14 and 18; the fourth plateau, at step 22, ends the training."""
SETTINGS = {
    "name": "sgd_plateau", "learning_rate": 0.5, "drop_factor": 0.5, "drop_after": 2,
    "num_drops": 3, "momentum": 0.5, "nesterov": False,
}  # fmt: skip


def loss_fn(params, model_state, batch, key):
    return jnp.mean(0.05 * (params["x"] - batch["audio"]) ** 2), (model_state, {})


def make_batches(start_step):
    for step in itertools.count(start_step):
        yield {"audio": np.full((2, 1), np.sin(step), np.float32), "mask": np.ones(2, np.float32)}


def evaluate(state, losses=LOSSES):
    return {"loss": losses[int(state.step) // 2 - 1]}


def make_objective(batches=make_batches):
    return Objective(
        variables={"params": {"x": jnp.ones(())}},
        loss_fn=loss_fn,
        batches=batches,
        evaluate=evaluate,
        select_by=("loss", "min"),
        steps_per_epoch=2,
    )


run = functools.partial(train, key=KEY, num_steps=100, eval_every=2, log_every=1)


def numpy_run(reload_best, drops=(8, 14, 18), last=22):
    """Returns x after the last step, and the rate of each step."""
    x, momentum, rate, rates = np.float32(1), np.float32(0), 0.5, []
    best = None
    for step in range(last):
        gradient = np.float32(0.1) * (x - np.float32(np.sin(step)))
        momentum = np.float32(0.5) * momentum + gradient
        x = x - np.float32(rate) * momentum
        rates.append(rate)
        if step + 1 in (4, 10):
            best = x
        if step + 1 in drops:
            rate /= 2
            if reload_best:
                x, momentum = best, np.float32(0)
    return x, rates


@pytest.mark.parametrize("reload_best", [True, False])
def test_stages_of_a_training(tmp_path, reload_best):
    settings = SETTINGS | {"reload_best": reload_best}
    with logs.MetricsLog(tmp_path / "metrics.jsonl") as log:
        result = run(make_objective(), settings, log=log)
    x, rates = numpy_run(reload_best)
    assert result.stopped_early and int(result.state.step) == 22
    assert result.best_step == 10
    np.testing.assert_allclose(result.state.params["x"], x, rtol=1e-5)
    rows = [row for row in logs.read_rows(log.path) if row["kind"] == "train"]
    assert [row["learning_rate"] for row in rows] == rates


def test_one_program_whatever_the_rate_also_over_devices():
    layout = Layout(make_mesh(2))
    result = run(make_objective(), SETTINGS, layout=layout)
    _, step = make_program(make_objective(), SETTINGS, num_steps=100, layout=layout)
    assert step._cache_size() == 1
    np.testing.assert_allclose(result.state.params["x"], numpy_run(True)[0], rtol=1e-5)


def test_the_rate_falls_within_a_stage_and_starts_anew_at_a_drop(tmp_path):
    settings = SETTINGS | {"step_decay": 1.0}
    with logs.MetricsLog(tmp_path / "metrics.jsonl") as log:
        run(make_objective(), settings, log=log, num_steps=10)
    rows = [row for row in logs.read_rows(log.path) if row["kind"] == "train"]
    rates = [0.5 / (1 + step) for step in range(8)] + [0.25, 0.125]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], rates, rtol=1e-6)


def test_a_drop_is_not_made_at_the_last_step():
    """The last state is that of the last step, and not the best one."""
    result = run(make_objective(), SETTINGS, num_steps=8)
    np.testing.assert_allclose(result.state.params["x"], numpy_run(True, (), 8)[0], rtol=1e-5)
    assert not result.stopped_early


def test_killed_between_and_after_drops_it_goes_on_bit_for_bit(tmp_path):
    kills = [7, 9, 15, 19]

    def killing(start_step):
        for step, batch in enumerate(make_batches(start_step), start_step):
            if step in kills:
                kills.remove(step)
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    settings = SETTINGS | {"step_decay": 0.1}
    whole = run(make_objective(), settings)
    num_parts, parts = 0, None
    while parts is None:
        num_parts += 1
        with TrainCheckpoints(tmp_path / "checkpoints", {}) as checkpointer:
            try:
                parts = run(make_objective(killing), settings, checkpointer=checkpointer)
            except Interrupted as interrupted:
                assert int(interrupted.result.state.step) == checkpointer.steps[-1]
    assert num_parts == 5 and not kills
    assert_trees_equal(parts.state, whole.state)
    assert_trees_equal(parts.best_state, whole.best_state)
    assert parts.history == whole.history
    assert parts.stopped_early
