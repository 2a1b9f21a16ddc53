"""HTTP/1.1 for requests that may ride (see `express`), and for all others as before.

A request that may ride is held back until its body is whole, for a moment at most. Then it rides,
or uvicorn begins with it what it would have begun at the end of its headers. While one rides it
stands where uvicorn has the request under way: what is pipelined behind it, the end of the server
and damaged requests find it there.
"""

import asyncio
import time
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from handful_service import express
from handful_service.connections import GuardedProtocol
from handful_service.express import Express, Headers, Ride

_METHOD = express.METHOD.encode()
_PATIENCE = 0.05  # seconds; some clients send headers and body one after the other


class ExpressProtocol(GuardedProtocol):
    """A connection some of whose requests ride."""

    _body: bytes | None = None  # so far, of a request that is held back
    _body_since = 0.0
    _impatient: asyncio.TimerHandle | None = None
    _ride: Ride | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Find what lets requests ride."""
        super().connection_made(transport)
        self._express: Express = self.app_state[express.STATE]

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up who rides."""
        self._go_the_long_way()
        if self._ride is not None:
            self._ride.abandon()
            self._alight()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Begin to close, once what is under way is answered."""
        self._go_the_long_way()
        super().shutdown()

    def end(self) -> None:
        """Close, without what is not whole."""
        self._let_go()
        super().end()

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        super().data_received(data)
        if self._body is not None and self._impatient is None:
            self._impatient = self.loop.call_later(_PATIENCE, self._go_the_long_way)

    def begin(self) -> None:
        """Hold the request back if it may ride."""
        if (
            self._express.knows(self.url)
            and self.parser.get_method() == _METHOD
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
            and not self.transport.is_closing()
        ):
            self._body = b""
            self._body_since = time.perf_counter()
        else:
            super().begin()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body."""
        if self._body is not None:
            if len(self._body) + len(body) <= self._express.max_bytes:
                self._body += body
                return
            self._go_the_long_way()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Let the request ride."""
        if self._body is not None and self._board(self._body):
            self.waits_since = None
        else:
            self._go_the_long_way()
            super().on_message_complete()

    def arrived(self, ride: Ride, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer to who rode."""
        self._alight()
        if not self.transport.is_closing():
            lines = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
            lines += [b"%b: %b\r\n" % pair for pair in headers]
            if not ride.keep_alive:
                lines.append(b"connection: close\r\n")
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(lines), body))
            if not ride.keep_alive:
                self.transport.close()
        self.on_response_complete()

    def _board(self, body: bytes) -> bool:
        fields = cast("Headers", self.scope["headers"])
        ride = self._express.board(self, self.url, fields, self._body_since)
        if ride is None:
            return False
        self._let_go()
        ride.keep_alive = (
            self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        )
        self._ride = ride
        self.cycle = ride  # type: ignore[assignment]  # both are kept alive and become complete
        ride.start(body)
        return True

    def _alight(self) -> None:
        """Nobody rides any more."""
        if self.cycle is self._ride:  # type: ignore[comparison-overlap]  # see _board
            self.cycle = None  # type: ignore[assignment]  # uvicorn begins with it
        self._ride = None

    def _let_go(self) -> None:
        """Hold nothing back any more."""
        self._body = None
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None

    def _go_the_long_way(self) -> None:
        """Begin with what is held back, if anything is, as uvicorn would have."""
        body = self._body
        if body is not None:
            self._let_go()
            super().begin()
            if body:
                super().on_body(body)
