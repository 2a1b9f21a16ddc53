"""How much memory this process may use before the kernel ends it, and how near that is."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 0.25


def memory_used() -> int | None:
    """Return the bytes of this process that are in memory; None where it is not known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class Ceiling:
    """Whether memory comes near its limit, looked at a few times a second.

    Refusing one request in time spares the kernel from ending the process, and all requests in it.

    Args:
        share: of the limit, from which on it is near.
        limit: bytes; None: there is none.
        used: tells the bytes in use.
    """

    def __init__(
        self, share: float, limit: int | None, used: Callable[[], int | None] = memory_used
    ) -> None:
        self._bytes = None if limit is None else share * limit
        self._used = used
        self._looked_at = float("-inf")
        self._near = False

    @property
    def near(self) -> bool:
        """Whether new work had better be refused."""
        if self._bytes is None:
            return False
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            used = self._used()
            self._near = used is not None and used >= self._bytes
        return self._near


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the least of the control group's limit and the machine's memory, in bytes.

    Args:
        cgroup: where the control group of this process is mounted, version 2 or 1.

    Returns:
        None where neither is known (not Linux).
    """
    limits = (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes")
    known = [_machine(), *map(_read, limits)]
    return min((size for size in known if size is not None), default=None)


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such controller here, or "max": no limit from it
        return None
