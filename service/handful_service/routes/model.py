"""`GET /model`: which model answers, where, and within which limits."""

from fastapi import APIRouter

from handful_service import answers
from handful_service.openapi import ANY_ROUTE, problems
from handful_service.routes.dependencies import CallDep
from handful_service.schemas import Limits, ModelRef, ModelResponse

router = APIRouter(tags=["model"])


@router.get(
    "/model",
    summary="The model that answers",
    responses=problems(*ANY_ROUTE, "not_ready"),
)
async def model(call: CallDep) -> ModelResponse:
    """Return the manifest, the active version, the provider really in use and the limits."""
    with call.pipeline.lease(call.context) as served:
        bundle = served.bundle
        routes = ["/embed"]
        if bundle.head is not None:
            routes.append("/classify")
        if bundle.decoder is not None:
            routes += ["/decode", "/reconstruct", "/sample"]
        return ModelResponse(
            model=ModelRef(**answers.model_ref(served)),
            provider=bundle.provider,
            labels=None if bundle.manifest.labels is None else list(bundle.manifest.labels),
            routes=routes,
            manifest=bundle.manifest.model_dump(mode="json"),
            settings=Limits.model_validate(
                call.pipeline.settings.model_dump(include=set(Limits.model_fields))
            ),
        )
