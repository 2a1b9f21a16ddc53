"""Gives back to the system what large requests leave in the heaps of the C library.

malloc keeps freed memory for later: a service of 130 MiB stays at 660 after a few of the largest
requests. Trimming all heaps takes milliseconds, so it is done only where it may bring something.
"""

import ctypes
import gc
import sys
import threading
from collections.abc import Callable

from handful_service.memory import memory_used

_WORTH = 32 * 2**20  # bytes above the least that was ever left
_LITTLE = 2**20  # bytes
_LONGEST_PAUSE = 16  # looks


malloc_trim: Callable[[int], int] | None = (
    getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
)
"""Of glibc: gives back what is free, but so many bytes at each heap's end."""


class Heap:
    """The memory that malloc holds, looked at now and then.

    Args:
        used: tells the bytes of this process that are in memory.
        trim: gives back what is free, given the bytes to keep; None: nothing can.
    """

    def __init__(
        self,
        used: Callable[[], int | None] = memory_used,
        trim: Callable[[int], int] | None = malloc_trim,
    ) -> None:
        self._used = used
        self._trim = trim
        self._least: int | None = None  # bytes that a trim has left
        self._pause = 0
        self._looks_to_skip = 0
        self._thread: threading.Thread | None = None

    def look(self) -> bool:
        """Trim, beside the caller, if much more is in use than need be.

        Returns:
            Whether it may be so still: another look is worth it, even if nothing happens until.
        """
        if self._trim is None:
            return False
        if self._thread is not None and self._thread.is_alive():
            return True
        if self._looks_to_skip:
            self._looks_to_skip -= 1
            return True
        used = self._used()
        if used is None or (self._least is not None and used < self._least + _WORTH):
            return False
        self._thread = threading.Thread(target=self._give_back, args=(used,), name="heap")
        self._thread.start()
        return True

    def _give_back(self, used: int) -> None:
        assert self._trim is not None
        gc.collect()  # else rare: what a connection leaves in cycles may hold a whole body
        self._trim(0)
        left = self._used() or used
        self._least = left if self._least is None else min(self._least, left)
        # In use indeed, such as by requests or a larger model: ask less often.
        brought = used - left >= _LITTLE
        self._pause = 0 if brought else min(_LONGEST_PAUSE, 2 * self._pause + 1)
        self._looks_to_skip = self._pause
