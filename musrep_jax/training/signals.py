"""Leaving a training at a whole step when it is asked to stop, and a program at any point."""

import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The program was asked to stop by a signal.

    It is a `KeyboardInterrupt`, so code that goes on after errors does not go on after it.

    Attributes:
        signal_number: the signal received.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def exit_code(error: KeyboardInterrupt) -> int:
    """Returns what a program stopped by a signal ends with, as shells count: 128 and its number.

    Args:
        error: what arrived; a `KeyboardInterrupt` that is not `Stopped` is Ctrl-C.

    >>> exit_code(KeyboardInterrupt()), exit_code(Stopped(signal.SIGTERM))
    (130, 143)
    """
    return 128 + int(getattr(error, "signal_number", signal.SIGINT))


class StopRequest:
    """Whether a stop was asked for.

    Attributes:
        signal_number: the signal received, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None


_sigterm = StopRequest()
"""What `stopped_by_sigterm` raised for, and what may have been swallowed on its way."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yields a request that the first Ctrl-C or SIGTERM marks; a second one stops at once.

    It is marked already where a SIGTERM came before, and what it raised was swallowed.

    A step gives the memory of its state away while it runs, so a training that is broken off
    inside one has nothing left to save. Outside the main thread Python allows no handlers, and
    the request is never marked.
    """
    request = StopRequest()
    request.signal_number = _sigterm.signal_number

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            raise Stopped(number)
        request.signal_number = number

    with _handled(STOP_SIGNALS, handle):
        yield request


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises `Stopped`, as Ctrl-C raises `KeyboardInterrupt`: files are closed.

    Python calls handlers between any two steps, also inside callbacks of its garbage collector
    (JAX has one), and what is raised there is printed and lost: `stop_on_signals` remembers.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _sigterm.signal_number = number
        raise Stopped(number)

    try:
        with _handled((signal.SIGTERM,), handle):
            yield
    finally:
        _sigterm.signal_number = None


@contextlib.contextmanager
def stopped_while_loading() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise `Stopped`; at its end again, if that was swallowed.

    No garbage is collected here, see `stopped_by_sigterm`.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        raise Stopped(number)

    gc.disable()
    try:
        with _handled(STOP_SIGNALS, handle):
            yield
            if request.signal_number is not None:
                raise Stopped(request.signal_number)
    finally:
        gc.enable()


@contextlib.contextmanager
def _handled(
    numbers: tuple[int, ...], handle: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handles signals inside the context; the handlers of before come back after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
