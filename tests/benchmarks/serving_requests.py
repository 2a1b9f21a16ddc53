"""How images are asked about: forms of requests, and the loads that are made of them."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from serving_load import Request

BATCH = 32  # images in one request, where there are several
BOUNDARY = "bench-boundary"
JSON = {"Content-Type": "application/json"}

# How a server takes one or several files, and reads the embeddings off its answer, [n, 64].
Form = Callable[[Sequence[bytes]], Request]
Reader = Callable[[bytes], NDArray[np.float32]]


class Load(NamedTuple):
    """How requests come."""

    name: str
    images: int  # in each
    connections: int


SINGLES = (
    Load("1 image, 1 connection", 1, 1),
    Load("1 image, 8 connections", 1, 8),
    Load("1 image, 64 connections", 1, 64),
)
BATCHES = Load(f"{BATCH} images, 8 connections", BATCH, 8)
PIXELS = Load(f"{BATCH} images, pixels in npy, 8 connections", BATCH, 8)


def bodies(load: Load, pictures: Sequence[bytes], form: Form) -> list[Request]:
    """Return the requests that hold all the pictures, each once."""
    starts = range(0, len(pictures) - load.images + 1, load.images)
    return [form(pictures[start : start + load.images]) for start in starts]


def raw(path: str) -> Form:
    """One file as it is."""

    def form(files: Sequence[bytes]) -> Request:
        (file,) = files
        return Request(path, {"Content-Type": "image/jpeg"}, file)

    return form


def multipart(path: str) -> Form:
    """Files of a form."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()

    def form(files: Sequence[bytes]) -> Request:
        body = b"".join(head + file + b"\r\n" for file in files)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return Request(path, headers, body + f"--{BOUNDARY}--\r\n".encode())

    return form


def one_or_many(one: Form, many: Form) -> Form:
    """One file in one form, several in another."""
    return lambda files: one(files) if len(files) == 1 else many(files)


def in_json(path: str, body: Callable[[list[str]], Any]) -> Form:
    """Files in base64, put into JSON by `body`."""

    def form(files: Sequence[bytes]) -> Request:
        texts = [base64.b64encode(file).decode() for file in files]
        return Request(path, JSON, json.dumps(body(texts)).encode())

    return form


def npy(pixels: NDArray[np.uint8]) -> Request:
    """Pixels that the client has decoded, and embeddings as bytes, as only we take them."""
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    return Request("/embed", headers, buffer.getvalue())


def rows(width: int, *keys: str | int) -> Reader:
    """Return the rows that lie below `keys` in JSON, flat or not."""

    def read(body: bytes) -> NDArray[np.float32]:
        found = json.loads(body)
        for key in keys:
            found = found[key]
        return np.array(found, np.float32).reshape(-1, width)

    return read
