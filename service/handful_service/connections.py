"""Connections that would be held for ever: by slow requests, by none, or by too many clients.

While the service sheds load, single images are refused here as well, by their headers: what it
costs to refuse one is lost for those that are let in.

uvicorn waits for a header, and for a body whose request is answered already, as long as a client
likes. Here one look a second closes what is overdue, so that a request in time pays nothing for it.
"""

import asyncio
import sys
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from handful_service.backlog import Backlog
from handful_service.busy import NO_MODEL, Busy
from handful_service.errors import PROBLEM_JSON, Overloaded, ServiceError, problem
from handful_service.head import MAX_HEAD_BYTES, Head, too_large
from handful_service.heap import Heap
from handful_service.metrics import Metrics
from handful_service.request_id import new_request_id
from handful_service.settings import Settings

if sys.platform != "win32":  # which knows no such limits
    import resource

STATE = "connections"  # where the lifespan's state holds the `Guard`
_LOOK_SECONDS = 1.0
_OTHER_FILES = 64  # of the process itself: libraries, logs, downloads
_MARGIN_SECONDS = 2.0  # after `body_seconds` the request itself is told first


class _Nowhere(list[tuple[bytes, bytes]]):
    """Takes the fields that follow a body: believed, they would stand beside the header's own."""

    def append(self, field: tuple[bytes, bytes], /) -> None:
        """Let it fall."""


_NOWHERE = _Nowhere()


class Guard:
    """Knows all connections of one process.

    Args:
        settings: the limits.
        metrics: counts what is closed.
        backlog: knows whether there is room.
    """

    def __init__(self, settings: Settings, metrics: Metrics, backlog: Backlog) -> None:
        self.busy = Busy(backlog, metrics)
        self.head = Head(settings)
        self._header_seconds = settings.header_seconds
        self._request_seconds = settings.body_seconds + _MARGIN_SECONDS
        self._most = room_for(settings.max_connections)
        self._metrics = metrics
        self._heap = Heap()
        self._open: dict[GuardedProtocol, None] = {}  # the oldest first
        self._looking: asyncio.TimerHandle | None = None
        metrics.connections.set_function(lambda: len(self._open))

    def opened(self, connection: "GuardedProtocol") -> None:
        """Take in a connection, in place of an idle one if there are too many."""
        if len(self._open) >= self._most:
            idle = next((one for one in self._open if one.idle), None)
            if idle is None:
                busy = Overloaded(
                    f"{self._most} connections are open, all of them busy; try again later"
                )
                connection.refuse(busy)
            self.close(idle or connection, "full")
        self._open[connection] = None
        if self._looking is None:
            self._looking = connection.loop.call_later(_LOOK_SECONDS, self._look, connection.loop)

    def closed(self, connection: "GuardedProtocol") -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    def close(self, connection: "GuardedProtocol", reason: str) -> None:
        """Close a connection for `reason`, one of the metric's."""
        self._metrics.connections_closed.labels(reason).inc()
        connection.end()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            if connection.waits_since is None:
                if connection.idle and now - connection.idle_since > connection.timeout_keep_alive:
                    connection.transport.close()
                continue
            seconds = now - connection.waits_since
            if connection.in_header and seconds > self._header_seconds:
                self.close(connection, "header")
            elif seconds > self._request_seconds:
                self.close(connection, "body")
        # Also when the last connection is closed: what it left may be given back by a later look.
        go_on = self._heap.look(at_rest=not self._open) or self._open
        self._looking = loop.call_later(_LOOK_SECONDS, self._look, loop) if go_on else None


def room_for(wanted: int) -> int:
    """Return how many connections the limit on open files, raised if it may be, leaves room for."""
    if sys.platform == "win32":
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    if hard != resource.RLIM_INFINITY:
        files = min(files, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (OSError, ValueError):  # a system may have a lower limit of its own
        files = soft
    return max(1, files - _OTHER_FILES)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, under the eyes of a `Guard`."""

    in_header = True
    waits_since: float | None = None  # for the rest of a request; None: between two
    idle_since = 0.0  # the last answer, if none is under way
    _answered: RequestResponseCycle | None = None
    _refused = False  # the request whose body comes now
    _wrong: ServiceError | None = None  # with the head of a request
    _head_bytes = 0  # received before of a head that is not whole
    _new_bytes, _begun = 0, False  # received just now, and whether a head begins in them
    _keep_alive = True  # after it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.waits_since = self.loop.time()
        self._guard: Guard = self.app_state[STATE]
        self._guard.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Be forgotten."""
        self._guard.closed(self)
        self._tell_who_is_answered()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what comes, but no header without end."""
        self._new_bytes, self._begun = len(data), False
        super().data_received(data)
        if not self.in_header or self._begun:  # how much of `data` came before it is not known
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._wrong = too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        super().on_message_begin()
        self.in_header = self._begun = True
        self._head_bytes = 0
        if self.waits_since is None:
            self.waits_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Go on to wait for its body, of which nothing is kept where it is refused already."""
        fields, self.headers = self.headers, _NOWHERE
        self._wrong = self._guard.head.refusal(
            self.parser.get_http_version(), self.url, fields, self._head_bytes + self._new_bytes
        )
        if self._wrong is not None:
            raise self._wrong  # ends the parsing, and comes back as `send_400_response`
        self.in_header = False
        if (self.cycle is None or self.cycle.response_complete) and not self.expect_100_continue:
            self._keep_alive = self.parser.should_keep_alive()
            refusal = self._guard.busy.refusal(
                self.parser.get_method(), self.url, fields, close=not self._keep_alive
            )
            if refusal is not None:
                self._refused = True
                self.transport.write(refusal)
                return
        self.begin()

    def begin(self) -> None:
        """Begin with a request whose header is as it should be."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing."""
        self.waits_since = None
        if not self._refused:
            super().on_message_complete()
            return
        self._refused = False
        if self._keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Do as uvicorn does, but leave it to the `Guard` to end what stays idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        between = self.waits_since is None or self.in_header
        return between and (self.cycle is None or bool(self.cycle.response_complete))

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, as every problem is told; what came before it is answered."""
        del msg
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and (self.waits_since is None or self.in_header):  # it follows whole requests
            self.cycle.keep_alive = False  # the connection ends with the last answer
            self.flow.pause_reading()
            return
        self.refuse(
            self._wrong
            or ServiceError(
                "bad_request", "This is not a request of HTTP/1.1; send one, and without TLS."
            )
        )
        self.end()

    def end(self) -> None:
        """Close, and let a request that is under way know."""
        self._tell_who_is_answered()
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _tell_who_is_answered(self) -> None:
        """Tell the request that is under way; uvicorn would tell the last that came in."""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True  # else its answer would be written all the same
            self._answered.message_event.set()

    def refuse(self, error: ServiceError) -> None:
        """Write `error` as the answer to whatever was sent."""
        request_id = new_request_id()
        body = orjson.dumps(problem(error, request_id))
        headers: dict[str, Any] = {
            **error.headers,
            "Content-Type": PROBLEM_JSON,
            "Content-Length": len(body),
            "Connection": "close",
            "X-Request-ID": request_id,
            **NO_MODEL,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[error.kind.status] + lines.encode() + b"\r\n" + body)
