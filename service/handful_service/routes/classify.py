"""`POST /classify`: images or embeddings → labels with calibrated probabilities."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

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
        manifest = served.bundle.manifest
        if manifest.labels is None:
            raise no_head(served.name)
        labels = manifest.labels
        taken = await call.reader.images_or_embeddings(manifest.image, manifest.embedding_dim)
        if isinstance(taken, Embeddings):
            results = await _classify_embeddings(call, served, taken)
        else:
            results = await pipeline.images(call.context, served, taken, served.encode)
        if results.columns:
            results.reject_nonfinite(-1)  # the probabilities come last in either lane
        single = isinstance(taken, Images) and taken.single
        answers.settle(results, pipeline.metrics, single=single, all_or_nothing=False)
        probabilities = (
            results.columns[-1] if results.columns else np.empty((0, len(labels)), np.float32)
        )

        def content() -> dict[str, Any]:
            return {
                "model": answers.model_ref(served),
                "predictions": answers.place(results, predictions(probabilities, labels)),
                "errors": answers.error_list(results),
            }

        return await answers.json_response(pipeline.pool, probabilities.size, content)


async def _classify_embeddings(call: Call, served: Served, taken: Embeddings) -> Results:
    if taken.space != served.space:
        raise ServiceError(
            "space_mismatch",
            f"The model that answers embeds into {served.space}; embed the images again.",
        )
    return await call.pipeline.rows(call.context, taken.rows, served.classify)


def predictions(
    probabilities: NDArray[np.float32], labels: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return what is said of each row of `probabilities`, [n, K]."""
    best = probabilities.argmax(axis=1).tolist() if len(probabilities) else []
    return [
        {
            "label": labels[top],
            "confidence": row[top],
            "probabilities": dict(zip(labels, row, strict=True)),
            "prediction_set": None,  # heads of this release carry no conformal quantile
            "novelty": None,  # and no novelty output
            "abstained": False,
            "reason": None,
        }
        for top, row in zip(best, np.clip(probabilities, 0, 1).tolist(), strict=True)
    ]
