"""One request's body → the images, pixels, embeddings or latents in it.

Images come in four forms: one raw image, multipart parts, base64 in JSON, or an array of pixels.
None is ever fetched from a URL.
"""

import base64
import binascii
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from handful_bundle.manifest import ImageSpec
from handful_service import npy
from handful_service.context import RequestContext
from handful_service.decoding import DecodePool, EncodedImage, Upload
from handful_service.errors import ServiceError
from handful_service.multipart import read_multipart
from handful_service.schemas import EmbeddingsBody, ImagesBody, LatentsBody

RAW_TYPES = ("image/jpeg", "image/png", "image/webp")
JSON, MULTIPART = "application/json", "multipart/form-data"
IMAGE_TYPES = (*RAW_TYPES, MULTIPART, JSON, npy.MEDIA_TYPE)
_ALIASES = {"image/jpg": "image/jpeg"}
_INLINE_BYTES = 2**16  # parsing less than this is quicker than handing it to a thread

Body = TypeVar("Body", bound=BaseModel)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Images:
    """Encoded images, each of which may fail by itself."""

    uploads: list[Upload]
    single: bool = False  # one raw body: its failure is the request's


@dataclass(frozen=True)
class Pixels:
    """Images of the model's own size."""

    rows: NDArray[np.uint8]  # [N, H, W, C]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings that a client kept."""

    rows: NDArray[np.float32]  # [N, E]
    space: str


class Reader:
    """Reads the body of one request.

    Args:
        receive: of a request whose body has not been read.
        context: of that request.
        pool: parses large bodies beside the event loop.
        max_images: most items of a request.
    """

    def __init__(
        self, receive: Receive, context: RequestContext, pool: DecodePool, max_images: int
    ) -> None:
        self._receive = receive
        self._context = context
        self._whole: bytes | None = None
        self._pool = pool
        self._max_images = max_images

    @property
    def media_type(self) -> str:
        """The declared media type of the body, without parameters."""
        declared = self._context.header(b"content-type").split(";")[0].strip().lower()
        return _ALIASES.get(declared, declared)

    async def images(self, spec: ImageSpec) -> Images | Pixels:
        """Return the images of the request.

        Raises:
            Overloaded: there is no room for one image; nothing was read.
            ServiceError: the body as a whole is not usable.
        """
        kind = self.media_type
        if kind not in IMAGE_TYPES:
            raise _unsupported(kind, IMAGE_TYPES)
        if kind in RAW_TYPES:
            self._context.entry.check(rows=1)  # before it is read
        body = await self._body()
        if kind in RAW_TYPES:
            return Images([EncodedImage(body, kind)], single=True)
        if kind == MULTIPART:
            content_type = self._context.header(b"content-type")
            parse: Callable[[], Images | Pixels] = lambda: Images(  # noqa: E731
                list(read_multipart(body, content_type, self._max_images))
            )
        elif kind == JSON:
            parse = lambda: _json_images(parse_json(body, ImagesBody))  # noqa: E731
        else:
            parse = lambda: _pixels(body, spec)  # noqa: E731
        found = await self._parse(body, parse)
        self._check_count(len(found.uploads if isinstance(found, Images) else found.rows))
        return found

    async def images_or_embeddings(self, spec: ImageSpec, dim: int) -> Images | Pixels | Embeddings:
        """Return what `/classify` takes: images, or JSON with `embeddings` and their `space`."""
        if self.media_type != JSON:
            return await self.images(spec)
        body = await self._body()
        if not is_embeddings(body):
            return await self.images(spec)
        found = await self._parse(body, functools.partial(parse_json, body, EmbeddingsBody))
        self._check_count(len(found.embeddings))
        return Embeddings(_matrix(found.embeddings, dim, "embeddings"), found.space)

    async def latents(self, dim: int) -> NDArray[np.float32]:
        """Return the latents of the request, float32 [N, D]."""
        kind = self.media_type
        if kind not in (JSON, npy.MEDIA_TYPE):
            raise _unsupported(kind, (JSON, npy.MEDIA_TYPE))
        body = await self._body()
        if kind == JSON:
            found = await self._parse(body, functools.partial(parse_json, body, LatentsBody))
            rows = _matrix(found.latents, dim, "latents")
        else:
            rows = npy.read_npy(body, np.float32, f"[N, {dim}]")
            if rows.ndim != 2 or rows.shape[1] != dim:
                raise ServiceError("npy_invalid", f"Send float32 [N, {dim}].")
            if not np.isfinite(rows).all():
                raise ServiceError("npy_invalid", "A latent is not finite.")
        self._check_count(len(rows))
        return rows

    async def json(self, model: type[Body]) -> Body:
        """Return a small JSON body as `model`."""
        if self.media_type != JSON:
            raise _unsupported(self.media_type, (JSON,))
        return parse_json(await self._body(), model)

    async def _body(self) -> bytes:
        if self._whole is not None:
            return self._whole
        started = time.perf_counter()
        pieces = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self._context.spent("read", time.perf_counter() - started)
        self._whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._whole

    async def _parse(self, body: bytes, parse: Callable[[], Value]) -> Value:
        context = self._context
        context.entry.hold(size=len(body))  # what is cut out of a body is about as large as it
        with context.phase("read"):
            return parse() if len(body) < _INLINE_BYTES else await self._pool.run(parse)

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise ServiceError("no_images", "Send at least one item.")
        if count > self._max_images:
            raise ServiceError(
                "too_many_items",
                f"{count} items, at most {self._max_images} a request; send several requests.",
            )


def parse_json(body: bytes, model: type[Body]) -> Body:
    """Return `body` as `model`, without repeating in the message what was sent.

    Raises:
        ServiceError: not JSON, too deep, or not what `model` describes.
    """
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise ServiceError("json_invalid", f"A field is unknown; known are {known}.") from None
        place = ".".join(map(str, first["loc"]))
        detail = f"{place}: {first['msg']}." if place else f"{first['msg']}."
        raise ServiceError("json_invalid", detail) from None


def is_embeddings(body: bytes) -> bool:
    """Whether a JSON body for `/classify` holds embeddings. Images in base64 hold no quotes."""
    return b'"embeddings"' in body


def _json_images(body: ImagesBody) -> Images:
    return Images([_base64(text) for text in body.images])


def _base64(text: str) -> Upload:
    try:
        return EncodedImage(base64.b64decode(text, validate=True), None)
    except (binascii.Error, ValueError):
        return ServiceError("base64_invalid", "Send plain base64 (RFC 4648), without `data:`.")


def _pixels(body: bytes, spec: ImageSpec) -> Pixels:
    expected = f"[N, {spec.height}, {spec.width}, {spec.channels}]"
    rows = npy.read_npy(body, np.uint8, expected)
    if rows.shape == spec.shape:
        rows = rows[np.newaxis]
    if rows.ndim != 4 or rows.shape[1:] != spec.shape:
        raise ServiceError(
            "npy_invalid",
            f"The array is {list(rows.shape)}; this model takes uint8 {expected}. Images of other "
            "sizes go as JPEG, PNG or WebP.",
        )
    return Pixels(rows)


def _matrix(values: list[list[float]], dim: int, name: str) -> NDArray[np.float32]:
    if any(len(row) != dim for row in values):
        raise ServiceError("json_invalid", f"{name}: each must have {dim} numbers.")
    with np.errstate(over="ignore"):  # looked at below
        rows = np.asarray(values, np.float32).reshape(len(values), dim)
    if not np.isfinite(rows).all():
        raise ServiceError("json_invalid", f"{name}: a number does not fit float32.")
    return rows


def _unsupported(kind: str, accepted: tuple[str, ...]) -> ServiceError:
    found = "an unknown type" if kind else "none"
    return ServiceError(
        "media_type_unsupported",
        f"Content-Type is {found}; this route takes {', '.join(accepted)}.",
        headers={"Accept-Post": ", ".join(accepted)},
    )
