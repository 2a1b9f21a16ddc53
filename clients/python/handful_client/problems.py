"""From an answer that is no success to the error that names its cause."""

import json
from typing import Any

from handful_client import errors, retry
from handful_client.flow import Reply

_BY_CODE: dict[str, type[errors.HandfulError]] = {
    "no_head": errors.NoHead,
    "no_decoder": errors.NoDecoder,
    "space_mismatch": errors.SpaceMismatch,
}

_BY_STATUS: dict[int, type[errors.HandfulError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.NotFound,
    408: errors.TooSlow,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.Unprocessable,
    429: errors.RateLimited,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}


def from_reply(reply: Reply, *, url: str, request_id: str) -> errors.HandfulError:
    """Return the error for an answer whose status is not 2xx."""
    problem = _problem(reply)
    request_id = reply.headers.get("x-request-id", request_id)
    if problem is None and reply.status not in retry.RETRY_STATUS:
        kind: type[errors.HandfulError] = errors.UnexpectedAnswer
        if reply.status in {401, 403}:  # a proxy in front of the service speaks for itself
            kind = _BY_STATUS[reply.status]
        return kind(
            f"{url} answered {reply.status} without a problem document; "
            "is it the URL of a Handful service?",
            status=reply.status,
            request_id=request_id,
        )
    problem = problem or {}
    code = _text(problem.get("code"))
    detail = _text(problem.get("detail")) or _text(problem.get("title")) or "no detail given"
    retryable = problem.get("retryable")
    return _kind(reply.status, code)(
        f"{detail} ({reply.status}{' ' + code if code else ''})",
        status=reply.status,
        code=code,
        request_id=_text(problem.get("request_id")) or request_id,
        retryable=retryable if isinstance(retryable, bool) else None,
        retry_after=retry.retry_after(reply.headers.get("retry-after")),
    )


def _kind(status: int, code: str | None) -> type[errors.HandfulError]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code is not None and code.startswith("image_") and 400 <= status < 500:
        return errors.ImageRejected
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return errors.InternalError if status >= 500 else errors.BadRequest


def _problem(reply: Reply) -> dict[str, Any] | None:
    if "json" not in reply.headers.get("content-type", ""):
        return None
    try:
        problem = json.loads(reply.body)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
