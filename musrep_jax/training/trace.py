"""Traces a few steps: the activity of the devices and the host."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import jax

NUM_STEPS = 5
_STEPS_BEFORE = 3
"""Steps before the trace: the first compiles, the next fill the pipeline."""


class StepTrace:
    """Records steps 4 to 8 of a run. Use as a context manager.

    Args:
        folder: where the trace is written; None records nothing.
        say: called with the location of the trace and how to open it.
    """

    def __init__(self, folder: Path | None, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._num_done = 0
        self._is_on = False

    def record_step(self, result: object) -> None:
        """Starts the trace after the first steps, and ends it after enough steps.

        Args:
            result: of the step, on the device; waited for at the start and the end only.
        """
        self._num_done += 1
        if self._folder is None:
            return
        if self._num_done == _STEPS_BEFORE:
            jax.block_until_ready(result)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._is_on = True
        elif self._num_done == _STEPS_BEFORE + NUM_STEPS:
            jax.block_until_ready(result)
            self._end()

    def _end(self) -> None:
        if self._is_on:
            self._is_on = False
            jax.profiler.stop_trace()
            self._say(
                f"trace of {self._num_done - _STEPS_BEFORE} steps: drop "
                f"{self._folder}/plugins/profile/*/perfetto_trace.json.gz on ui.perfetto.dev, or "
                f"run xprof --logdir {self._folder}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
