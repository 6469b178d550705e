"""Handles stop signals: training stops after a complete step, a program at any point."""

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
"""The signal of a closed terminal; Windows has none."""
TERMINATION_SIGNALS = (signal.SIGTERM,) if _HANG_UP is None else (signal.SIGTERM, _HANG_UP)
STOP_SIGNALS = (signal.SIGINT, *TERMINATION_SIGNALS)


class StopSignalReceived(KeyboardInterrupt):
    """The program was asked to stop by a signal.

    It is a `KeyboardInterrupt`, so code that continues after errors does not continue after it.

    Attributes:
        signal_number: the signal received.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def exit_code(error: KeyboardInterrupt) -> int:
    """Returns the exit code of a program stopped by a signal, as in shells: 128 plus its number.

    Args:
        error: the exception; a `KeyboardInterrupt` that is not `Stopped` is Ctrl-C.

    >>> exit_code(KeyboardInterrupt()), exit_code(Stopped(signal.SIGTERM))
    (130, 143)
    """
    return 128 + int(getattr(error, "signal_number", signal.SIGINT))


def exit_program(code: int | str | None) -> NoReturn:
    """Exits the program like `sys.exit`, but immediately if a signal has stopped it.

    A signal that arrives while JAX compiles interrupts the wait, but a thread of JAX continues
    compiling. Python's shutdown would wait for the compilation, and then often end in a
    segmentation fault instead of the exit code. So the registered exit handlers run, and then the
    process ends at once.

    Args:
        code: as for `sys.exit`.
    """
    if code not in [128 + number for number in STOP_SIGNALS]:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # no reader is left
            stream.flush()
    os._exit(int(code))


class StopRequest:
    """Whether a stop was requested.

    Attributes:
        signal_number: the signal received, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None


_previous_request = StopRequest()
"""The signal that `raise_on_signals` raised for, in case the exception was swallowed."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yields a request that the first Ctrl-C, SIGTERM or SIGHUP sets; a second one stops at once.

    It is already set if an earlier signal's exception was swallowed.

    A step donates the memory of its state while it runs, so training interrupted inside a step has
    nothing left to save. Outside the main thread Python allows no handlers, and the request is
    never set.
    """
    request = StopRequest()
    request.signal_number = _previous_request.signal_number

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            raise StopSignalReceived(number)
        request.signal_number = number

    with _handle_signals(STOP_SIGNALS, handle):
        yield request


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise `Stopped`, as Ctrl-C raises `KeyboardInterrupt`.

    So files are closed. Python calls handlers between any two instructions, including inside
    callbacks of its garbage collector (JAX has one), and exceptions raised there are printed and
    lost: `stop_on_signals` remembers them.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _previous_request.signal_number = number
        raise StopSignalReceived(number)

    try:
        with _handle_signals(TERMINATION_SIGNALS, handle):
            yield
    finally:
        _previous_request.signal_number = None


@contextlib.contextmanager
def raise_on_signals_while_loading() -> Iterator[None]:
    """Makes stop signals raise `Stopped`, and again at its end if that was swallowed.

    Garbage collection is disabled meanwhile, see `raise_on_signals`.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        raise StopSignalReceived(number)

    gc.disable()
    try:
        with _handle_signals(STOP_SIGNALS, handle):
            yield
            if request.signal_number is not None:
                raise StopSignalReceived(request.signal_number)
    finally:
        gc.enable()


@contextlib.contextmanager
def _handle_signals(
    numbers: tuple[int, ...], handle: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handles signals inside the context, and restores the previous handlers after it.

    SIGHUP stays ignored if it was, as under `nohup`. It is also ignored after the first one: when a
    terminal is closed, the system sends one and the shell another.
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
