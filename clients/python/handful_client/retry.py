"""When to try again, and how long to wait. Knows no sockets and reads no clock of its own.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) spreads the
clients of a service that came back; the budget keeps a broken one from getting more load than a
healthy one would.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_STATUS = frozenset({408, 429, 503})
FIRST_DELAY = 0.5
LONGEST_DELAY = 8.0
LONGEST_RETRY_AFTER = 60.0

_WINDOW = 60.0
_SHARE = 0.1
_ALWAYS_ALLOWED = 10


def backoff(retry: int, *, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Return the seconds to wait before retry 0, 1, 2 …: uniform in [0, 0.5 · 2^retry], ≤ 8 s."""
    return uniform(0.0, min(LONGEST_DELAY, FIRST_DELAY * 2**retry))


def retry_after(header: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None where it says nothing.

    Both forms of RFC 9110, section 10.2.3: a number of seconds and an HTTP date.
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000" parses as naive; HTTP dates are GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def delay(retry: int, asked: float | None) -> float | None:
    """Return the seconds to wait before a retry; None where waiting would take too long.

    What the service asks for is the least to wait; jitter on top keeps clients that were all
    told the same from coming back at once.
    """
    if asked is None:
        return backoff(retry)
    if asked > LONGEST_RETRY_AFTER:
        return None
    return asked + backoff(0)


class RetryBudget:
    """At most one retry in ten requests of the last minute; the first ten are free.

    Shared by all threads of a client.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # One entry per second with traffic, so memory is bounded however many requests there are.
        self._seconds: deque[tuple[int, list[int]]] = deque()

    def request(self) -> None:
        """Note a first attempt."""
        with self._lock:
            self._now()[0] += 1

    def allows_retry(self) -> bool:
        """Spend one retry if there is one; False where the budget is used up."""
        with self._lock:
            now = self._now()
            requests = sum(entry[0] for _, entry in self._seconds)
            retries = sum(entry[1] for _, entry in self._seconds)
            if retries + 1 > max(_ALWAYS_ALLOWED, _SHARE * requests):
                return False
            now[1] += 1
            return True

    def _now(self) -> list[int]:
        clock = self._clock()
        while self._seconds and self._seconds[0][0] <= clock - _WINDOW:
            self._seconds.popleft()
        second = int(clock)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, [0, 0]))
        return self._seconds[-1][1]
