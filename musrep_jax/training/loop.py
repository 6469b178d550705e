"""The one training loop: steps, evaluation, the best weights, stopping, saving and resuming.

The loop never waits for the device step by step. Metrics stay on the device and are fetched every
`log_every` steps; at most two steps are in flight, so that batches do not pile up in the device's
memory. A loss that is not finite is therefore found up to `log_every` steps late, but always
before an evaluation or a save.
"""

import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from musrep_jax.runtime import distributed
from musrep_jax.runtime.signals import StopRequest, StopSignalReceived, stop_on_signals
from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.training.meter import Meter
from musrep_jax.training.objective import Direction, check_select_by
from musrep_jax.training.plateau import Plateau
from musrep_jax.training.prefetch import Prefetch
from musrep_jax.training.sharding import place_batch, shard_batch
from musrep_jax.training.trace import StepTrace
from musrep_jax.types import Array, Batch, Metrics, PyTree, TrainState

FINAL_SAVE_INTERVAL_SHARE = 0.1
"""Fraction of the time between saves after which the end of training is saved, too."""


class FitResult(NamedTuple):
    """The result of a training, in memory.

    Attributes:
        state: the state after the last step.
        best_state: the state with the best validation value, without optimizer state (None);
            None if a training was interrupted before its first evaluation.
        best_step: the step of `best_state`.
        best_metrics: its validation metrics.
        history: one row per evaluation: `step` and the metrics.
        seconds: wall time, over all parts of a resumed training.
        stopped_early: whether patience ended it.
        ran_out_of_time: whether the time that it had ended it.
    """

    state: TrainState
    best_state: TrainState | None
    best_step: int | None
    best_metrics: dict[str, float] | None
    history: list[dict[str, float]]
    seconds: float
    stopped_early: bool
    ran_out_of_time: bool = False


class Interrupted(StopSignalReceived):
    """Ctrl-C, SIGTERM or SIGHUP ended training after a complete step.

    Attributes:
        result: what was reached, best weights so far included; it is saved if `fit` had a
            checkpointer.
        signal_number: the signal received.
    """

    def __init__(self, result: FitResult, signal_number: int) -> None:
        super().__init__(signal_number)
        self.result = result


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
        state: the training state to go on from.
        run: the loop's own memory, as it was saved.
        best_state: the best state, of `run["best_step"]`, or None when there is none.
        notes: one sentence for everything that was not as expected.
    """

    state: TrainState
    run: dict[str, Any]
    best_state: TrainState | None
    notes: list[str]


class Checkpointer(Protocol):
    """The interface of a checkpointer, see `musrep_jax.training.checkpoints`."""

    def restore(self, template: TrainState) -> Restored | None:
        """Returns the latest good state, or None when there is none."""
        ...

    def save(
        self, step: int, state: TrainState, run: Mapping[str, Any], best: TrainState | None
    ) -> None:
        """Starts saving a state with the loop's memory and the best state so far."""
        ...

    def wait(self) -> None:
        """Waits until the last save is complete."""
        ...


def is_due(step: int, every: int, num_steps: int) -> bool:
    """Returns whether something done every `every` steps, and at the last, is done at `step`."""
    return step % every == 0 or step == num_steps


@dataclasses.dataclass
class _LoopState:
    """The loop's data besides the state; saved and restored with it."""

    best_step: int | None = None
    best_metrics: dict[str, float] | None = None
    num_bad_evaluations: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    compile_seconds: float = 0.0  # of these: until the first step of each part was made
    stopped_early: bool = False
    ran_out_of_time: bool = False
    num_drops: int = 0
    restart_step: int = 0

    def add(self, step: int, metrics: dict[str, float], select_by: tuple[str, Direction]) -> bool:
        """Records an evaluation; returns whether it is the best so far.

        Of equal values of the selecting metric the one with the lower validation `loss` is better,
        and of those equal in both the later; only what is strictly better counts as an improvement
        for patience. A NaN beats nothing.
        """
        self.history.append({"step": step, **metrics})
        new, old = _score(metrics, select_by), _score(self.best_metrics, select_by)
        is_best = self.best_metrics is None or (new >= old and new[0] > -math.inf)
        if is_best:
            self.best_step, self.best_metrics = step, metrics
        is_improved = len(self.history) == 1 or (is_best and new > old)
        self.num_bad_evaluations = 0 if is_improved else self.num_bad_evaluations + 1
        return is_best


def _score(
    metrics: Mapping[str, float] | None, select_by: tuple[str, Direction]
) -> tuple[float, float]:
    """Returns a pair that is larger for the better of two evaluations, lowest for NaN or none."""
    if metrics is None:
        return -math.inf, -math.inf
    name, direction = select_by
    values = metrics[name] if direction == "max" else -metrics[name], -metrics.get("loss", 0.0)
    main, tie = (-math.inf if math.isnan(value) else value for value in values)
    return main, tie


def _to_numbers(metrics: Mapping[str, Any], selecting: str) -> dict[str, float]:
    """Returns evaluation metrics as plain numbers; raises if the selecting one is missing."""
    if selecting not in metrics:
        raise ValueError(
            f"select_by is {selecting!r}, which the evaluation does not return; "
            f"choose one of {', '.join(sorted(metrics))}."
        )
    return {name: float(value) for name, value in metrics.items()}


def _next_batch(feed: Prefetch, running: Metrics | None, stop: StopRequest) -> Batch | None:
    """Returns the next batch, or None when there is none because of a signal.

    The signal that stops a program often goes to its worker processes too, which then end before
    the last batch that was waited for.
    """
    try:
        return feed.next(running)
    except Exception:
        if stop.signal_number is None or distributed.is_active():  # others still train
            raise
        return None


def _agree_that_time_is_over(is_over: bool, is_sync_step: bool) -> bool:
    """Returns whether the time is over; several processes ask the first one at a sync step."""
    if not distributed.is_active():
        return is_over
    return is_sync_step and distributed.broadcast_from_first("the time is over", is_over)


def _copy(tree: PyTree) -> PyTree:
    """Returns the tree in memory of its own, which no train step gives away."""
    return jax.tree.map(jnp.copy, tree)


def _plateau_rate(plateau: Plateau, memory: _LoopState, num_made: int) -> float | Array:
    """Returns the rate of the next update, after the drops so far."""
    return plateau.learning_rate(num_made - memory.restart_step, memory.num_drops)


def _check_counts(**counts: int | None) -> None:
    """Raises when a count is below 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1.")


def fit(
    state: TrainState,
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]],
    batches: Callable[[int], Iterator[Mapping[str, Any]]],
    *,
    key: Array,
    num_steps: int,
    eval_every: int,
    evaluate: Callable[[TrainState], Mapping[str, float]],
    select_by: tuple[str, Direction],
    learning_rate: Callable[[int], float | Array] | None = None,
    patience: int | None = None,
    max_seconds: float | None = None,
    reload_best_at: Sequence[int] = (),
    plateau: Plateau | None = None,
    mesh: Mesh | None = None,
    log_every: int = 20,
    log: MetricsLog | None = None,
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
    save_every_seconds: float = 0.0,
    trace: Path | None = None,
) -> FitResult:
    """Returns the result of training until `num_steps` updates are made or patience ends.

    At each evaluation, in this order: the weights are compared with the best so far; at a step of
    `reload_best_at` the best weights and model state are put back (the optimizer's state goes on:
    the momentum of an SGD phase survives its drops, as published); the rate drops if there is a
    `plateau` and validation has not improved for long enough; all is saved if that is due.
    With a checkpointer that holds a state, training resumes from it with the same batches, keys
    and selection, and gives the same numbers bit for bit.

    Ctrl-C, SIGTERM and SIGHUP finish the step (or the evaluation), save, and raise `Interrupted`,
    which carries the result so far.

    Args:
        state: where to start; its memory is given to the first step, so do not use it afterwards.
        train_step: from `musrep_jax.training.step.make_train_step`.
        batches: number of steps made -> iterator of host batches from there on. A batch must
            depend on its number only, for a resumed training to see the same.
        key: random key of the run; the step folds its number in.
        num_steps: updates in the whole training.
        eval_every: updates between evaluations; the last step is always evaluated.
        evaluate: state -> validation metrics by name, as numbers. It must not donate the state.
        select_by: (metric, "max" or "min"): what chooses the best weights, and which value of it
            is the best. Ties are broken by the lower validation `loss` if the evaluation returns
            one, then by the later step.
        learning_rate: `Optimizer.learning_rate`, for the log.
        patience: evaluations without improvement that end the training; None never ends it.
        max_seconds: time after which the training is evaluated and ends; over all parts of a
            resumed training, without compilation. None is no limit.
        reload_best_at: steps, also evaluated, after which training continues from the best weights,
            such as `Optimizer.switch_steps`. Patience starts anew there.
        plateau: `Optimizer.plateau`: when the rate drops. Patience starts anew at each drop; after
            the last, the next plateau ends the training.
        mesh: devices over which batches are split; the state must be replicated over them. None
            uses the default device.
        log_every: updates between rows of the log.
        log: where rows go: `kind` "train" (means since the last row), "validation".
        progress: where progress is shown.
        checkpointer: keeps the state, and gives it back.
        save_every_seconds: least time between saves, which happen at evaluations; at the last one a
            tenth of it is enough. A signal saves at once.
        trace: folder for a trace of a few steps, see `musrep_jax.training.trace`; None for none.

    Raises:
        NonFiniteLossError: when the loss or its gradient is not finite.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP.
        ValueError: for counts below 1, a metric that evaluation lacks, or batches that run out or
            have arrays of different length in one stream.
    """
    selecting, _ = check_select_by(select_by)
    _check_counts(
        num_steps=num_steps, eval_every=eval_every, log_every=log_every, patience=patience
    )
    say = (lambda text: None) if progress is None else progress.note
    write = (lambda **row: None) if log is None else log.write
    memory, best_state = _LoopState(), None
    restored = None if checkpointer is None else checkpointer.restore(state)
    if restored is not None:
        state, best_state, memory = restored.state, restored.best_state, _LoopState(**restored.run)
        for note in (*restored.notes, f"resumed after step {int(state.step)}"):
            say(note)
    step = int(state.step)
    if log is not None:
        log.drop_rows_after(step)

    def place(batch: Mapping[str, Any]) -> Batch:
        if mesh is not None:
            return shard_batch(batch, mesh)
        return place_batch(batch)

    def result() -> FitResult:
        return FitResult(
            state,
            best_state,
            memory.best_step,
            memory.best_metrics,
            memory.history,
            memory.seconds,
            memory.stopped_early,
            memory.ran_out_of_time,
        )

    if step >= num_steps or memory.stopped_early or memory.ran_out_of_time:
        return result()
    part_start = last_save = time.perf_counter()
    start = part_start - memory.seconds
    metrics: Metrics | None = None
    rate = learning_rate if plateau is None else functools.partial(_plateau_rate, plateau, memory)
    meter = Meter(rate, log, progress)
    with (
        stop_on_signals() as stop,
        StepTrace(trace, say) as step_trace,
        Prefetch(batches(step), place) as feed,
    ):
        is_ending = False
        while not is_ending:
            is_first = metrics is None
            batch = _next_batch(feed, metrics, stop)
            if batch is None:
                meter.drain(feed.wait_seconds, memory.best_step)
                break
            state, metrics = train_step(state, batch, key)
            step += 1
            meter.add(step, metrics)
            if is_first:  # it compiles, which says nothing about speed
                jax.block_until_ready(metrics)
                memory.compile_seconds += time.perf_counter() - part_start
                meter.restart(feed.wait_seconds)
            step_trace.record_step(metrics)

            is_evaluated = is_due(step, eval_every, num_steps) or step in reload_best_at
            memory.ran_out_of_time = max_seconds is not None and _agree_that_time_is_over(
                time.perf_counter() - start - memory.compile_seconds >= max_seconds,
                is_evaluated or step % log_every == 0,
            )
            is_evaluated = is_evaluated or memory.ran_out_of_time
            is_sync_step = is_evaluated or step % log_every == 0
            is_stopping = distributed.agree_on_signal(stop.signal_number, is_sync_step) is not None
            if is_stopping or is_sync_step:
                meter.drain(feed.wait_seconds, memory.best_step)

            if is_evaluated:
                eval_start = time.perf_counter()
                values = _to_numbers(evaluate(state), selecting)
                if memory.add(step, values, select_by):
                    best_state = _copy(state.replace(opt_state=None))
                is_last_rate = has_drop = False
                if plateau is not None and memory.num_bad_evaluations >= plateau.drop_after:
                    is_last_rate = memory.num_drops == plateau.num_drops
                    has_drop = not is_last_rate and step < num_steps
                is_reloaded = has_drop and plateau is not None and plateau.reload_best
                if best_state is not None and (step in reload_best_at or is_reloaded):
                    best = _copy(best_state)
                    state = state.replace(params=best.params, model_state=best.model_state)
                    memory.num_bad_evaluations = 0
                if plateau is not None and has_drop:
                    state = state.replace(opt_state=plateau.lower_rate(state.opt_state))
                    memory.num_drops, memory.num_bad_evaluations = memory.num_drops + 1, 0
                    memory.restart_step = step if plateau.reload_best else memory.restart_step
                    rate_now = float(_plateau_rate(plateau, memory, step))
                    say(f"no improvement: the learning rate is {rate_now:.2g} now")
                memory.stopped_early = is_last_rate or (
                    patience is not None and memory.num_bad_evaluations >= patience
                )
                write(
                    kind="validation",
                    step=step,
                    seconds=time.perf_counter() - eval_start,
                    **values,
                )
                if progress is not None:
                    progress.record_validation(
                        selecting, values[selecting], memory.best_step == step
                    )
                memory.seconds = time.perf_counter() - start
                is_last = step == num_steps or memory.stopped_early or memory.ran_out_of_time
                least = save_every_seconds * (FINAL_SAVE_INTERVAL_SHARE if is_last else 1)
                is_late = time.perf_counter() - last_save >= least
                if checkpointer is not None and distributed.broadcast_from_first(
                    "a save is due", is_late
                ):
                    checkpointer.save(step, state, dataclasses.asdict(memory), best_state)
                    last_save = time.perf_counter()
                meter.restart(feed.wait_seconds)
            is_over = memory.stopped_early or memory.ran_out_of_time
            is_ending = is_stopping or step == num_steps or is_over
        stop.signal_number = distributed.agree_on_signal(stop.signal_number, is_sync_step=True)
    memory.seconds, saved = time.perf_counter() - start, ""
    try:
        if checkpointer is not None:
            if stop.signal_number is not None:
                checkpointer.save(step, state, dataclasses.asdict(memory), best_state)
            checkpointer.wait()
            saved = ", which is saved"
    except ValueError as error:
        if stop.signal_number is None:
            raise
        say(f"the last state is not saved: {error}")
    if stop.signal_number is not None:
        say(f"stopped by {signal.Signals(stop.signal_number).name} after step {step}{saved}")
        raise Interrupted(result(), stop.signal_number)
    return result()
