"""What is known of one request while it is answered: carried in the ASGI scope."""

import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handful_service.backlog import Entry
from handful_service.serving import Served

_KEY = "handful.context"


@dataclass(slots=True)
class RequestContext:
    """One request: its id, what it holds, which model answers it, where its time goes."""

    request_id: str
    headers: Mapping[bytes, bytes]  # in lower case; the values of a repeated one stand in a row
    entry: Entry
    started: float = field(default_factory=time.perf_counter)
    route: str = "unmatched"  # the template, never the path that was sent
    served: Served | None = None  # the model that the request leases
    status: int = 0  # of the response, once it has started
    problem: str | None = None  # the code of the problem that is the answer, if it is one
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # phase → seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started

    def spent(self, phase: str, seconds: float) -> None:
        """Add `seconds` to `phase` (read, decode, queue or model)."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent(name, time.perf_counter() - started)

    def header(self, name: bytes) -> str:
        """Return the value of a header, "" where it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def server_timing(self) -> str:
        """Return the value of the Server-Timing header (W3C), in milliseconds."""
        spent = list(self.seconds.items())  # at once: another thread may add to them
        phases = [f"{name};dur={1000 * seconds:.2f}, " for name, seconds in spent]
        return f"{''.join(phases)}total;dur={1000 * self.elapsed:.2f}"


def attach(scope: MutableMapping[str, Any], context: RequestContext) -> None:
    """Put `context` where `context_of` finds it."""
    scope[_KEY] = context


def context_of(scope: MutableMapping[str, Any]) -> RequestContext:
    """Return the context of the request in `scope`."""
    context: RequestContext = scope[_KEY]
    return context
