"""`GET /livez`, `/readyz`, `/metrics`: for supervisors, load balancers and Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from handful_service.errors import ServiceError
from handful_service.openapi import ANY_ROUTE, OPEN_ROUTE, problems
from handful_service.readiness import Readiness
from handful_service.routes.dependencies import CallDep
from handful_service.schemas import ProbeResponse

router = APIRouter(tags=["operations"])


def _readiness(request: Request) -> Readiness:
    readiness: Readiness = request.app.state.readiness
    return readiness


@router.get("/livez", summary="Alive", responses=problems(*OPEN_ROUTE, "not_ready"))
async def livez(request: Request) -> ProbeResponse:
    """Whether process and dispatcher work. If not, restart the process."""
    if not _readiness(request).alive():
        raise ServiceError(
            "not_ready",
            "Not alive: the dispatcher does not answer, or the GPU has failed; restart it.",
            retry_after=5,
        )
    return ProbeResponse(status="alive")


@router.get("/readyz", summary="Ready", responses=problems(*OPEN_ROUTE, "not_ready"))
async def readyz(request: Request) -> ProbeResponse:
    """Whether a checked and warmed model answers and the process is not about to stop."""
    reason = _readiness(request).missing()
    if reason is not None:
        raise ServiceError("not_ready", f"Not ready: {reason}.", retry_after=5)
    return ProbeResponse(status="ready")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(*ANY_ROUTE),
    },
)
async def metrics(call: CallDep) -> Response:
    """Return all metrics of this process."""
    return Response(call.pipeline.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
