"""How a body comes in: bounded in size and time, uncompressed, from a client that still waits.

Plain ASGI. Once the body is whole, one task listens for the client hanging up and then cancels
the request, so that what waits in a queue is not computed. It begins to listen late: most requests
are answered before, and spare themselves the task.
"""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handful_service.context import RequestContext, context_of
from handful_service.errors import Overloaded, ServiceError
from handful_service.memory import Ceiling
from handful_service.metrics import Metrics
from handful_service.settings import Settings

_LISTEN_AFTER = 0.05  # seconds
_MEMORY_RETRY_AFTER = 5  # seconds


class BodyGuard:
    """Bounds bodies and notices clients that are gone.

    Args:
        app: answers within it.
        settings: the limits.
        metrics: counts clients that are gone.
        ceiling: says when memory is short.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, ceiling: Ceiling
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._ceiling = ceiling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        self.check(context)
        incoming = _Incoming(receive, context, self._settings)
        try:
            await self._app(scope, incoming, send)
        except ClientDisconnect:  # before the body was whole
            self._metrics.abandoned.inc()
        except asyncio.CancelledError:
            if not incoming.client_gone:
                raise  # the server itself stops
            self._metrics.abandoned.inc()
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            incoming.close()

    def check(self, context: RequestContext) -> None:
        """Let a request pass that may send its body.

        Raises:
            ServiceError: memory is short, or its headers announce what is not taken.
        """
        if self._ceiling.near:
            raise Overloaded("memory is short; try again later", retry_after=_MEMORY_RETRY_AFTER)
        encoding = context.headers.get(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise ServiceError(
                "body_compressed", "Send the body without Content-Encoding; images are small as is."
            )
        declared = context.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._settings.max_body_bytes:
            raise _too_large(self._settings)


class _Incoming:
    """The `receive` of one request."""

    def __init__(self, receive: Receive, context: RequestContext, settings: Settings) -> None:
        self._receive = receive
        self._context = context
        self._settings = settings
        self._received = 0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(settings.body_seconds, self._give_up)
        self._whole = self._late = self._receiving = False
        self._listener: asyncio.Task[Message] | None = None
        self._request = asyncio.current_task()
        self.client_gone = False

    async def __call__(self) -> Message:
        if self._whole:  # only the end can follow
            self._begin_to_listen()
            assert self._listener is not None
            return await asyncio.shield(self._listener)
        if self._late:
            raise self._too_late()
        self._receiving = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._late or self._request is None:
                raise
            self._request.uncancel()
            raise self._too_late() from None
        finally:
            self._receiving = False
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            if not message.get("more_body", False):
                self._whole = True
                self._timer.cancel()
                self._timer = self._loop.call_later(_LISTEN_AFTER, self._begin_to_listen)
        return message

    def close(self) -> None:
        """The answer is sent, or will never be."""
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _give_up(self) -> None:
        """The rest of the body has not come in time."""
        self._late = True
        if self._receiving and self._request is not None:
            self._request.cancel()

    def _too_late(self) -> ServiceError:
        return ServiceError(
            "body_timeout",
            f"The body did not arrive within {self._settings.body_seconds:g} s; send less at once.",
            headers={"Connection": "close"},
        )

    def _begin_to_listen(self) -> None:
        if self._listener is None:
            self._listener = self._loop.create_task(self._listen())

    def _count(self, size: int) -> None:
        self._received += size
        if self._received > self._settings.max_body_bytes:
            raise _too_large(self._settings)
        self._context.entry.hold(size=size)

    async def _listen(self) -> Message:
        message = await self._receive()
        # uvicorn says "disconnect" also after a complete answer.
        if self._context.status == 0 and self._request is not None:
            self.client_gone = True
            self._request.cancel()
        return message


def _too_large(settings: Settings) -> ServiceError:
    return ServiceError(
        "body_too_large",
        f"A body has at most {settings.max_body_bytes} bytes; send several requests.",
    )
