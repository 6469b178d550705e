"""From an objective and an optimizer's settings to a trained state: program, state and loop."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.training.loop import Checkpointer, FitResult, fit
from musrep_jax.training.objective import IsTrainable, Objective, UpdateState
from musrep_jax.training.optim import OPTIMIZERS, Optimizer, make_optimizer
from musrep_jax.training.sharding import Layout
from musrep_jax.training.step import TrainStep, create_state, make_train_step
from musrep_jax.types import Array, LossFn


def make_program(
    objective: Objective,
    optimizer: Mapping[str, Any],
    *,
    num_steps: int,
    num_microbatches: int = 1,
    layout: Layout | None = None,
) -> tuple[Optimizer, TrainStep]:
    """Returns the optimizer and the compiled train step of an objective.

    Objectives whose functions are the same share one program, whatever their variables and data.

    Args:
        objective: what to train.
        optimizer: settings for `make_optimizer`.
        num_steps: length of the training.
        num_microbatches: see `make_train_step`.
        layout: how the state lies on the devices; None for one device.

    Raises:
        ConfigError: if the settings are wrong, see `make_optimizer`.
    """
    entry = OPTIMIZERS.get(str(optimizer.get("name")))
    depends = entry is None or entry.depends_on_length
    return _make_program(
        objective.loss_fn,
        objective.is_trainable,
        objective.update_state,
        tuple(sorted((name, _hashable(value)) for name, value in optimizer.items())),
        (objective.steps_per_epoch, num_steps) if depends else (1, 1),
        num_microbatches,
        None if layout is None or layout.shard_over is None else layout,
    )


@functools.lru_cache(maxsize=64)
def _make_program(
    loss_fn: LossFn,
    is_trainable: IsTrainable | None,
    update_state: UpdateState | None,
    settings: tuple[tuple[str, Any], ...],
    steps: tuple[int, int],
    num_microbatches: int,
    layout: Layout | None,
) -> tuple[Optimizer, TrainStep]:
    optimizer = make_optimizer(dict(settings), steps_per_epoch=steps[0], num_steps=steps[1])
    step = make_train_step(
        loss_fn,
        optimizer.tx,
        is_trainable=is_trainable,
        update_state=update_state,
        num_microbatches=num_microbatches,
        layout=layout,
    )
    return optimizer, step


def _hashable(value: Any) -> Any:
    """Returns lists as tuples, so that the value can be a key."""
    return tuple(value) if isinstance(value, list) else value


def train(
    objective: Objective,
    optimizer: Mapping[str, Any],
    *,
    key: Array,
    num_steps: int,
    eval_every: int,
    layout: Layout | None = None,
    num_microbatches: int = 1,
    reload_best_at_switch: bool = True,
    patience: int | None = None,
    max_seconds: float | None = None,
    log_every: int = 20,
    log: MetricsLog | None = None,
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
    save_every_seconds: float = 0.0,
    trace: Path | None = None,
) -> FitResult:
    """Returns the result of training an objective, see `musrep_jax.training.loop.fit`.

    Args:
        objective: what to train; its variables stay as they are.
        optimizer: settings for `make_optimizer`.
        key: random key of the run.
        num_steps: updates in the whole training.
        eval_every: updates between evaluations.
        layout: the devices, and how the state lies on them; None for the default device.
        num_microbatches: see `make_train_step`.
        reload_best_at_switch: whether training continues from the best weights where the optimizer
            begins a new phase (`Optimizer.switch_steps`).
        patience: see `fit`, as all that follow.
        log_every: updates between rows of the log.
        log: where rows go.
        progress: where progress is shown.
        checkpointer: keeps the state, and gives it back.
        save_every_seconds: least time between saves.
        trace: folder for a trace of a few steps.

    Raises:
        ConfigError: if the optimizer's settings are wrong.
        NonFiniteLossError, Interrupted, ValueError: see `fit`.
    """
    built, train_step = make_program(
        objective,
        optimizer,
        num_steps=num_steps,
        num_microbatches=num_microbatches,
        layout=layout,
    )
    state = create_state(objective.variables, built.tx, objective.is_trainable)
    return fit(
        state if layout is None else layout.place(state),
        train_step,
        objective.batches,
        key=key,
        num_steps=num_steps,
        eval_every=eval_every,
        evaluate=objective.evaluate,
        select_by=objective.select_by,
        learning_rate=built.learning_rate,
        patience=patience,
        max_seconds=max_seconds,
        reload_best_at=built.switch_steps if reload_best_at_switch else (),
        plateau=built.plateau,
        mesh=None if layout is None else layout.mesh,
        log_every=log_every,
        log=log,
        progress=progress,
        checkpointer=checkpointer,
        save_every_seconds=save_every_seconds,
        trace=trace,
    )
