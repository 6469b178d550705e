"""Trains the objective of a job as its settings say, with a log, and states saved and resumed."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from musrep_jax.config import given
from musrep_jax.runtime import distributed
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.settings import duration
from musrep_jax.training import checkpoints, program, sharding
from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective
from musrep_jax.training.step import assert_frozen_identical
from musrep_jax.types import TrainState


def fit_objective(
    job: Job,
    objective: Objective,
    settings: ml_collections.ConfigDict,
    folder: Path,
    identity: Mapping[str, Any],
) -> FitResult:
    """Trains as `settings.train` and `settings.optimizer` specify, and returns the result.

    Args:
        job: whose objective it is.
        objective: what is trained.
        settings: of the job.
        folder: of the job, for metric rows and saved states.
        identity: what a saved state must agree in to be resumed.

    Raises:
        ConfigError: if a duration is missing or given twice.
        FrozenChangedError: if a parameter that was to stay frozen moved.
    """
    if objective.solve is not None:
        return solve_objective(objective)
    train, steps_per_epoch = settings.train, objective.steps_per_epoch
    num_steps = duration(train.num_steps, train.num_epochs, steps_per_epoch, "num")
    eval_every = duration(
        train.evaluate_every_steps, train.evaluate_every_epochs, steps_per_epoch, "evaluate_every"
    )
    with contextlib.ExitStack() as stack:
        checkpointer = log = progress = None
        if train.checkpoint:
            checkpointer = stack.enter_context(
                checkpoints.TrainCheckpoints(folder / "checkpoints", identity)
            )
        if distributed.is_first():
            log = stack.enter_context(MetricsLog(folder / "metrics.jsonl"))
            progress = Progress(
                num_steps,
                label=job.describe(),
                max_seconds=None if train.max_minutes is None else 60 * train.max_minutes,
            )
            stack.callback(progress.close)
        fit = program.train(
            objective,
            given(settings.optimizer),
            key=jax.random.key(job.seed),
            num_steps=num_steps,
            eval_every=eval_every,
            layout=sharding.Layout(sharding.make_mesh(train.num_devices), train.shard_params_over),
            num_microbatches=train.num_microbatches,
            reload_best_at_switch=train.reload_best_at_switch,
            patience=train.patience,
            max_seconds=None if train.max_minutes is None else 60 * train.max_minutes,
            log_every=train.log_every_steps,
            log=log,
            progress=progress,
            checkpointer=checkpointer,
            save_every_seconds=60 * train.checkpoint_every_minutes,
            trace=folder / "trace" if train.trace and distributed.is_first() else None,
        )
    if objective.update_state is None:  # which may move what the optimizer does not
        best = sharding.to_host(fit.best_state.params)
        assert_frozen_identical(objective.variables["params"], best, objective.is_trainable)
    return fit


def solve_objective(objective: Objective) -> FitResult:
    """Returns the solution of an objective that is not trained step by step.

    Args:
        objective: with `solve`.
    """
    started = time.perf_counter()
    variables = dict(objective.solve())
    state = TrainState(
        step=jnp.zeros([], jnp.int32), params=variables.pop("params"), model_state=variables,
        opt_state=None,
    )  # fmt: skip
    metrics = {name: float(value) for name, value in objective.evaluate(state).items()}
    return FitResult(
        state=state,
        best_state=state,
        best_step=0,
        best_metrics=metrics,
        history=[{"step": 0, **metrics}],
        seconds=time.perf_counter() - started,
        stopped_early=False,
    )
