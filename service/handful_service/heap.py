"""Gives back to the system what large requests leave in the heaps of the C library.

malloc keeps freed memory for later: a service of 130 MiB stays at 660 after a few of the largest
requests. Trimming all heaps takes milliseconds, so it is done only where it may bring something.
"""

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

from handful_service.memory import memory_used

_WORTH = 16 * 2**20  # bytes above what the last trim left
_WORTH_AT_REST = 2**20  # the same while nobody waits for an answer


class _Mallinfo2(ctypes.Structure):
    """What malloc says of all heaps together, see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


_mallinfo2 = _of_glibc("mallinfo2")  # since glibc 2.33
if _mallinfo2 is not None:
    _mallinfo2.restype = _Mallinfo2

malloc_trim: Callable[[int], int] | None = _of_glibc("malloc_trim")
"""Of glibc: gives back what is free, but so many bytes at each heap's end."""


def memory_idle() -> int | None:
    """Return the bytes of this process that are in memory and not in use by way of malloc.

    What is free in malloc's heaps is among them, and little else that changes: a busy moment and a
    quiet one differ by what could be given back, not by what requests hold.

    Returns:
        None where it is not known: not Linux, or no glibc of 2021 or later.
    """
    used = memory_used()
    if used is None or _mallinfo2 is None:
        return None
    info = _mallinfo2()
    return used - int(info.uordblks) - int(info.hblkhd)


class Heap:
    """The memory that malloc holds, looked at now and then.

    Args:
        idle: tells the bytes that are in memory and not in use, with some that always are.
        trim: gives back what is free, given the bytes to keep; None: nothing can.
    """

    def __init__(
        self,
        idle: Callable[[], int | None] = memory_idle,
        trim: Callable[[int], int] | None = malloc_trim,
    ) -> None:
        self._idle = idle
        self._trim = trim
        self._left: int | None = None  # bytes, by the last trim
        self._thread: threading.Thread | None = None

    def look(self, *, at_rest: bool = False) -> bool:
        """Trim, beside the caller, if much could be given back; at rest, if anything could.

        Returns:
            Whether it may be so still: another look is worth it, even if nothing happens until.
        """
        if self._trim is None:
            return False
        if self._thread is not None and self._thread.is_alive():
            return True
        idle = self._idle()
        worth = _WORTH_AT_REST if at_rest else _WORTH
        if idle is None or (self._left is not None and idle < self._left + worth):
            return False
        self._thread = threading.Thread(target=self._give_back, args=(idle,), name="heap")
        self._thread.start()
        return True

    def _give_back(self, idle: int) -> None:
        assert self._trim is not None
        gc.collect()  # else rare: what a connection leaves in cycles may hold a whole body
        self._trim(0)
        left = self._idle()
        self._left = idle if left is None else left
