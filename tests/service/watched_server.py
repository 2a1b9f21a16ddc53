"""`handful-serve` with a window: `GET /objects` counts what the process holds. Tests start it.

    python watched_server.py --model BUNDLE …

WATCHED_LEAK=100 keeps that many bytes of every request; WATCHED_LEAK_FROM=400 only of those whose
status is that or higher: controls, which whoever looks for leaks must find.
"""

import asyncio
import gc
import json
import os
import sys
import threading

from starlette.types import Receive, Scope, Send

from handful_service import app, envelope, server
from handful_service.context import RequestContext
from handful_service.supervisor import Post

SIZE = int(os.environ.get("WATCHED_LEAK", "0"))
FROM = int(os.environ.get("WATCHED_LEAK_FROM", "0"))

_kept: list[bytearray] = []


class Keeping(envelope.Envelope):
    """Keeps something of each request."""

    def record(self, method: str, context: RequestContext) -> None:
        """Keep it when the request is over."""
        if context.status >= FROM:
            _kept.append(bytearray(os.urandom(SIZE)))
        super().record(method, context)


class Watched(app.Application):
    """The app with the window."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "http" and scope["path"] == "/objects":
            await self._answer(send)
            return
        await super().__call__(scope, receive, send)

    async def _answer(self, send: Send) -> None:
        gc.collect()
        blocks = sys.getallocatedblocks()  # of Python's allocator: also what gc does not follow
        served = self.state.pipeline.models.current
        kinds: dict[str, int] = {}  # no Counter: it fills caches of abc, which would be counted
        for one in gc.get_objects():
            kinds[type(one).__name__] = kinds.get(type(one).__name__, 0) + 1
        counts = {
            "blocks": blocks,
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "leases": served._leases if served else 0,
            "objects": kinds,
        }
        body = json.dumps(counts).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve, without a supervisor."""
    app.Application = Watched
    if SIZE:
        app.Envelope = Keeping
    server.serve(None, Post())


if __name__ == "__main__":
    main()
