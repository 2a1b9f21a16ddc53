"""`POST /classify`: images or embeddings → labels, how sure they are, and how novel the image."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from handful_bundle.head import Judgement
from handful_bundle.predictions import predict
from handful_service import answers
from handful_service.errors import ServiceError
from handful_service.inputs import Embeddings, Images
from handful_service.openapi import WITH_IMAGES, images_body, problems
from handful_service.pipeline import Results
from handful_service.routes.dependencies import Call, CallDep
from handful_service.schemas import ClassifyResponse
from handful_service.serving import Served, no_head

router = APIRouter(tags=["inference"])


@router.post(
    "/classify",
    summary="Classify images or embeddings",
    response_model=ClassifyResponse,
    responses=problems(*WITH_IMAGES, "no_head", "space_mismatch"),
    openapi_extra=images_body(embeddings=True),
)
async def classify(call: CallDep) -> Response:
    """Return one prediction per image or embedding, in their order."""
    pipeline = call.pipeline
    with pipeline.lease(call.context) as served:
        manifest, head = served.bundle.manifest, served.bundle.head
        if head is None or manifest.head is None:
            raise no_head(served.name)
        info = manifest.head
        taken = await call.reader.images_or_embeddings(manifest.image, manifest.embedding_dim)
        if isinstance(taken, Embeddings):
            results = await _classify_embeddings(call, served, taken)
        else:
            results = await pipeline.images(call.context, served, taken, served.encode)
        judged = 2 if head.tells_novelty else 1  # columns; they come last in either lane
        if results.columns:
            results.reject_nonfinite(*range(-judged, 0))
        single = isinstance(taken, Images) and taken.single
        answers.settle(results, pipeline.metrics, single=single, all_or_nothing=False)
        judgement = Judgement(
            *(results.columns[-judged:] or (np.empty((0, len(head.labels)), np.float32),))
        )

        def content() -> dict[str, Any]:
            predictions = predict(judgement, head.labels, info)
            pipeline.metrics.abstained.inc(sum(one["abstained"] for one in predictions))
            return {
                "model": answers.model_ref(served),
                "predictions": answers.place(results, predictions),
                "errors": answers.error_list(results),
            }

        return await answers.json_response(pipeline.pool, judgement.probabilities.size, content)


async def _classify_embeddings(call: Call, served: Served, taken: Embeddings) -> Results:
    if taken.space != served.space:
        raise ServiceError(
            "space_mismatch",
            f"The model that answers embeds into {served.space}; embed the images again.",
        )
    return await call.pipeline.rows(call.context, taken.rows, served.classify)
