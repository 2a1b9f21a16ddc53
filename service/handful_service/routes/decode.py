"""`POST /decode`, `/reconstruct`, `/sample`: latents, images or nothing → images."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from handful_service import answers, npy
from handful_service.errors import ServiceError
from handful_service.inputs import Images
from handful_service.openapi import (
    WITH_BODY,
    WITH_IMAGES,
    also,
    images_body,
    json_body,
    problems,
)
from handful_service.results import Results
from handful_service.routes.dependencies import Call, CallDep
from handful_service.schemas import ImagesResponse, LatentsBody, ReconstructResponse, SampleBody
from handful_service.serving import Served

router = APIRouter(tags=["decoding"])

_FORMS = also(
    "A PNG for one image, unless `Accept` names application/json; npy uint8 [N, H, W, C] with "
    "`Accept: application/x-npy`; else JSON with base64 PNGs.",
    answers.PNG,
    npy.MEDIA_TYPE,
)
_IMAGES, _FINITE = range(2)  # columns of `Served.decode`
_DISTORTION, _RATE = 1, 2  # columns of `Served.reconstruct`


@router.post(
    "/decode",
    summary="Decode latents",
    response_model=ImagesResponse,
    responses={
        **_FORMS,
        **problems(*WITH_BODY, "no_decoder", "json_invalid", "npy_invalid", "no_images",
                   "too_many_items", "items_failed"),
    },
    openapi_extra=json_body(LatentsBody, npy_form="float32 [N, D]"),
)  # fmt: skip
async def decode(call: CallDep) -> Response:
    """Return one image per latent, in their order."""
    with call.pipeline.lease(call.context) as served:
        latents = await call.reader.latents(served.decoder.latent_dim)
        return await _decoded(call, served, latents)


@router.post(
    "/sample",
    summary="Draw images from the model",
    response_model=ImagesResponse,
    responses={
        **_FORMS,
        **problems(*WITH_BODY, "no_decoder", "no_classes", "json_invalid",
                   "label_unknown", "too_many_items", "items_failed"),
    },
    openapi_extra=json_body(SampleBody),
)  # fmt: skip
async def sample(call: CallDep) -> Response:
    """Decode draws from the prior N(0, I), or from the normal of one class's latents."""
    with call.pipeline.lease(call.context) as served:
        dim = served.decoder.latent_dim
        wanted = await call.reader.json(SampleBody)
        limit = call.pipeline.settings.max_images
        if wanted.count > limit:
            raise ServiceError("too_many_items", f"At most {limit} images a request.")
        latents = np.random.default_rng(wanted.seed).standard_normal((wanted.count, dim))
        if wanted.label is not None:
            mean, variance = _class_statistics(served, wanted.label)
            latents = mean + np.sqrt(variance) * latents
        return await _decoded(call, served, latents.astype(np.float32))


@router.post(
    "/reconstruct",
    summary="Encode images and decode them again",
    response_model=ReconstructResponse,
    responses={**_FORMS, **problems(*WITH_IMAGES, "no_decoder")},
    openapi_extra=images_body(),
)
async def reconstruct(call: CallDep) -> Response:
    """Return each image as its mean decodes, with its distortion and rate in nats."""
    pipeline = call.pipeline
    with pipeline.lease(call.context) as served:
        _ = served.decoder  # before the body is read
        taken = await call.reader.images(served.bundle.manifest.image)
        count = len(taken.uploads) if isinstance(taken, Images) else len(taken.rows)
        _check_answer_size(call, served, count)
        results = await pipeline.images(call.context, served, taken, served.reconstruct)
        if results.columns:
            results.reject_nonfinite(_DISTORTION, _RATE)
        single = isinstance(taken, Images) and taken.single
        return await _answer(call, served, results, single=single, terms=True)


def _class_statistics(
    served: Served, label: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and variance, each [D], of the latents of `label`."""
    labels, classes = served.bundle.manifest.labels, served.bundle.classes
    if labels is None or classes is None:
        raise ServiceError(
            "no_classes",
            "This model has no classes.npz; fit a head with "
            f"`handful-train head {served.name} IMAGES --labels LABELS.csv`, or leave out `label`.",
        )
    if label not in labels:
        raise ServiceError("label_unknown", "GET /model lists the labels.")
    place = labels.index(label)
    return classes.mean[place], classes.variance[place]


def _check_answer_size(call: Call, served: Served, count: int) -> None:
    limit = call.pipeline.settings.max_body_bytes
    if count * served.row_bytes > limit:
        raise ServiceError(
            "too_many_items",
            f"An answer holds at most {limit} bytes of pixels, here {limit // served.row_bytes} "
            "images; send several requests.",
        )


async def _decoded(call: Call, served: Served, latents: NDArray[np.float32]) -> Response:
    _check_answer_size(call, served, len(latents))
    results = await call.pipeline.rows(call.context, latents, served.decode)
    results.keep(results.columns[_FINITE])
    return await _answer(call, served, results, single=False, terms=False)


async def _answer(
    call: Call, served: Served, results: Results, *, single: bool, terms: bool
) -> Response:
    """Write `results`, whose first column is images, in the form that the client asked for.

    Args:
        call: the request.
        served: the model that answered it.
        results: images in column 0; with `terms`, distortion and rate follow.
        single: one raw image came in: its error is the request's.
        terms: whether JSON lists distortion and rate.
    """
    pool = call.pipeline.pool
    as_npy = answers.asks_for(call.context, npy.MEDIA_TYPE)
    as_png = results.count == 1 and not as_npy and not answers.asks_for(call.context, answers.JSON)
    answers.settle(results, call.pipeline.metrics, single=single, all_or_nothing=as_npy or as_png)
    shape = served.bundle.manifest.image.shape
    images = results.columns[_IMAGES] if results.columns else np.empty((0, *shape), np.uint8)
    if as_npy:
        return await answers.npy_response(pool, images)
    files = await answers.png_files(pool, images)
    if as_png:
        return Response(files[0], media_type=answers.PNG)

    def content() -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": answers.model_ref(served),
            "images": answers.place(results, answers.in_base64(files)),
        }
        if terms:
            for name, column in (("distortion", _DISTORTION), ("rate", _RATE)):
                values = results.columns[column].tolist() if results.columns else []
                body[name] = answers.place(results, values)
        body["errors"] = answers.error_list(results)
        return body

    return await answers.json_response(pool, images.size, content)
