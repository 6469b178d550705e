"""The one training loop: steps, evaluation, the best weights, stopping, saving and resuming.

The loop never waits for the device step by step. Metrics stay on the device and are fetched every
`log_every` steps; at most two steps are in flight, so that batches do not pile up in the device's
memory. A loss that is not finite is therefore found up to `log_every` steps late, but always
before an evaluation or a save.
"""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.training.prefetch import Prefetch
from musrep_jax.training.sharding import shard_batch
from musrep_jax.training.signals import stop_on_signals
from musrep_jax.types import Array, Batch, Metrics, PyTree, TrainState

_STEPS_IN_FLIGHT = 2


class FitResult(NamedTuple):
    """What a training leaves in memory.

    Attributes:
        state: the state after the last step.
        best_state: the state with the best validation value, without optimiser state (None);
            None if a training was interrupted before its first evaluation.
        best_step: the step of `best_state`.
        best_metrics: its validation metrics.
        history: one row per evaluation: `step` and the metrics.
        seconds: wall time, over all parts of a resumed training.
        stopped_early: whether patience ended it.
    """

    state: TrainState
    best_state: TrainState | None
    best_step: int | None
    best_metrics: dict[str, float] | None
    history: list[dict[str, float]]
    seconds: float
    stopped_early: bool


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became infinite or NaN.

    Attributes:
        step: the first step with such a value.
        learning_rate: the rate of that step, or NaN when `fit` was not told.
    """

    def __init__(self, message: str, step: int, learning_rate: float) -> None:
        super().__init__(message)
        self.step = step
        self.learning_rate = learning_rate


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a training at a whole step.

    It is a `KeyboardInterrupt`, so code that goes on after errors does not go on after it.

    Attributes:
        result: what was reached, best weights so far included; it is saved if `fit` had a
            checkpointer.
        signal_number: the signal received.
    """

    def __init__(self, result: FitResult, signal_number: int) -> None:
        super().__init__(f"training stopped by {signal.Signals(signal_number).name}")
        self.result = result
        self.signal_number = signal_number


class Restored(NamedTuple):
    """What a checkpointer gives back.

    Attributes:
        state: the training state to go on from.
        run: the loop's own memory, as it was saved.
        best_state: the state saved at `run["best_step"]`, or None when there is none.
        notes: one sentence for everything that was not as expected.
    """

    state: TrainState
    run: dict[str, Any]
    best_state: TrainState | None
    notes: list[str]


class Checkpointer(Protocol):
    """What the loop asks of a keeper of states, see `musrep_jax.training.checkpoints`."""

    def restore(self, template: TrainState) -> Restored | None: ...

    def save(
        self, step: int, state: TrainState, run: Mapping[str, Any], score: float | None
    ) -> None: ...

    def seal(self) -> None: ...

    def wait(self) -> None: ...


def is_smaller_better(metric: str) -> bool:
    """Returns whether a validation metric improves by falling: `loss` and names ending in `_loss`.

    >>> is_smaller_better("loss"), is_smaller_better("roc_auc")
    (True, False)
    """
    return metric == "loss" or metric.endswith("_loss")


def is_due(step: int, every: int, num_steps: int) -> bool:
    """Returns whether something done every `every` steps, and at the last, is done at `step`."""
    return step % every == 0 or step == num_steps


@dataclasses.dataclass
class _Memory:
    """What the loop remembers beside the state; saved and restored with it."""

    best_step: int | None = None
    best_metrics: dict[str, float] | None = None
    num_bad_evaluations: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    stopped_early: bool = False

    def add(self, step: int, metrics: dict[str, float], select_by: str) -> bool:
        """Keeps an evaluation; returns whether it is the best so far (NaN never beats)."""
        self.history.append({"step": step, **metrics})
        sign = -1.0 if is_smaller_better(select_by) else 1.0
        value = sign * metrics[select_by]
        is_best = self.best_metrics is None or value > sign * self.best_metrics[select_by]
        if self.best_metrics is not None and math.isnan(self.best_metrics[select_by]):
            is_best = not math.isnan(value)
        if is_best:
            self.best_step, self.best_metrics = step, metrics
        self.num_bad_evaluations = 0 if is_best else self.num_bad_evaluations + 1
        return is_best


class _Meter:
    """Keeps metrics on the device until they are due, then checks, averages and shows them."""

    def __init__(
        self,
        learning_rate: Callable[[int], float | Array] | None,
        log: MetricsLog | None,
        progress: Progress | None,
    ) -> None:
        self._learning_rate = learning_rate
        self._log = log
        self._progress = progress
        self._pending: list[tuple[int, Metrics]] = []
        self.restart(0.0)

    def restart(self, wait_seconds: float) -> None:
        """Starts the clock of steps per second anew, after what is not training."""
        self._num_untimed = len(self._pending)
        self._start = time.perf_counter()
        self._wait_start = wait_seconds

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes a step's metrics without waiting for them, but for those of two steps ago."""
        self._pending.append((step, metrics))
        if len(self._pending) > _STEPS_IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - _STEPS_IN_FLIGHT][1])

    def drain(self, wait_seconds: float, best_step: int | None) -> None:
        """Fetches what is pending, checks that it is finite, and writes one row of its means."""
        if not self._pending:
            return
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        for (step, _), metrics in zip(self._pending, fetched, strict=True):
            if not metrics["is_finite"]:
                raise self._error(step, metrics, best_step)
        last_step = self._pending[-1][0]
        means = {
            name: sum(float(metrics[name]) for metrics in fetched) / len(fetched)
            for name in fetched[0]
            if name != "is_finite"
        }
        row = {
            "step": last_step,
            **means,
            "learning_rate": self._rate(last_step),
            "steps_per_second": (len(fetched) - self._num_untimed) / elapsed,
            "data_wait": min((wait_seconds - self._wait_start) / elapsed, 1.0),
        }
        self._pending.clear()
        if self._log is not None:
            self._log.write(kind="train", **row)
        if self._progress is not None:
            self._progress.update(row)
        self.restart(wait_seconds)

    def _rate(self, step: int) -> float:
        """Returns the learning rate with which update number `step` was made."""
        if self._learning_rate is None:
            return math.nan
        rate = np.float32(self._learning_rate(step - 1))
        return float(str(rate))  # 1e-4, where float() of a float32 says 9.99999974e-05

    def _error(self, step: int, metrics: Metrics, best_step: int | None) -> NonFiniteLossError:
        rate = self._rate(step)
        kept = "" if best_step is None else f" The best weights so far, of step {best_step}, stand."
        return NonFiniteLossError(
            f"Training stopped at step {step}: the loss is {float(metrics['loss']):.4g} and the "
            f"norm of its gradient {float(metrics['grad_norm']):.4g}, at learning rate "
            f"{rate:.3g}. Lower optimizer.learning_rate, set optimizer.clip_norm (for example to "
            f"1.0), or look for NaN in the input.{kept}",
            step,
            rate,
        )


def _copy(tree: PyTree) -> PyTree:
    """Returns the tree in memory of its own, which no train step gives away."""
    return jax.tree.map(jnp.copy, tree)


def _check_arguments(num_steps: int, eval_every: int, log_every: int, patience: int | None) -> None:
    """Raises when a count is below 1."""
    counts = {"num_steps": num_steps, "eval_every": eval_every, "log_every": log_every}
    if patience is not None:
        counts["patience"] = patience
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1.")


def _check_metrics(metrics: Mapping[str, Any], select_by: str) -> dict[str, float]:
    """Returns evaluation metrics as plain numbers, or says that the selecting one is missing."""
    if select_by not in metrics:
        raise ValueError(
            f"select_by is {select_by!r}, which the evaluation does not return; "
            f"choose one of {', '.join(sorted(metrics))}."
        )
    return {name: float(value) for name, value in metrics.items()}


def fit(
    state: TrainState,
    train_step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]],
    batches: Callable[[int], Iterator[Mapping[str, Any]]],
    *,
    key: Array,
    num_steps: int,
    eval_every: int,
    evaluate: Callable[[TrainState], Mapping[str, float]],
    select_by: str = "roc_auc",
    learning_rate: Callable[[int], float | Array] | None = None,
    patience: int | None = None,
    reload_best_at: Sequence[int] = (),
    mesh: Mesh | None = None,
    log_every: int = 20,
    log: MetricsLog | None = None,
    progress: Progress | None = None,
    checkpointer: Checkpointer | None = None,
) -> FitResult:
    """Returns the result of training until `num_steps` updates are made or patience ends.

    At each evaluation, in this order: the weights are compared with the best so far; at a step of
    `reload_best_at` the best weights and model state are put back (the optimiser's state goes on:
    the momentum of an SGD phase survives its drops, as published); all is saved. With a
    checkpointer that holds a state, training goes on from there with the same batches, keys and
    selection, and gives the same numbers bit for bit.

    Ctrl-C or SIGTERM finish the step (or the evaluation), save, and raise `Interrupted`, which
    carries the result so far.

    Args:
        state: where to start; its memory is given to the first step, so do not use it afterwards.
        train_step: from `musrep_jax.training.step.make_train_step`.
        batches: number of steps made -> iterator of host batches from there on. A batch must
            depend on its number only, for a resumed training to see the same.
        key: random key of the run; the step folds its number in.
        num_steps: updates in the whole training.
        eval_every: updates between evaluations; the last step is always evaluated.
        evaluate: state -> validation metrics by name, as numbers. It must not donate the state.
        select_by: the metric that chooses the best weights, see `is_smaller_better`.
        learning_rate: `Optimizer.learning_rate`, for the log.
        patience: evaluations without improvement that end the training; None never ends it.
        reload_best_at: steps, evaluated too, after which training goes on from the best weights,
            such as `Optimizer.switch_steps`. Patience starts anew there.
        mesh: devices over which batches are split; the state must be replicated over them. None
            uses the default device.
        log_every: updates between rows of the log.
        log: where rows go: `kind` "train" (means since the last row), "validation".
        progress: where progress is shown.
        checkpointer: keeps the state at every evaluation, and gives it back.

    Raises:
        NonFiniteLossError: when the loss or its gradient is not finite.
        Interrupted: after Ctrl-C or SIGTERM.
        ValueError: for counts below 1, a metric that evaluation lacks, or batches that run out.
    """
    _check_arguments(num_steps, eval_every, log_every, patience)
    memory, best_state = _Memory(), None
    restored = None if checkpointer is None else checkpointer.restore(state)
    if restored is not None:
        state, best_state = restored.state, restored.best_state
        memory = _Memory(**restored.run)
        if best_state is None:
            memory.best_step = memory.best_metrics = None
        if log is not None:
            log.keep_until(int(state.step))
        if progress is not None:
            for note in (*restored.notes, f"resumed after step {int(state.step)}"):
                progress.note(note)
    step = int(state.step)
    started = time.perf_counter() - memory.seconds
    metrics: Metrics | None = None

    def result() -> FitResult:
        return FitResult(
            state,
            best_state,
            memory.best_step,
            memory.best_metrics,
            memory.history,
            memory.seconds,
            memory.stopped_early,
        )

    def place(batch: Mapping[str, Any]) -> Batch:
        return jax.device_put(dict(batch)) if mesh is None else shard_batch(batch, mesh)

    if step >= num_steps or memory.stopped_early:
        return result()
    meter = _Meter(learning_rate, log, progress)
    with stop_on_signals() as stop, Prefetch(batches(step), place) as feed:
        first_step = step + 1
        while step < num_steps and not memory.stopped_early:
            state, metrics = train_step(state, feed.next(metrics), key)
            step += 1
            meter.add(step, metrics)
            if step == first_step:
                jax.block_until_ready(metrics)
                meter.restart(feed.wait_seconds)
            is_evaluated = is_due(step, eval_every, num_steps) or step in reload_best_at
            is_stopping = stop.signal_number is not None
            if is_evaluated or is_stopping or step % log_every == 0:
                meter.drain(feed.wait_seconds, memory.best_step)
                if checkpointer is not None:
                    checkpointer.seal()
            score = None
            if is_evaluated:
                eval_start = time.perf_counter()
                values = _check_metrics(evaluate(state), select_by)
                if memory.add(step, values, select_by):
                    best_state = _copy(state.replace(opt_state=None))
                if step in reload_best_at:
                    state = state.replace(
                        params=_copy(best_state.params), model_state=_copy(best_state.model_state)
                    )
                    memory.num_bad_evaluations = 0
                score = values[select_by] * (-1.0 if is_smaller_better(select_by) else 1.0)
                memory.stopped_early = (
                    patience is not None and memory.num_bad_evaluations >= patience
                )
                if log is not None:
                    seconds = time.perf_counter() - eval_start
                    log.write(kind="validation", step=step, seconds=seconds, **values)
                if progress is not None:
                    best = " (best)" if memory.best_step == step else ""
                    progress.note(f"step {step}  {select_by} {values[select_by]:.4f}{best}")
            memory.seconds = time.perf_counter() - started
            is_stopping = stop.signal_number is not None
            if checkpointer is not None and (is_evaluated or is_stopping):
                checkpointer.save(step, state, dataclasses.asdict(memory), score)
            if is_stopping and step < num_steps and not memory.stopped_early:
                if checkpointer is not None:
                    checkpointer.wait()
                raise Interrupted(result(), stop.signal_number)
            if is_evaluated:
                meter.restart(feed.wait_seconds)
    if checkpointer is not None:
        checkpointer.wait()
    if progress is not None:
        progress.close()
    return result()
