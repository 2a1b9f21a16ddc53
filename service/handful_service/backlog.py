"""What has been taken in and not yet answered, bounded in rows and in bytes.

A request enters before its body is read, declares its bytes as they arrive and its rows before
they are decoded. One that does not fit is refused then, when nothing has been computed. Large
requests go through the queue in windows, so they declare a window's rows, not all of them.
"""

import threading
from types import TracebackType
from typing import Self

from handful_service.errors import Overloaded


class Backlog:
    """Counts the rows and bytes that requests hold. Thread-safe.

    Args:
        max_rows: rows of all requests together.
        max_bytes: bytes of all requests together: bodies and decoded windows.
    """

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self.rows = 0
        self.bytes = 0

    def enter(self) -> "Entry":
        """Return an empty entry; use it as a context manager, its end frees what it holds."""
        return Entry(self)

    def _hold(self, rows: int, size: int) -> None:
        with self._lock:
            if self.rows + rows > self.max_rows:
                raise Overloaded(f"{self.rows} images are waiting, at most {self.max_rows}")
            if self.bytes + size > self.max_bytes:
                raise Overloaded(f"{self.bytes} bytes are waiting, at most {self.max_bytes}")
            self.rows += rows
            self.bytes += size

    def _free(self, rows: int, size: int) -> None:
        with self._lock:
            self.rows -= rows
            self.bytes -= size


class Entry:
    """What one request holds."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._rows = 0
        self._bytes = 0

    def hold(self, *, rows: int = 0, size: int = 0) -> None:
        """Hold `rows` more rows and `size` more bytes until the end of the request.

        Raises:
            Overloaded: they do not fit; nothing more is held than before.
        """
        self._backlog._hold(rows, size)  # noqa: SLF001 - the other half of one thing
        self._rows += rows
        self._bytes += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backlog._free(self._rows, self._bytes)  # noqa: SLF001 - the other half of one thing
        self._rows = self._bytes = 0
