"""Configures the heap of the C library to keep freed memory for the next step.

glibc returns large blocks to the system when they are freed, and requests new ones, page by page,
when they are needed again. The temporary arrays of every training step are such blocks, and on two
CPU cores a third of a forward pass can be spent on page faults. The command lines call
`retain_freed_memory` once, at their start; importing the library does not change the heap.

Their memory then stays at its peak until they exit. The user's `MALLOC_...` variables and
`GLIBC_TUNABLES` take precedence; with another allocator (preloaded, or another C library) nothing
changes.

Source: mallopt(3) of the GNU C library.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Parameters of `mallopt`. Source: malloc.h."""

SETTINGS = {
    M_MMAP_MAX: 0,  # no block is a mapping of its own, which freeing would end
    M_TRIM_THRESHOLD: -1,  # the largest number: the top of the heap is never given back
    M_TOP_PAD: 64 * 2**20,  # bytes by which the heap grows at least
    M_ARENA_MAX: 1,  # one heap, so that what one thread frees another one can take
}


def retain_freed_memory() -> bool:
    """Tells glibc to keep freed memory; returns whether it does.

    Returns:
        False where the C library is not glibc, or the user has settings for it.
    """
    own = [name for name in os.environ if name.startswith("MALLOC_")]
    if own or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, value) for name, value in SETTINGS.items())
