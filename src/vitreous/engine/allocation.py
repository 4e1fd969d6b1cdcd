"""Memory that is freed and soon needed again is not handed back in between."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
KEPT = 256 << 20  # bytes at the end of a heap that are kept
OWN_MAPPING = (
    32 << 20
)  # bytes from which on an array has pages of its own, which it hands back: the largest that glibc takes


def keep_freed_memory() -> None:
    """Let this process keep up to `KEPT` bytes of freed memory in each heap.

    Arrays of some megabytes come and go with every block of particles. Left to itself, glibc hands their pages back and asks for them again, and
    the kernel clears each one anew, while other threads of the process wait. For programs, not for libraries: it holds for the whole process.
    Without glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(TRIM_THRESHOLD, KEPT)
    mallopt(MMAP_THRESHOLD, OWN_MAPPING)
