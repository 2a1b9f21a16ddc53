"""Puts the parts together: settings → app. Imports neither mlflow nor any training library."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from handful_bundle.bundle import Bundle
from handful_bundle.session import cpu_quota
from handful_service import connections, express
from handful_service.body import BodyGuard
from handful_service.cache import Cache
from handful_service.context import context_of
from handful_service.envelope import Envelope, problem_response
from handful_service.errors import ServiceError
from handful_service.keys import Keys
from handful_service.loading import Loader
from handful_service.memory import Ceiling, memory_limit
from handful_service.metrics import Metrics
from handful_service.openapi import complete
from handful_service.pipeline import Pipeline
from handful_service.readiness import Readiness
from handful_service.registry import Reference, Registry
from handful_service.routes import routers
from handful_service.serving import Models, Served, manifest_version
from handful_service.settings import Settings
from handful_service.shortcut import Shortcut, knows
from handful_service.trial import Trial
from handful_service.watcher import Watcher

_GARBAGE_OBJECTS = 20_000
_BY_STATUS = {404: "not_found", 405: "method_not_allowed"}


def create_app(
    settings: Settings | None = None, bundle: Bundle | None = None, restarts: int = 0
) -> FastAPI:
    """Return the service.

    Args:
        settings: by default read from the environment.
        bundle: an open bundle to serve; by default `settings.model` says which.
        restarts: processes that ended abnormally so that this one serves.
    """
    settings = settings or Settings()
    metrics, models = Metrics(), Models()
    metrics.restarts.inc(restarts)
    pipeline = Pipeline(settings, models, metrics, settings.decode_threads or cpu_quota())
    metrics.watch(pipeline.backlog)
    metrics.models.set_function(lambda: len(models.loaded))
    readiness = Readiness(pipeline, metrics)
    loader = Loader(settings, models, metrics)
    keys = None if settings.api_keys_file is None else Keys(settings.api_keys_file)
    ceiling = Ceiling(settings.memory_share, memory_limit())
    guard = BodyGuard(Shortcut(pipeline), settings, metrics, ceiling)
    envelope = Envelope(guard, pipeline, keys)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        watcher = await _begin_to_load(settings, bundle, loader, models, metrics)
        pipeline.start()
        readiness.drain_on_sigterm(settings.drain_seconds)
        _collect_garbage_rarely()
        try:
            yield {
                connections.STATE: connections.Guard(settings, metrics, pipeline.backlog),
                express.STATE: express.Express(pipeline, envelope, guard),
            }
        finally:
            if watcher is not None:
                watcher.close()
            pipeline.close()

    app = Application(
        title="Handful",
        summary="Embeds and classifies images.",
        version=version("handful"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        redoc_url=None,
        # The last two are the codes of Starlette's own refusals, outside of any route.
        exception_handlers={
            HTTPException: _http_exception,
            RequestValidationError: _invalid_parameter,
        },
    )
    app.state.pipeline = pipeline
    app.state.readiness = readiness
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyGuard, settings=settings, metrics=metrics, ceiling=ceiling)
    app.add_middleware(Envelope, pipeline=pipeline, keys=keys)  # added last, so outermost
    app.shortcut = envelope
    app.openapi = lambda: complete(app, keyed=keys is not None)  # type: ignore[method-assign]  # FastAPI's documented seam
    return app


async def _begin_to_load(
    settings: Settings, bundle: Bundle | None, loader: Loader, models: Models, metrics: Metrics
) -> Watcher | None:
    """Let the model answer that is asked for; where a registry names it, a watcher will."""
    if bundle is not None:
        await asyncio.to_thread(loader.put, Served(bundle, manifest_version(bundle)))
        return None
    if not settings.from_registry:
        await asyncio.to_thread(loader.load, Path(settings.model))
        return None
    registry = Registry(Reference.parse(settings.model))
    watcher = Watcher(
        registry, Cache(settings.cache), Trial(settings), loader, models, metrics,
        settings.poll_seconds,
    )  # fmt: skip
    watcher.start()
    return watcher


class Application(FastAPI):
    """FastAPI, with the two busy routes in front of its router."""

    shortcut: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if knows(scope):
            await self.shortcut(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _collect_garbage_rarely() -> None:
    """Let Python look for reference cycles less often: a fifth of the event loop's time went there.

    An answered request leaves none behind; what failures leave is found after some hundred of them.
    """
    gc.collect()
    gc.freeze()  # what is loaded now stays to the end
    gc.set_threshold(_GARBAGE_OBJECTS)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: "GET /docs lists the routes.",
        405: "The Allow header lists the methods.",
    }
    code = _BY_STATUS.get(error.status_code, "bad_request")
    refusal = ServiceError(
        code,
        details.get(error.status_code, "The request cannot be understood."),
        headers=dict(error.headers or {}),
    )
    return problem_response(refusal, context_of(request.scope))


async def _invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]  # pydantic's message names what is allowed, not what was sent
    place = ".".join(str(part) for part in first["loc"])
    refusal = ServiceError("parameter_invalid", f"{place}: {first['msg']}.")
    return problem_response(refusal, context_of(request.scope))
