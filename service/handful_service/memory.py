"""How much memory this process may use before the kernel ends it."""

import os
from pathlib import Path


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
