"""Processes of this machine: which one this is, and whether another one still runs."""

import contextlib
import os
import socket
import zlib

SAYS_WHO_RUNS = os.name == "posix"
"""Whether a process can be asked for without harm: on Windows, signal 0 would interrupt it."""


def host_token() -> str:
    """Returns eight hexadecimal digits for where process numbers mean what they mean here.

    Containers may share a folder and a host name; their process numbers are of their own.
    """
    where = socket.gethostname()
    with contextlib.suppress(OSError):  # other systems than Linux have no name spaces
        where += os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(where.encode()):08x}"


def is_running(pid: int) -> bool:
    """Returns whether a process of this machine runs; True where that cannot be seen.

    Args:
        pid: its number.
    """
    if not SAYS_WHO_RUNS:
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it runs for somebody else
        return True
    return True
