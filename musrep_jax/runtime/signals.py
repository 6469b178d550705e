"""Leaving a training at a whole step when it is asked to stop, and a program at any point."""

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

_HANG_UP = getattr(signal, "SIGHUP", None)
"""What a terminal sends when it is closed; there is none on Windows."""
ASKS_TO_LEAVE = (signal.SIGTERM,) if _HANG_UP is None else (signal.SIGTERM, _HANG_UP)
STOP_SIGNALS = (signal.SIGINT, *ASKS_TO_LEAVE)


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


def end_program(code: int | str | None) -> NoReturn:
    """Ends the program as `sys.exit` does; one that a signal has stopped, at once.

    A signal that arrives while JAX compiles breaks off the waiting, and a thread of JAX goes on
    compiling. Python would take JAX apart meanwhile: that waits for the compilation, and then often
    ends in a segmentation fault instead of the exit code. So all that is registered to be done at
    the end is done, and then the process is over.

    Args:
        code: as for `sys.exit`.
    """
    if code not in [128 + number for number in STOP_SIGNALS]:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(int(code))


class StopRequest:
    """Whether a stop was asked for.

    Attributes:
        signal_number: the signal received, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None


_earlier = StopRequest()
"""What `stopped_by_signals` raised for, and what may have been swallowed on its way."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yields a request that the first Ctrl-C, SIGTERM or SIGHUP marks; a second one stops at once.

    It is marked already where a signal came before, and what it raised was swallowed.

    A step gives the memory of its state away while it runs, so a training that is broken off
    inside one has nothing left to save. Outside the main thread Python allows no handlers, and
    the request is never marked.
    """
    request = StopRequest()
    request.signal_number = _earlier.signal_number

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            raise Stopped(number)
        request.signal_number = number

    with _handled(STOP_SIGNALS, handle):
        yield request


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `Stopped`, as Ctrl-C `KeyboardInterrupt`: files are closed.

    Python calls handlers between any two steps, also inside callbacks of its garbage collector
    (JAX has one), and what is raised there is printed and lost: `stop_on_signals` remembers.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _earlier.signal_number = number
        raise Stopped(number)

    try:
        with _handled(ASKS_TO_LEAVE, handle):
            yield
    finally:
        _earlier.signal_number = None


@contextlib.contextmanager
def stopped_while_loading() -> Iterator[None]:
    """Inside, signals to stop raise `Stopped`; at its end again, if that was swallowed.

    No garbage is collected here, see `stopped_by_signals`.
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
    """Handles signals inside the context; the handlers of before come back after it.

    SIGHUP stays ignored where it is: `nohup` has said so. It is ignored after the first one: when a
    terminal is closed, one comes from the system and another from the shell.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle_once(number: int, frame: FrameType | None) -> None:
        if number == _HANG_UP:
            signal.signal(number, signal.SIG_IGN)
        handle(number, frame)

    previous = {
        number: signal.signal(number, handle_once)
        for number in numbers
        if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
