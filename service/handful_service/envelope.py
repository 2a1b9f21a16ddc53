"""What every response bears and leaves behind: headers, a metric, a line in the log.

The outermost layer, in plain ASGI, so that it also covers what the layers inside refuse or break.
"""

import logging
from collections.abc import Iterable, Mapping

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handful_service.context import RequestContext, attach
from handful_service.device import DeviceTrouble
from handful_service.errors import PROBLEM_JSON, ServiceError, problem
from handful_service.keys import Keys
from handful_service.logs import AccessLog
from handful_service.pipeline import Pipeline
from handful_service.request_id import request_id_of

_log = logging.getLogger("handful.access")
# What tells nothing of images, labels or load: for supervisors, and for who reads on how to ask.
_OPEN = frozenset({"/livez", "/readyz", "/docs", "/openapi.json"})
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds
_NO_MODEL = [(b"x-model-version", b"none"), (b"x-embedding-space", b"none")]
CLIENT_GONE = 499  # nginx's number for the log and the metric; nobody is left to receive it


class Envelope:
    """Opens the context of a request and closes it.

    Args:
        app: answers within it.
        pipeline: whose backlog a request enters.
        keys: who may ask; None: anyone.
    """

    def __init__(self, app: ASGIApp, pipeline: Pipeline, keys: Keys | None = None) -> None:
        self._app = app
        self._pipeline = pipeline
        self._keys = keys
        self._access_log = AccessLog(_log.name)

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
                    message["headers"] = [*message.get("headers", ()), *self.headers(context)]
                await send(message)

            try:
                await self._answer(scope, receive, send_with_headers, context)
            finally:
                if "route" in scope:
                    context.route = getattr(scope["route"], "path", context.route)
                self.record(scope["method"], context)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext
    ) -> None:
        try:
            if scope["path"] not in _OPEN:
                self.check(context)
            await self._app(scope, receive, send)
        except Exception as error:
            if not context.status:
                await self.refusal(error, context)(scope, receive, send)
            elif not isinstance(error, ServiceError):
                raise  # too late for another answer: the server closes the connection

    def check(self, context: RequestContext) -> None:
        """Let a request pass that bears a live key, if one is needed.

        Raises:
            ServiceError: it does not.
        """
        if self._keys is not None:
            tenant = self._keys.check(context)
            if tenant is not None:
                context.entry.belong(tenant)

    def refusal(self, error: Exception, context: RequestContext) -> Response:
        """Return the answer to a request that failed with `error`."""
        if isinstance(error, DeviceTrouble):
            error = self._pipeline.device.refusal(error)
        if isinstance(error, ServiceError):
            return problem_response(error, context)
        _log.error("request %s failed", context.request_id, exc_info=error)
        return problem_response(
            ServiceError(
                "internal_error", "The service failed; its log has more under this request_id."
            ),
            context,
        )

    def headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        """Return what every response bears, in lower case."""
        served = context.served or self._pipeline.models.current
        return [
            (b"x-request-id", context.request_id.encode()),
            *(_NO_MODEL if served is None else served.headers),
            (b"server-timing", context.server_timing().encode()),
        ]

    def record(self, method: str, context: RequestContext) -> None:
        """Count the request and write its line, when it is over."""
        route, status, seconds = context.route, context.status or CLIENT_GONE, context.elapsed
        metrics = self._pipeline.metrics
        metrics.request_ended(route, status, seconds, context.seconds)
        if context.problem is not None:
            metrics.problems.labels(route, context.problem).inc()
        self._access_log.answered(
            logging.DEBUG if route in _QUIET else logging.INFO,
            f"{method} {route} {status}",
            request_id=context.request_id,
            milliseconds=round(1000 * seconds, 2),
            images=context.images,
        )
        # The server keeps what it knew of a request in reference cycles, which are looked for
        # rarely: a model that was replaced must not wait for that.
        context.served = None


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
