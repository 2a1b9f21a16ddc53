"""Refusing a single image by its headers, as cheaply as can be.

What it costs to refuse is lost for those who are let in: at ten times what can be done, nine of ten
are refused. So the answer is ready but for the request's id, and no task and no line in the log is
made for it; metrics count it as any other.
"""

from collections.abc import Iterable

import orjson

from handful_service.backlog import Backlog
from handful_service.errors import PROBLEM_JSON, Overloaded, problem
from handful_service.metrics import Metrics
from handful_service.request_id import request_id_of

_ROUTES = ("/embed", "/classify", "/reconstruct")
_ERROR = Overloaded("as many images are waiting as may; try again later")
# Every answer bears these; no model has to do with what is refused before a request is read.
NO_MODEL = {
    "X-Model-Version": "none",
    "X-Embedding-Space": "none",
    "Server-Timing": "total;dur=0.00",
}
_LINES = {**_ERROR.headers, "Content-Type": PROBLEM_JSON, **NO_MODEL}
_HEAD = b"HTTP/1.1 %d Service Unavailable\r\n%b" % (
    _ERROR.kind.status,
    "".join(f"{name}: {value}\r\n" for name, value in _LINES.items()).encode(),
)
_CLOSE = b"Connection: close\r\n"
_ID = "request-id"  # stands for it
_BEFORE, _, _AFTER = orjson.dumps(problem(_ERROR, _ID)).partition(_ID.encode())


class Busy:
    """Knows whether there is room, and counts whom it refuses.

    Args:
        backlog: what waits.
        metrics: counts.
    """

    def __init__(self, backlog: Backlog, metrics: Metrics) -> None:
        self._backlog = backlog
        self._metrics = metrics
        self._problems = {
            route.encode(): (route, metrics.problems.labels(route, _ERROR.code))
            for route in _ROUTES
        }

    def refusal(
        self, method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]], *, close: bool
    ) -> bytes | None:
        """Return the answer to a single image for which there is no room, header and all.

        None lets a request go on: where there is room, or it is something else.
        """
        route = self._problems.get(target)
        if route is None or method != b"POST" or not self._backlog.is_full():
            return None
        headers = dict(fields)
        if not headers.get(b"content-type", b"").startswith(b"image/"):
            return None
        name, problems = route
        problems.inc()
        self._metrics.request_refused(name, _ERROR.kind.status)
        request_id = request_id_of(headers).encode()
        return b"%b%bX-Request-ID: %b\r\nContent-Length: %d\r\n\r\n%b%b%b" % (
            _HEAD,
            _CLOSE if close else b"",
            request_id,
            len(_BEFORE) + len(request_id) + len(_AFTER),
            _BEFORE,
            request_id,
            _AFTER,
        )
