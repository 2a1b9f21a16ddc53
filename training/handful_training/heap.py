"""Keep the memory that a training step gives back, for the next step takes as much again.

glibc returns large blocks to the kernel when they are freed. A step that takes and frees some
hundred MB then spends a fifth of its time on pages that the kernel clears and maps anew.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 1 << 30
# What glibc's own adjustment ends up with once such blocks were freed, man 3 mallopt.
_TRIM_USUAL, _MMAP_USUAL = 64 << 20, 32 << 20


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Return nothing to the system meanwhile, and what is free by then at the end.

    Other C libraries than glibc have no such setting, and nothing changes there.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _NEVER)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _MMAP_USUAL)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_USUAL)
        libc.malloc_trim(0)
