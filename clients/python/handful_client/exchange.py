"""One request until it has an answer: attempts, pauses, and when to give up."""

import itertools
import uuid

from handful_client import problems, retry
from handful_client.errors import ConnectionFailed, ConnectionLost, HandfulError
from handful_client.flow import Flow, Reply, Request, Send, Wait
from handful_client.options import Options
from handful_client.version import __version__

_MOST_MILLISECONDS = 999_999_999  # that the service reads


def exchange(request: Request, options: Options, budget: retry.RetryBudget) -> Flow[Reply]:
    """Send a request until it succeeds, fails for good, or patience ends.

    Tries again on 408, 429, 503 and lost connections: every route only computes, so that a second
    execution changes nothing.

    Raises:
        HandfulError: the last attempt's cause.
    """
    request_id = uuid.uuid4().hex  # one for all attempts, so that the log shows them together
    headers = _headers(request, options, request_id)
    budget.request()
    for attempt in itertools.count():
        try:
            reply: Reply = yield Send(request, headers, options.timeout)
        except (ConnectionFailed, ConnectionLost) as lost:
            error: HandfulError = lost
        else:
            if 200 <= reply.status < 300:
                return reply
            error = problems.from_reply(reply, url=options.url, request_id=request_id)
            if reply.status not in retry.RETRY_STATUS:
                raise error
        error.attempts = attempt + 1
        pause = retry.delay(attempt, error.retry_after)
        if attempt >= options.max_retries or pause is None or not budget.allows_retry():
            raise error
        yield Wait(pause)
    raise AssertionError("unreachable: the loop has no end of its own")


def _headers(request: Request, options: Options, request_id: str) -> dict[str, str]:
    headers = {
        "accept": request.accept,
        "user-agent": f"handful-client/{__version__}",
        "x-request-id": request_id,
    }
    if request.content_type is not None:
        headers["content-type"] = request.content_type
    if request.method == "POST":  # who has given up by then has nothing computed for nobody
        milliseconds = min(1000 * options.timeout, _MOST_MILLISECONDS)
        headers["x-request-timeout-ms"] = str(max(1, int(milliseconds)))
    if options.api_key is not None:
        headers["authorization"] = f"Bearer {options.api_key}"
    return headers
