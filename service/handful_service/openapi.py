"""What FastAPI cannot tell from the code: bodies that no parameter declares, and every problem."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from handful_service import npy
from handful_service.errors import KINDS, PROBLEM_JSON, problem_type
from handful_service.inputs import JSON, MULTIPART, RAW_TYPES
from handful_service.schemas import (
    PNG_EXAMPLE,
    SPACE_EXAMPLE,
    ClassifyResponse,
    EmbeddingsBody,
    EmbedResponse,
    ImagesBody,
    ImagesResponse,
    LatentsBody,
    Prediction,
    Problem,
    ReconstructResponse,
    SampleBody,
)

REF = "#/components/schemas/"
# Not told by any parameter or response model.
_UNDECLARED: tuple[type[BaseModel], ...] = (
    ImagesBody,
    EmbeddingsBody,
    LatentsBody,
    SampleBody,
    Problem,
)
_ANSWERS: tuple[type[BaseModel], ...] = (
    ClassifyResponse,
    EmbedResponse,
    ImagesResponse,
    Prediction,
    ReconstructResponse,
)

# Whoever listens may be asked in no HTTP at all, or by too many at once.
OPEN_ROUTE = ("internal_error", "bad_request", "header_too_large", "overloaded")
ANY_ROUTE = (*OPEN_ROUTE, "host_unknown", "unauthorized")
WITH_BODY = (
    *ANY_ROUTE,
    "body_timeout",
    "body_too_large",
    "body_compressed",
    "media_type_unsupported",
    "not_ready",
    "deadline_exceeded",
    "share_exceeded",
    "nonfinite_output",
    "device_memory",
    "device_failed",
    "parameter_invalid",
)
WITH_IMAGES = (
    *WITH_BODY,
    "image_empty",
    "image_unsupported",
    "image_mismatched",
    "image_too_large",
    "image_animated",
    "image_unreadable",
    "multipart_invalid",
    "json_invalid",
    "npy_invalid",
    "no_images",
    "too_many_items",
    "items_failed",
)


def _header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema}


_HEADERS = {
    "X-Request-ID": _header(
        "the request's own, where it sent a safe one; else a new one",
        type="string", pattern="^[A-Za-z0-9._-]{1,128}$",
    ),
    "X-Model-Version": _header(
        "the version that answered; `none` where none is loaded, or a request is refused unread",
        type="string", minLength=1,
    ),
    "X-Embedding-Space": _header(
        "the digest of its embedding space, or `none`",
        type="string", pattern="^(none|sha256:[0-9a-f]{64})$",
    ),
    "Server-Timing": _header(
        "milliseconds: read, decode, queue, model, total",
        type="string", pattern=r"^([a-z]+;dur=\d+\.\d\d, )*total;dur=\d+\.\d\d$",
    ),
}  # fmt: skip
_RETRY_AFTER = _header("seconds after which to try again", type="integer", minimum=1)
# What a status bears besides.
_HEADERS_OF: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": _header("how to ask", type="string", const="Bearer")},
    415: {
        "Accept-Post": _header(
            "what the route takes, where the body is of another media type",
            required=False, type="string",
        )
    },
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
    504: {"Retry-After": _RETRY_AFTER},
}  # fmt: skip
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Names the request in the answer, in a problem and in the log: 1 to 128 of "
    "`A-Z a-z 0-9 . _ -`. Anything else is passed over.",
    "schema": {"type": "string"},
}
_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "So many milliseconds after the end of the header nobody wants the answer any "
    "more: what is left of the request is not computed, and it is 504.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can fail with `codes`."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys(codes):
        kind = KINDS[code]
        response = by_status.setdefault(
            kind.status,
            {
                "description": "",
                "content": {PROBLEM_JSON: {"schema": {"$ref": f"{REF}Problem"}, "examples": {}}},
            },
        )
        names = [name for name in response["description"].split(", ") if name]
        response["description"] = ", ".join([*names, f"`{code}`"])
        response["content"][PROBLEM_JSON]["examples"][code] = {
            "summary": kind.title,
            "value": {
                "type": problem_type(code),
                "title": kind.title,
                "status": kind.status,
                "detail": "What was found, and the remedy.",
                "code": code,
                "request_id": "8f14e45fceea467a",
                "retryable": kind.retryable,
            },
        }
        if kind.status in _HEADERS_OF:
            response["headers"] = dict(_HEADERS_OF[kind.status])
    return by_status


def images_body(*, embeddings: bool = False) -> dict[str, Any]:
    """Return `openapi_extra` of a route that takes images, and perhaps embeddings."""
    file = {"type": "string", "format": "binary"}
    json: dict[str, Any] = {
        "schema": {"$ref": f"{REF}ImagesBody"},
        "examples": {"images": {"value": {"images": [PNG_EXAMPLE]}}},
    }
    if embeddings:
        json["schema"] = {"anyOf": [{"$ref": f"{REF}ImagesBody"}, {"$ref": f"{REF}EmbeddingsBody"}]}
        json["examples"]["embeddings"] = {
            "value": {"embeddings": [[0.12, -0.7, 0.05]], "space": SPACE_EXAMPLE}
        }
    content: dict[str, Any] = {kind: {"schema": file} for kind in RAW_TYPES}
    content[MULTIPART] = {
        "schema": {
            "type": "object",
            "properties": {"images": {"type": "array", "items": file, "minItems": 1}},
            "required": ["images"],
            "additionalProperties": False,
        },
        "example": {"images": ["@one.jpg", "@two.png"]},
    }
    content[JSON] = json
    content[npy.MEDIA_TYPE] = _npy("uint8 [N, H, W, C] or [H, W, C] of the model's own size")
    return {"requestBody": {"required": True, "content": content}}


def json_body(model: type[BaseModel], *, npy_form: str | None = None) -> dict[str, Any]:
    """Return `openapi_extra` of a route that takes `model` as JSON, and perhaps an npy array."""
    (example,) = model.model_json_schema()["examples"]
    content: dict[str, Any] = {
        JSON: {"schema": {"$ref": f"{REF}{model.__name__}"}, "example": example}
    }
    if npy_form is not None:
        content[npy.MEDIA_TYPE] = _npy(npy_form)
    return {"requestBody": {"required": True, "content": content}}


def also(description: str, *binary: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` entry of a success that may be one of the `binary` media types too."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in binary}
    return {200: {"description": description, "content": content}}


def complete(app: FastAPI, *, keyed: bool) -> dict[str, Any]:
    """Return the whole document: FastAPI's own, with the bodies' schemas and common headers.

    Args:
        app: the service.
        keyed: whether it asks for a key.
    """
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes,
        summary=app.summary, license_info=app.license_info,
    )  # fmt: skip
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _UNDECLARED:
        schema = model.model_json_schema(ref_template=REF + "{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for model in _ANSWERS:  # FastAPI leaves nulls out of examples, where they say something
        schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A live key, where the operator has set any.",
        }
    }
    for path in document["paths"].values():
        for operation in path.values():
            if "401" in operation["responses"]:
                operation["security"] = [{"key": []}] if keyed else [{}, {"key": []}]
            parameters = operation.setdefault("parameters", [])
            parameters.append(_REQUEST_ID)
            if "requestBody" in operation:
                parameters.append(_TIMEOUT)
            for response in operation["responses"].values():
                response.setdefault("headers", {}).update(_HEADERS)
    app.openapi_schema = document
    return document


def _npy(shape: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": f"npy, {shape}"}}
