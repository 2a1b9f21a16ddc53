"""What every response bears and leaves behind: headers, a metric, a line in the log.

The outermost layer, in plain ASGI, so that it also covers what the layers inside refuse or break.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handful_service.context import RequestContext, attach
from handful_service.errors import PROBLEM_JSON, ServiceError, problem
from handful_service.keys import Keys
from handful_service.pipeline import Pipeline
from handful_service.request_id import request_id_of

_log = logging.getLogger("handful.access")
# What tells nothing of images, labels or load: for supervisors, and for who reads on how to ask.
_OPEN = frozenset({"/livez", "/readyz", "/docs", "/openapi.json"})
CLIENT_GONE = 499  # nginx's number for the log and the metric; nobody is left to receive it


class Envelope:
    """Opens the context of a request and closes it."""

    def __init__(self, app: ASGIApp, pipeline: Pipeline, keys: Keys | None = None) -> None:
        self._app = app
        self._pipeline = pipeline
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._pipeline.backlog.enter() as entry:
            headers = _mapping(scope["headers"])
            context = RequestContext(request_id_of(headers), headers, entry)
            attach(scope, context)

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    context.status = message["status"]
                    message["headers"] = [*message.get("headers", ()), *self._headers(context)]
                await send(message)

            try:
                await self._answer(scope, receive, send_with_headers, context)
            finally:
                self._record(scope, context)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        try:
            if self._keys is not None and scope["path"] not in _OPEN:
                self._keys.check(context)
            await self._app(scope, receive, send)
        except ServiceError as error:
            refusal = error
        except Exception:
            if context.status:  # too late for another answer: the server closes the connection
                raise
            _log.exception("request %s failed", context.request_id)
            refusal = ServiceError(
                "internal_error", "The service failed; its log has more under this request_id."
            )
        else:
            return
        if not context.status:
            await problem_response(refusal, context)(scope, receive, send)

    def _headers(self, context: RequestContext) -> Iterator[tuple[bytes, bytes]]:
        served = context.served or self._pipeline.models.current
        yield b"x-request-id", context.request_id.encode()
        yield b"x-model-version", served.version.encode() if served else b"none"
        yield b"x-embedding-space", served.space.encode() if served else b"none"
        yield b"server-timing", context.server_timing().encode()

    def _record(self, scope: Scope, context: RequestContext) -> None:
        if "route" in scope:
            context.route = getattr(scope["route"], "path", context.route)
        route = context.route
        status = context.status or CLIENT_GONE
        metrics = self._pipeline.metrics
        metrics.request_ended(route, status, context.elapsed, context.seconds)
        if context.problem is not None:
            metrics.problems.labels(route, context.problem).inc()
        level = logging.DEBUG if route in {"/livez", "/readyz", "/metrics"} else logging.INFO
        if _log.isEnabledFor(level):
            # Not by _log.log, which looks for the line of code that it was called from.
            record = logging.LogRecord(
                _log.name, level, "", 0, "%s %s %d", (scope["method"], route, status), None
            )
            record.request_id = context.request_id
            record.milliseconds = round(1000 * context.elapsed, 2)
            record.images = context.images
            _log.handle(record)


def problem_response(error: ServiceError, context: RequestContext) -> Response:
    """Return `error` as an RFC 9457 response, and note in `context` that it is the answer."""
    context.problem = error.code
    return Response(
        orjson.dumps(problem(error, context.request_id)),
        status_code=error.kind.status,
        headers=error.headers,
        media_type=PROBLEM_JSON,
    )


def _mapping(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    pairs = list(headers)
    found = dict(pairs)
    if len(found) < len(pairs):  # RFC 9110, section 5.3: a list in parts
        found = {}
        for name, value in pairs:
            found[name] = b", ".join((found[name], value)) if name in found else value
    return found
