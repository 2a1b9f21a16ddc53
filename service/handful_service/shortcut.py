"""The two busy routes, in front of FastAPI's router.

Matching, dependencies and validation of a route cost as much as all else that a small image does;
`/embed` and `/classify` need none of it. FastAPI has the same two routes: for what is rare here,
such as an unknown parameter, and for the OpenAPI document.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handful_service.pipeline import Pipeline
from handful_service.routes import classify, embed
from handful_service.routes.dependencies import Call

Answer = Callable[[Call], Awaitable[Response]]

_ANSWERS: dict[tuple[str, bytes], Answer] = {
    ("/embed", b""): partial(embed.answer, latent=False),
    ("/embed", b"space=embedding"): partial(embed.answer, latent=False),
    ("/embed", b"space=latent"): partial(embed.answer, latent=True),
    ("/classify", b""): classify.classify,
}


def knows(scope: Scope) -> bool:
    """Whether a `Shortcut` answers this request."""
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and (scope["path"], scope["query_string"]) in _ANSWERS
    )


class Shortcut:
    """Answers the requests that it knows."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        call = Call(scope, receive, self._pipeline)
        call.context.route = scope["path"]
        response = await _ANSWERS[scope["path"], scope["query_string"]](call)
        await response(scope, receive, send)
