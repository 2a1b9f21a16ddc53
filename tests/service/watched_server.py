"""`handful-serve` with a window: `GET /objects` counts what the process holds. Tests start it.

    python watched_server.py --model BUNDLE …

WATCHED_LEAK=100 keeps that many bytes of every request that comes through ASGI, which small images
may not; WATCHED_LEAK_FROM=400 only of those whose status is that or higher: controls, which whoever
looks for leaks must find.
"""

import asyncio
import gc
import json
import os
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from handful_service import app, server
from handful_service.supervisor import Post

SIZE = int(os.environ.get("WATCHED_LEAK", "0"))
FROM = int(os.environ.get("WATCHED_LEAK_FROM", "0"))

_kept: list[bytearray] = []


def _keep(message: MutableMapping[str, Any]) -> None:
    if message.get("status", -1) >= FROM:
        _kept.append(bytearray(os.urandom(SIZE)))


class Watched(app.Application):
    """The app with the window, and the leak if one is wanted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "http" and scope["path"] == "/objects":
            await self._answer(send)
            return

        async def seen(message: Message) -> None:
            _keep(message)
            await send(message)

        await super().__call__(scope, receive, seen if SIZE else send)

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
    server.serve(None, Post())


if __name__ == "__main__":
    main()
