"""The memory that this process holds at most while something runs."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

_STATUS = pathlib.Path("/proc/self/status")
_FORGET = pathlib.Path("/proc/self/clear_refs")


def peak_growth(run: Callable[[], Any]) -> int | None:
    """Runs a function; returns by how many bytes the resident memory grew at most.

    Args:
        run: what to measure. Memory that it takes from what was freed before does not count.

    Returns:
        Bytes; None where the system does not tell (it does on Linux).
    """
    if not (_STATUS.is_file() and os.access(_FORGET, os.W_OK)):
        run()
        return None
    _FORGET.write_text("5", encoding="utf-8")  # the highest resident memory starts anew
    before = _read("VmRSS:")
    run()
    return max(0, _read("VmHWM:") - before)


def _read(field: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field)))
