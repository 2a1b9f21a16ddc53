"""What a route is given."""

from typing import Annotated

from fastapi import Depends, Request

from handful_service.context import RequestContext, context_of
from handful_service.inputs import Reader
from handful_service.pipeline import Pipeline


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


class Call:
    """One request with all that answers it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.pipeline = _pipeline(request)
        self.context: RequestContext = context_of(request.scope)
        self.reader = Reader(request, self.pipeline.pool, self.pipeline.settings.max_images)


async def _call(request: Request) -> Call:  # async: FastAPI runs plain functions in a thread
    return Call(request)


CallDep = Annotated[Call, Depends(_call)]
