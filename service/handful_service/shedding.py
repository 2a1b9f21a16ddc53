"""How long the queue may become.

A queue that never empties delays everybody and helps nobody: a device is as busy with few rows that
wait as with many (Nichols and Jacobson, "Controlled Delay Active Queue Management", RFC 8289). So a
burst may queue as far as somebody would wait for `seconds`. What would wait longer is refused, and
from then on the service sheds: only a `few` rows are let in at once, so that who is let in is
answered about as soon as at an ordinary load, and the others are told at once. It ends when nobody
had to be refused for a second.
"""

import logging
import time
from collections.abc import Callable

_CALM_SECONDS = 1.0
# What is measured over less than this says more of one batch than of the pace.
_LEAST_SECONDS, _LEAST_ROWS, _ENOUGH_SECONDS = 0.25, 32, 2.0

_log = logging.getLogger(__name__)


class Shedding:
    """Tells how many rows may wait now. For one thread.

    Args:
        seconds: that a request may have to wait for its turn.
        few: rows that keep the device busy, asked while shedding.
        ran: rows that have run so far.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        seconds: float,
        few: Callable[[], int],
        ran: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on = False
        self._seconds = seconds
        self._few = few
        self._ran = ran
        self._clock = clock
        self._refused_at = 0.0
        self._since: float | None = None  # when the pace began to be measured
        self._ran_then = 0
        self._pace: float | None = None  # rows a second, while the queue never was empty

    def most(self) -> float:
        """Return how many rows may wait."""
        now = self._clock()
        if self.on:
            if now - self._refused_at < _CALM_SECONDS:
                return self._few()
            self.on = False
            self.emptied()
            _log.info("requests are let in again")
        self._measure(now)
        return float("inf") if self._pace is None else self._pace * self._seconds

    def refused(self) -> None:
        """A request did not fit: shed, or go on shedding."""
        self._refused_at = self._clock()
        if not self.on:
            self.on = True
            _log.warning("more arrives than is computed; requests are refused until it is less")

    def emptied(self) -> None:
        """Nothing waits: how fast a queue would move is not known."""
        self._since = self._pace = None

    def _measure(self, now: float) -> None:
        if self._since is None:
            self._since, self._ran_then = now, self._ran()
            return
        seconds = now - self._since
        if seconds < _LEAST_SECONDS:
            return
        rows = self._ran() - self._ran_then
        if rows >= _LEAST_ROWS or (rows and seconds >= _ENOUGH_SECONDS):
            self._pace = rows / seconds
            self._since, self._ran_then = now, self._ran()
