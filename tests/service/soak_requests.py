"""Requests of every kind that the service knows, good, bad and broken off, each with its answer."""

import base64
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.manifest import Manifest

JSON, NPY, CUT = "application/json", "application/x-npy", "multipart/form-data; boundary=cut"
BATCHES = (1, 2, 3, 5, 9, 17, 32, 64)  # rows: every batch size that the model is run with
SPACES = "sha256:" + "0" * 64
MEGAPIXELS_81 = 9000, 9000


@dataclass(frozen=True)
class Kind:
    """A request, and what becomes of it.

    Attributes:
        name: for the report.
        data: all bytes of it, or as many as are sent before the connection is given up.
        status: of its answer; 0: nobody waits for one.
        code: of the problem that it is answered with.
        weight: how often it is sent, beside the others.
        ends: whether the connection is of no use afterwards.
    """

    name: str
    data: bytes
    status: int = 200
    code: str = ""
    weight: float = 1.0
    ends: bool = False


def kinds(manifest: Manifest, seed: int = 0) -> list[Kind]:
    """Return requests for a bundle that has a head and a decoder."""
    rng = np.random.default_rng(seed)
    return [
        *_good(manifest, rng),
        *_bad_images(rng),
        *_bad_requests(manifest, rng),
        *_broken_off(rng),
        *(Kind(path, _head("GET", path)) for path in ("/livez", "/readyz", "/model")),
        Kind("/metrics", _head("GET", "/metrics"), weight=0.3),
        Kind("/openapi.json", _head("GET", "/openapi.json"), weight=0.1),
    ]


def _good(manifest: Manifest, rng: np.random.Generator) -> Iterator[Kind]:
    for index, (kind, side) in enumerate([("JPEG", 32), ("PNG", 40), ("WEBP", 50), ("JPEG", 300)]):
        for path in ("/embed", "/classify"):
            yield Kind(
                f"{kind} {side}", raw(path, picture(rng, kind, side), kind), weight=4 - index
            )
    shape = manifest.image.shape
    for rows in BATCHES:
        body = npy(rng.integers(0, 256, (rows, *shape), np.uint8))
        yield Kind(f"npy {rows}", post("/embed", NPY, body, f"Accept: {NPY}"))
        yield Kind(f"npy {rows}", post("/classify", NPY, body), weight=0.5)
        files = [picture(rng, "JPEG", 32) for _ in range(rows)]
        yield Kind(f"multipart {rows}", post("/embed", CUT, multipart(files)), weight=0.5)
    one = picture(rng, "PNG", 32)
    text = base64.b64encode(one).decode()
    some_bad = {"images": [text, "", "no base64", base64.b64encode(one[:60]).decode()]}
    vectors = rng.normal(size=(3, manifest.embedding_dim)).tolist()
    latents = rng.normal(size=(3, manifest.latent_dim)).tolist()
    label = (manifest.labels or ("",))[0]
    for path, content in (
        ("/embed", {"images": [text, text]}),
        ("/embed", some_bad),
        ("/embed?space=latent", {"images": [text]}),
        ("/classify", {"embeddings": vectors, "space": manifest.space}),
        ("/decode", {"latents": latents}),
        ("/reconstruct", {"images": [text, text]}),
        ("/sample", {"count": 4, "label": label, "seed": 1}),
    ):
        yield Kind(f"JSON {path}", post(path, JSON, json.dumps(content).encode()))


def _bad_images(rng: np.random.Generator) -> Iterator[Kind]:
    png = picture(rng, "PNG", 32)
    large = np.asarray(Image.open(io.BytesIO(picture(rng, "PNG", 600))))
    frames = io.BytesIO()
    Image.new("RGB", (9, 9)).save(
        frames, "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")]
    )
    yield Kind("no bytes", raw("/embed", b"", "PNG"), 400, "image_empty")
    yield Kind("text", raw("/embed", b"<svg>", "PNG"), 415, "image_unsupported")
    yield Kind("other type", raw("/embed", png, "JPEG"), 415, "image_mismatched")
    yield Kind("bomb", raw("/embed", _announced(*MEGAPIXELS_81), "PNG"), 413, "image_too_large")
    yield Kind("animated", raw("/embed", frames.getvalue(), "WEBP"), 422, "image_animated")
    yield Kind("cut PNG", raw("/classify", png[:-40], "PNG"), 422, "image_unreadable")
    jpeg = _file(Image.fromarray(large), "JPEG")
    half = jpeg[: len(jpeg) // 2]  # by its size it is decoded in the pool
    yield Kind("cut JPEG", raw("/embed", half, "JPEG"), 422, "image_unreadable")
    files = multipart([png, png[:50]])
    asks = f"Accept: {NPY}"
    yield Kind("failed in npy", post("/embed", CUT, files, asks), 422, "items_failed")


def _bad_requests(manifest: Manifest, rng: np.random.Generator) -> Iterator[Kind]:
    png = picture(rng, "PNG", 32)
    shape = manifest.image.shape
    wrong_size = npy(np.zeros((1, 7, 5, 3), np.uint8))
    vectors = [[0.5] * manifest.embedding_dim]
    other_space = json.dumps({"embeddings": vectors, "space": SPACES}).encode()
    deep = b'{"images": ' + b"[" * 5000
    many = json.dumps({"count": 10**6}).encode()
    unknown = json.dumps({"count": 1, "label": "no such"}).encode()
    yield Kind("no route", _head("GET", "/favicon.ico"), 404, "not_found")
    yield Kind("method", _head("GET", "/embed"), 405, "method_not_allowed")
    yield Kind("no HTTP", b"nonsense\r\n\r\n", 400, "bad_request", ends=True)
    yield Kind("cut parts", post("/embed", CUT, multipart([png])[:-9]), 400, "multipart_invalid")
    yield Kind("space", post("/classify", JSON, other_space), 409, "space_mismatch")
    too_much = f"Content-Length: {2**40}"
    yield Kind("too large", _head("POST", "/embed", too_much), 413, "body_too_large", ends=True)
    packed = "Content-Encoding: gzip"
    yield Kind("gzip", post("/embed", "image/png", png, packed), 415, "body_compressed")
    yield Kind("GIF", post("/embed", "image/gif", png), 415, "media_type_unsupported")
    yield Kind("deep JSON", post("/embed", JSON, deep), 422, "json_invalid")
    yield Kind("other shape", post("/embed", NPY, wrong_size), 422, "npy_invalid")
    yield Kind("parameter", raw("/embed?space=x", png, "PNG"), 422, "parameter_invalid")
    yield Kind("no images", post("/embed", JSON, b'{"images": []}'), 422, "no_images")
    yield Kind("many", post("/sample", JSON, many), 422, "too_many_items")
    yield Kind("label", post("/sample", JSON, unknown), 422, "label_unknown")
    now = "X-Request-Timeout-Ms: 0"
    pixels = npy(np.zeros((4, *shape), np.uint8))
    yield Kind("no time", post("/embed", NPY, pixels, now), 504, "deadline_exceeded")


def _broken_off(rng: np.random.Generator) -> Iterator[Kind]:
    small = raw("/embed", picture(rng, "JPEG", 32), "JPEG")
    large = raw("/classify", picture(rng, "PNG", 900), "PNG")
    yield Kind("gone at once", b"", 0)
    yield Kind("gone in the header", small[:40], 0)
    yield Kind("gone in the body", small[:-100], 0)
    yield Kind("gone while it is answered", small, 0)
    yield Kind("gone while it is decoded", large, 0, weight=0.5)


def picture(rng: np.random.Generator, kind: str, side: int) -> bytes:
    """Return the file of a random picture, smooth as a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return _file(coarse.resize((side, side - 3)), kind)


def raw(path: str, file: bytes, kind: str) -> bytes:
    """Return a request whose body is `file`."""
    return post(path, f"image/{kind.lower()}", file)


def post(path: str, media_type: str, body: bytes, *headers: str) -> bytes:
    """Return a request with a body."""
    length = f"Content-Length: {len(body)}"
    return _head("POST", path, f"Content-Type: {media_type}", length, *headers) + body


def multipart(files: list[bytes]) -> bytes:
    """Return the body that holds `files`, to be sent as `CUT`."""
    head = b'--cut\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return b"".join([*(head + file + b"\r\n" for file in files), b"--cut--\r\n"])


def npy(array: NDArray[np.uint8]) -> bytes:
    """Return `array` as numpy.save writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: soak", *headers, "", ""]).encode()


def _file(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _announced(width: int, height: int) -> bytes:
    """A PNG whose header announces a size that nothing follows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IEND", b"")
