"""What every response bears and leaves behind: headers, a metric, a line in the log.

The outermost layer, in plain ASGI, so that it also covers what the layers inside refuse or break.
"""

import logging
import re
import uuid

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handful_service.context import RequestContext, attach
from handful_service.errors import PROBLEM_JSON, ServiceError, problem
from handful_service.pipeline import Pipeline

_log = logging.getLogger("handful.access")
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_GONE = 499  # nginx's number for the log and the metric; nobody is left to receive it


class Envelope:
    """Opens the context of a request and closes it."""

    def __init__(self, app: ASGIApp, pipeline: Pipeline) -> None:
        self._app = app
        self._pipeline = pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._pipeline.backlog.enter() as entry:
            context = RequestContext(_request_id(Headers(scope=scope)), entry)
            attach(scope, context)

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    context.status = message["status"]
                    self._add_headers(MutableHeaders(scope=message), context)
                await send(message)

            try:
                await self._answer(scope, receive, send_with_headers, context)
            finally:
                self._record(scope, context)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        try:
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

    def _add_headers(self, headers: MutableHeaders, context: RequestContext) -> None:
        served = context.served or self._pipeline.models.current
        headers["X-Request-ID"] = context.request_id
        headers["X-Model-Version"] = served.version if served else "none"
        headers["X-Embedding-Space"] = served.space if served else "none"
        headers["Server-Timing"] = context.server_timing()

    def _record(self, scope: Scope, context: RequestContext) -> None:
        # The route's template, never the path that was sent: bounded, and nobody's data.
        route = getattr(scope.get("route"), "path", "unmatched")
        status = context.status or CLIENT_GONE
        metrics = self._pipeline.metrics
        metrics.requests.labels(route, str(status)).inc()
        if context.problem is not None:
            metrics.problems.labels(route, context.problem).inc()
        metrics.request_seconds.labels(route).observe(context.elapsed)
        level = logging.DEBUG if route in {"/livez", "/readyz", "/metrics"} else logging.INFO
        if _log.isEnabledFor(level):
            _log.log(
                level,
                "%s %s %d",
                scope["method"],
                route,
                status,
                extra={
                    "request_id": context.request_id,
                    "milliseconds": round(1000 * context.elapsed, 2),
                    "images": context.images,
                },
            )


def problem_response(error: ServiceError, context: RequestContext) -> Response:
    """Return `error` as an RFC 9457 response, and note in `context` that it is the answer."""
    context.problem = error.code
    return Response(
        to_json(problem(error, context.request_id)),
        status_code=error.kind.status,
        headers=error.headers,
        media_type=PROBLEM_JSON,
    )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
