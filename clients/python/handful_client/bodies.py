"""From images to the body of one request, in the form that costs least."""

from collections.abc import Sequence

import httpx

from handful_client import answers, extras, images, rows
from handful_client.flow import Request
from handful_client.images import Encoded, Loaded, Pixels, Vector

NPY = "application/x-npy"


def is_stack(loaded: Sequence[Loaded], shape: tuple[int, int, int]) -> bool:
    """Whether all images are arrays uint8 of the model's own shape [H,W,C], as npy may hold."""
    return all(
        isinstance(entry, Pixels) and entry.array.shape == shape and entry.array.dtype == "uint8"
        for entry in loaded
    )


def npy(path: str, loaded: Sequence[Loaded]) -> Request:
    """Return a request whose body is one array uint8 [N,H,W,C]: nothing is packed or unpacked."""
    numpy = extras.need("numpy", "arrays", "sending arrays")
    stack = numpy.stack([entry.array for entry in loaded if isinstance(entry, Pixels)])
    return Request("POST", path, rows.to_npy(stack), NPY)


def raw(path: str, image: Encoded) -> Request:
    """Return a request whose body is one image file of a known kind."""
    return Request("POST", path, image.data, image.media_type)


def multipart(path: str, loaded: Sequence[Loaded]) -> Request:
    """Return a request of many image files, each as it is: no base64, a third smaller than JSON.

    Parts are named by number: file names stay on this machine.
    """
    parts = []
    for number, entry in enumerate(loaded):
        assert not isinstance(entry, Vector)
        image = images.pack(entry)
        kind = image.media_type or "application/octet-stream"
        parts.append(("images", (str(number), image.data, kind)))
    form = httpx.Request("POST", "http://form.invalid", files=parts)
    return Request("POST", path, form.read(), form.headers["content-type"])


def embeddings(path: str, loaded: Sequence[Loaded]) -> Request:
    """Return a request whose body is embeddings of one space."""
    space = next(entry.space for entry in loaded if isinstance(entry, Vector))
    body = {"embeddings": _numbers(loaded), "space": space}
    return Request("POST", path, answers.dump(body), "application/json")


def latents(path: str, loaded: Sequence[Loaded]) -> Request:
    """Return a request whose body is latents."""
    body = answers.dump({"latents": _numbers(loaded)})
    return Request("POST", path, body, "application/json")


def _numbers(loaded: Sequence[Loaded]) -> list[list[float]]:
    return [entry.numbers for entry in loaded if isinstance(entry, Vector)]
