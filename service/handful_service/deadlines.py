"""When requests that all have the same time to be answered are over: one timer for all of them."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Kept = TypeVar("Kept", bound=Hashable)


class Deadlines(Generic[Kept]):
    """Tells what was added `seconds` ago and not removed since. For one event loop.

    A timer for each would cost a small image a thirtieth of all its time.

    Args:
        seconds: until something is over.
        over: is told what is.
    """

    def __init__(self, seconds: float, over: Callable[[Kept], None]) -> None:
        self._seconds = seconds
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._due: dict[Kept, float] = {}  # when, by the loop's clock; the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kept: Kept) -> None:
        """Begin to wait for the end of `kept`."""
        due = self._due[kept] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def remove(self, kept: Kept) -> None:
        """Wait no more, if it was waited for."""
        self._due.pop(kept, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        over = []
        for kept, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                break
            over.append(kept)
        for kept in over:
            del self._due[kept]
            self._over(kept)
