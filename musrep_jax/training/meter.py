"""The metrics of training steps: left on the device, fetched in groups, checked and logged."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np

from musrep_jax.training.logs import MetricsLog, Progress
from musrep_jax.types import Array, Metrics

_STEPS_IN_FLIGHT = 2


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


class Meter:
    """Keeps metrics on the device until they are due, then checks, averages and shows them.

    Args:
        learning_rate: step -> learning rate of the next update, or None.
        log: where rows go, or None.
        progress: where progress is shown, or None.
    """

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
        """Restarts the clock of steps per second, after work other than training."""
        self._num_untimed = len(self._pending)
        self._start = time.perf_counter()
        self._wait_start = wait_seconds

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes a step's metrics without waiting for them, only for those of two steps ago."""
        self._pending.append((step, metrics))
        if len(self._pending) > _STEPS_IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - _STEPS_IN_FLIGHT][1])

    def drain(self, wait_seconds: float, best_step: int | None) -> None:
        """Fetches what is pending, checks that it is finite, and writes one row of its means.

        A metric that some steps lack is averaged over the steps that have it.
        """
        if not self._pending:
            return
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        for (step, _), metrics in zip(self._pending, fetched, strict=True):
            if not metrics["is_finite"]:
                raise self._error(step, metrics, best_step)
        last_step = self._pending[-1][0]
        values: dict[str, list[float]] = {}
        for metrics in fetched:
            for name, value in metrics.items():
                values.setdefault(name, []).append(float(value))
        del values["is_finite"]
        means = {name: sum(numbers) / len(numbers) for name, numbers in values.items()}
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
