"""One error per cause. Each bears `status`, `code`, `request_id` and `retryable`.

HandfulError
├── InputError               an argument is wrong; nothing was sent (also a ValueError)
│   ├── ImageUnreadable      a file that cannot be opened, or an object that is no image
│   ├── BundleUnusable       `Handful.local`: the folder is no sound bundle
│   └── MissingExtra         an optional package is not installed (also an ImportError)
├── ConnectionFailed         nobody answers at this URL; says how to start the service
├── ConnectionLost           the connection broke before the answer was whole
├── TimedOut                 no whole answer within the timeout
├── UnexpectedAnswer         the answer is not Handful's: another server, or another version
├── SpaceMismatch            embeddings of two spaces would be mixed; also 409 space_mismatch
├── PartialFailure           some images failed; `results` and `errors` hold everything
└── ServiceError             the service answered with a problem (RFC 9457)
    ├── BadRequest           400 and any other 4xx
    ├── Unauthorized         401: no key, or a wrong one
    ├── Forbidden            403: the key may not do this
    ├── NotFound             404, 405: an older service, or a proxy's path
    ├── Conflict             409
    │   ├── NoHead           the model has no classifier head yet
    │   └── NoDecoder        the model cannot decode
    ├── ImageRejected        4xx about the one image that was sent: code image_*
    ├── TooSlow              408: the request arrived too slowly
    ├── TooLarge             413: the body is larger than the service takes
    ├── Unprocessable        422: the body is not what the route takes
    ├── RateLimited          429: this key's limit; `retry_after`
    ├── InternalError        500 and any other 5xx
    ├── Unavailable          503: overloaded, starting or draining; `retry_after`
    └── DeadlineExceeded     504: given up in the queue, not executed
"""

from collections.abc import Sequence
from typing import Any


class HandfulError(Exception):
    """Root of all errors of this package.

    Attributes:
        status: HTTP status of the answer; None where there was none.
        code: the cause, as the service names it (`no_head`) or as this package does.
        request_id: what to look for in the service's log; None where nothing was sent.
        retryable: the same call may succeed later, unchanged.
        retry_after: seconds that the service asks to wait; None where it does not say.
        attempts: how often the request was sent.
    """

    default_code = "error"
    default_retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code or self.default_code
        self.request_id = request_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        facts = [f"request {self.request_id}"] if self.request_id else []
        if self.attempts > 1:
            facts.append(f"{self.attempts} attempts")
        return f"{self.message} ({', '.join(facts)})" if facts else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default; worker processes need them.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(kind: type[HandfulError], message: str, state: dict[str, Any]) -> HandfulError:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    error.args = (message,)
    return error


class InputError(HandfulError, ValueError):
    """An argument is wrong. Nothing was sent."""

    default_code = "bad_input"


class ImageUnreadable(InputError):
    """A file cannot be opened, or an object is no image."""

    default_code = "file_unreadable"


class BundleUnusable(InputError):
    """The folder given to `Handful.local` is no sound bundle."""

    default_code = "bundle_unusable"


class MissingExtra(InputError, ImportError):
    """An optional package is not installed; the message is the command that installs it."""

    default_code = "missing_extra"


class ConnectionFailed(HandfulError):
    """Nobody answers at this URL."""

    default_code = "connection_failed"
    default_retryable = True


class ConnectionLost(HandfulError):
    """The connection broke before the answer was whole."""

    default_code = "connection_lost"
    default_retryable = True


class TimedOut(HandfulError):
    """No whole answer came within the timeout."""

    default_code = "timeout"
    default_retryable = True


class UnexpectedAnswer(HandfulError):
    """The answer is not one that Handful gives."""

    default_code = "unexpected_answer"


class SpaceMismatch(HandfulError):
    """Embeddings of two spaces would be mixed. Such vectors must never be compared."""

    default_code = "space_mismatch"


class PartialFailure(HandfulError):
    """Some images failed. Nothing is lost: the others' results are here.

    Attributes:
        results: one per image, in order; an `ItemError` where the image failed.
        errors: the `ItemError`s alone.
    """

    default_code = "partial_failure"

    def __init__(
        self, message: str, *, results: Sequence[Any] = (), errors: Sequence[Any] = ()
    ) -> None:
        super().__init__(message)
        self.results = list(results)
        self.errors = list(errors)


class ServiceError(HandfulError):
    """The service answered with a problem."""

    default_code = "service_error"


class BadRequest(ServiceError):
    """The service does not take the request as it stands."""


class Unauthorized(ServiceError):
    """The service wants an API key, or does not know this one."""


class Forbidden(ServiceError):
    """The API key may not do this."""


class NotFound(ServiceError):
    """The URL leads to something else than this route."""


class Conflict(ServiceError):
    """The model that is served cannot do what was asked."""


class NoHead(Conflict):
    """The model has no classifier head yet."""

    default_code = "no_head"


class NoDecoder(Conflict):
    """The model cannot decode."""

    default_code = "no_decoder"


class ImageRejected(ServiceError):
    """The one image that was sent cannot be used; `code` names the cause."""


class TooSlow(ServiceError):
    """The request arrived more slowly than the service waits."""

    default_retryable = True


class TooLarge(ServiceError):
    """The body is larger than the service takes."""


class Unprocessable(ServiceError):
    """The body is not what the route takes."""


class RateLimited(ServiceError):
    """This key has used up its limit for now."""

    default_retryable = True


class InternalError(ServiceError):
    """The service failed."""


class Unavailable(ServiceError):
    """The service is overloaded, starting or draining."""

    default_retryable = True


class DeadlineExceeded(ServiceError):
    """The request waited too long and was given up before it was executed."""
