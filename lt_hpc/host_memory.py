"""How the C library handles the memory of large tensors on a CPU."""

from __future__ import annotations

import ctypes

_MMAP_MAX, _TRIM_THRESHOLD, _ARENA_MAX = -4, -1, -8  # malloc.h


def keep_freed() -> None:
    """Keep freed memory in this process for the next tensors. Usually each tensor of more than
    some megabytes is mapped anew, and the kernel zeroes it page by page: a quarter of the time
    of a training step. Peak memory stays what it is; it is not given back before the end.

    Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_ARENA_MAX, 1)  # large tensors don't fit the arenas of threads
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
