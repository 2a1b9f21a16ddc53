"""`POST /classify`: images or embeddings → labels, how sure they are, and how novel the image."""

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from handful_bundle.head import Head, Judgement
from handful_bundle.manifest import HeadInfo
from handful_bundle.predictions import predict
from handful_service import answers
from handful_service.errors import ServiceError
from handful_service.inputs import Embeddings, Images
from handful_service.openapi import WITH_IMAGES, images_body, problems
from handful_service.pipeline import Pipeline
from handful_service.results import Results
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
        check_head(served)
        manifest = served.bundle.manifest
        taken = await call.reader.images_or_embeddings(manifest.image, manifest.embedding_dim)
        if isinstance(taken, Embeddings):
            results = await _classify_embeddings(call, served, taken)
        else:
            results = await pipeline.images(call.context, served, taken, served.encode)
        single = isinstance(taken, Images) and taken.single
        judgement = _settled(pipeline, served, results, single=single)
        content = partial(_content, pipeline, served, results, judgement)
        return await answers.json_response(pipeline.pool, judgement.probabilities.size, content)


def one(pipeline: Pipeline, served: Served, results: Results) -> bytes:
    """Return the answer to one raw image.

    Raises:
        ServiceError: the image failed.
    """
    judgement = _settled(pipeline, served, results, single=True)
    return answers.as_json(_content(pipeline, served, results, judgement))


def check_head(served: Served) -> tuple[Head, HeadInfo]:
    """Return the head and what the manifest says of it.

    Raises:
        ServiceError: there is none.
    """
    head, info = served.bundle.head, served.bundle.manifest.head
    if head is None or info is None:
        raise no_head(served.name)
    return head, info


def _settled(pipeline: Pipeline, served: Served, results: Results, *, single: bool) -> Judgement:
    """Return what the head says of the good items."""
    head, _ = check_head(served)
    judged = 2 if head.tells_novelty else 1  # columns; they come last in either lane
    if results.columns:
        results.reject_nonfinite(*range(-judged, 0))
    answers.settle(results, pipeline.metrics, single=single, all_or_nothing=False)
    nothing = (np.empty((0, len(head.labels)), np.float32),)
    return Judgement(*(results.columns[-judged:] or nothing))


def _content(
    pipeline: Pipeline, served: Served, results: Results, judgement: Judgement
) -> dict[str, Any]:
    head, info = check_head(served)
    predictions = predict(judgement, head.labels, info)
    pipeline.metrics.abstained.inc(sum(one["abstained"] for one in predictions))
    return {
        "model": answers.model_ref(served),
        "predictions": answers.place(results, predictions),
        "errors": answers.error_list(results),
    }


async def _classify_embeddings(call: Call, served: Served, taken: Embeddings) -> Results:
    if taken.space != served.space:
        raise ServiceError(
            "space_mismatch",
            f"The model that answers embeds into {served.space}; embed the images again.",
        )
    return await call.pipeline.rows(call.context, taken.rows, served.classify)
