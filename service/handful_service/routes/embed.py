"""`POST /embed`: images → embeddings."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from numpy.typing import NDArray

from handful_service import answers, npy
from handful_service.inputs import Images
from handful_service.openapi import WITH_IMAGES, also, images_body, problems
from handful_service.pipeline import Pipeline
from handful_service.results import Results
from handful_service.routes.dependencies import Call, CallDep
from handful_service.schemas import EmbedResponse
from handful_service.serving import Served

router = APIRouter(tags=["inference"])

_EMBEDDING, _MEAN, _LOG_VARIANCE = range(3)  # columns of `Served.encode`


@router.post(
    "/embed",
    summary="Embed images",
    response_model=EmbedResponse,
    responses={
        **also("Embeddings; with `Accept: application/x-npy` float32 [N, E].", npy.MEDIA_TYPE),
        **problems(*WITH_IMAGES),
    },
    openapi_extra=images_body(),
)
async def embed(
    call: CallDep,
    space: Annotated[
        Literal["embedding", "latent"],
        Query(description="`latent`: the mean of q(z|x) instead, and its log variance"),
    ] = "embedding",
) -> Response:
    """Return one embedding per image, in their order."""
    return await answer(call, latent=space == "latent")


async def answer(call: Call, *, latent: bool) -> Response:
    """Return the embeddings, or latents, of what the request holds."""
    pipeline, context = call.pipeline, call.context
    with pipeline.lease(context) as served:
        taken = await call.reader.images(served.bundle.manifest.image)
        results = await pipeline.images(context, served, taken, served.encode)
        as_npy = answers.asks_for(call.context, npy.MEDIA_TYPE)
        single = isinstance(taken, Images) and taken.single
        columns = _settled(pipeline, served, results, latent=latent, single=single, as_npy=as_npy)
        if as_npy:
            return await answers.npy_response(pipeline.pool, columns[0])
        content = partial(_content, served, results, columns)
        return await answers.json_response(pipeline.pool, columns[0].size, content)


def one(pipeline: Pipeline, served: Served, results: Results, *, latent: bool) -> bytes:
    """Return the JSON answer to one raw image.

    Raises:
        ServiceError: the image failed.
    """
    columns = _settled(pipeline, served, results, latent=latent, single=True, as_npy=False)
    return answers.as_json(_content(served, results, columns))


def _settled(
    pipeline: Pipeline,
    served: Served,
    results: Results,
    *,
    latent: bool,
    single: bool,
    as_npy: bool,
) -> list[NDArray[np.float32]]:
    """Return what is asked for: embeddings, or means and log variances, of the good items."""
    used = (_MEAN, _LOG_VARIANCE) if latent else (_EMBEDDING,)
    if results.columns:
        results.reject_nonfinite(*used)
    answers.settle(results, pipeline.metrics, single=single, all_or_nothing=as_npy)
    if results.columns:
        return [results.columns[column] for column in used]
    manifest = served.bundle.manifest
    dim = manifest.latent_dim if latent else manifest.embedding_dim
    return [np.empty((0, dim), np.float32) for _ in used]


def _content(
    served: Served, results: Results, columns: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": answers.model_ref(served),
        "dim": columns[0].shape[1],
        "embeddings": answers.rows(results, columns[0]),
    }
    if len(columns) > 1:
        body["log_variance"] = answers.rows(results, columns[1])
    body["errors"] = answers.error_list(results)
    return body
