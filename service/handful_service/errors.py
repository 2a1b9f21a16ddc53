"""Every way a request can fail, in one table, and how a failure is told (RFC 9457).

HandfulError
└── ServiceError     a request, or one item of it, cannot be answered; `code` names the cause
    └── Overloaded   no room now; nothing was computed

The sender's faults (4xx) are told in detail; ours (5xx) only by name, with a `request_id` that
finds the rest in the log. No message repeats what was sent.
"""

from typing import Any, NamedTuple

from handful_bundle.errors import HandfulError, ImageError

PROBLEM_JSON = "application/problem+json"


class Kind(NamedTuple):
    """What a code means to a client."""

    status: int
    title: str
    retryable: bool = False  # the same request may succeed later


KINDS: dict[str, Kind] = {
    # one image
    "image_empty": Kind(400, "The image has no bytes"),
    "image_unsupported": Kind(415, "Not a JPEG, PNG or WebP image"),
    "image_mismatched": Kind(415, "The image is not of the declared media type"),
    "image_too_large": Kind(413, "The image has too many pixels"),
    "image_animated": Kind(422, "The image has more than one frame"),
    "image_unreadable": Kind(422, "The image is truncated, corrupt or of an impossible size"),
    "base64_invalid": Kind(422, "The image is not base64"),
    # the request
    "bad_request": Kind(400, "The request is malformed"),
    "multipart_invalid": Kind(400, "The multipart body is malformed"),
    "host_unknown": Kind(400, "The service is not called by this name"),
    "header_too_large": Kind(431, "The header is too large"),
    "unauthorized": Kind(401, "The request bears no live key"),
    "not_found": Kind(404, "There is no such route"),
    "method_not_allowed": Kind(405, "The route does not take this method"),
    "body_timeout": Kind(408, "The body did not arrive in time", retryable=True),
    "no_head": Kind(409, "The model has no classifier head"),
    "no_decoder": Kind(409, "The model has no decoder"),
    "no_classes": Kind(409, "The model has no statistics of its classes"),
    "space_mismatch": Kind(409, "The embeddings are of another embedding space"),
    "body_too_large": Kind(413, "The body is too large"),
    "body_compressed": Kind(415, "The body is compressed"),
    "media_type_unsupported": Kind(415, "The body is of a media type that the route does not take"),
    "json_invalid": Kind(422, "The JSON body is not what the route takes"),
    "npy_invalid": Kind(422, "The npy body is not what the route takes"),
    "parameter_invalid": Kind(422, "A parameter is not what the route takes"),
    "no_images": Kind(422, "The request holds no images"),
    "too_many_items": Kind(422, "The request holds too many items"),
    "label_unknown": Kind(422, "The model has no such label"),
    "items_failed": Kind(422, "Items failed, and the answer's format has no place for errors"),
    "share_exceeded": Kind(429, "The key's share of the queue is used up", retryable=True),
    # the service
    "nonfinite_output": Kind(500, "The model gave an output that is not finite"),
    "internal_error": Kind(500, "The service failed"),
    "overloaded": Kind(503, "The service is overloaded", retryable=True),
    "device_memory": Kind(503, "The device has too little memory free", retryable=True),
    "device_failed": Kind(503, "The GPU has failed", retryable=True),
    "not_ready": Kind(503, "The service is not ready", retryable=True),
    "deadline_exceeded": Kind(504, "The answer would have come too late", retryable=True),
}
"""The one table of codes: status, title, and whether to try again."""


def problem_type(code: str) -> str:
    """Return the URI that names `code`."""
    return f"urn:handful:problem:{code}"


class ServiceError(HandfulError):
    """A request, or one item of it, cannot be answered.

    Args:
        code: a key of `KINDS`.
        detail: what was found and the remedy; for the sender's eyes.
        retry_after: seconds after which to try again.
        errors: the failed items, as `item_error` writes them.
        headers: further response headers.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.kind = KINDS[code]
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    @classmethod
    def of_image(cls, error: ImageError) -> "ServiceError":
        """Return what an image's own error means to a client."""
        return cls(error.code, str(error))


class Overloaded(ServiceError):
    """There is no room for the request now. Nothing of it was computed."""

    def __init__(self, detail: str, *, retry_after: int = 1, code: str = "overloaded") -> None:
        super().__init__(code, detail, retry_after=retry_after)


def item_error(index: int, error: ServiceError) -> dict[str, Any]:
    """Return the entry of an answer's `errors` for the failed item `index`."""
    return {
        "index": index,
        "type": problem_type(error.code),
        "code": error.code,
        "detail": error.detail,
    }


def problem(error: ServiceError, request_id: str) -> dict[str, Any]:
    """Return the problem document (RFC 9457) for a failed request."""
    body: dict[str, Any] = {
        "type": problem_type(error.code),
        "title": error.kind.title,
        "status": error.kind.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "retryable": error.kind.retryable,
    }
    if error.errors is not None:
        body["errors"] = error.errors
    return body
