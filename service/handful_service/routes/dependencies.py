"""What a route is given."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Receive, Scope

from handful_service.context import RequestContext, context_of
from handful_service.inputs import Reader
from handful_service.pipeline import Pipeline


class Call:
    """One request with all that answers it."""

    __slots__ = ("context", "pipeline", "reader")

    def __init__(self, scope: Scope, receive: Receive, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.context: RequestContext = context_of(scope)
        self.reader = Reader(receive, self.context, pipeline.pool, pipeline.settings.max_images)


async def _call(request: Request) -> Call:  # async: FastAPI runs plain functions in a thread
    return Call(request.scope, request.receive, request.app.state.pipeline)


CallDep = Annotated[Call, Depends(_call)]
