"""What is freed goes back to the system: pages are made of much that lives for a moment."""

from __future__ import annotations

import ctypes

#: As <malloc.h> of glibc numbers them: heaps of threads; bytes from which something is given a
#: place of its own, and from which free ones at a heap's end go back.
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1
#: Left alone glibc makes a heap for each thread, and raises both bounds up to 32 MB.
LIMITS = {ARENA_MAX: 1, MMAP_THRESHOLD: 128 * 1024, TRIM_THRESHOLD: 128 * 1024}


def give_back_freed() -> None:
    """Of this process, from now on; with another C library than glibc nothing changes."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in LIMITS.items():
        mallopt(option, value)
