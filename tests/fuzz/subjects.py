"""What is attacked: functions that take bytes from strangers. Each has files to begin with, ways to
damage them, and a judge that knows what may come out.

A judge returns what became of some bytes in one word. What it does not expect, it raises.
"""

import io
import random
from collections.abc import Callable
from typing import NamedTuple

import damage_bodies
import damage_images
import image_files
import numpy as np

from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header
from handful_service.errors import ServiceError
from handful_service.multipart import _read_any, _read_plain, read_multipart
from handful_service.npy import read_npy

SPECS = [
    ImageSpec(height=height, width=width, channels=channels, resize=policy, window=window)
    for height, width in ((19, 23), (8, 8), (40, 11))
    for channels in (1, 3)
    for policy, window in (("stretch", None), ("fit", (300, 40_000)), ("crop", None))
]
MOST_PARTS = 40
_CONTENT_TYPE = "multipart/form-data; boundary=B"


class Subject(NamedTuple):
    """One function under attack."""

    files: Callable[[], list[bytes]]
    damage: Callable[[bytes, bytes, random.Random], bytes]
    judge: Callable[[bytes], str]


def images() -> list[bytes]:
    """One file of each kind that is accepted, and of some that are not."""
    return [*image_files.image_files().values(), *image_files.odd_files().values()]


def _noise() -> dict[bytes, bytes]:
    """For each format a file that leaves other pixels behind in the memory that it was decoded in,
    by its first byte.
    """
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    files = [
        image_files.save(noise[:, :, :3], "PNG"),
        image_files.write_jpeg(noise[:, :, :3]),
        image_files.save(noise, "WEBP", lossless=True),
    ]
    return {file[:1]: file for file in files}


_NOISE = _noise()


def judge_image(data: bytes) -> str:
    """Pixels of the declared shape, the same ones again after other pictures, or an image error.

    Pixels of another picture would show as a difference: what a decoder leaves unwritten holds
    what was decoded there before.
    """
    spec = SPECS[len(data) % len(SPECS)]
    try:
        header(data)
        readable = True
    except ImageError:
        readable = False
    try:
        pixels = decode(data, spec)
    except ImageError as error:
        return error.code
    assert readable, "decoded although the header is refused"
    assert (pixels.shape, pixels.dtype) == (spec.shape, np.uint8), "another shape"
    decode(_NOISE[data[:1]], spec)
    assert np.array_equal(decode(data, spec), pixels), "pixels of another picture"
    return "ok"


def _one_of(codes: set[str], error: ServiceError) -> str:
    assert error.code in codes, f"refused as {error.code}"
    return error.code


def npy_files() -> list[bytes]:
    """Arrays as NumPy writes them."""
    numbers = np.random.default_rng(0)
    arrays = (
        numbers.integers(0, 256, (2, 8, 8, 3), np.uint8),
        np.asfortranarray(numbers.integers(0, 256, (8, 8, 1), np.uint8)),
        numbers.normal(size=(3, 4)).astype(np.float32),
        np.zeros((0, 4), np.float32),
    )
    files = []
    for array in arrays:
        file = io.BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return files


def judge_npy(data: bytes) -> str:
    """The array that NumPy reads as well, or `npy_invalid`."""
    kind = np.float32 if b"f4" in data[:200] else np.uint8
    try:
        array = read_npy(data, kind, "[N]")
    except ServiceError as error:
        return _one_of({"npy_invalid"}, error)
    assert array.dtype == kind
    expected = np.load(io.BytesIO(data), allow_pickle=False)
    np.testing.assert_array_equal(array, expected, strict=True)
    return "ok"


def multipart_files() -> list[bytes]:
    """Bodies with the boundary B, as several clients write them."""
    jpeg = image_files.write_jpeg(image_files.picture(8, 8))
    disposition = b'Content-Disposition: form-data; name="images"'
    heads = (
        disposition,
        disposition + b'; filename="a.jpg"\r\nContent-Type: image/jpeg',
        b"Content-Type: image/jpeg\r\n" + disposition.replace(b'"', b"") + b"; filename=a",
        disposition.lower() + b"\r\nContent-Length: 9",
    )
    bodies = [
        b"".join(b"--B\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for data in parts) + b"--B--\r\n"
        for head in heads
        for parts in ([jpeg], [jpeg, b"", b"-" * 30])
    ]
    return [*bodies, b"preamble\r\n" + bodies[0] + b"epilogue", bodies[2].removesuffix(b"\r\n")]


def judge_multipart(data: bytes) -> str:
    """Parts, the same ones by the quick reader and by the thorough one, or a documented refusal."""
    try:
        parts = read_multipart(data, _CONTENT_TYPE, MOST_PARTS)
    except ServiceError as error:
        return _one_of({"multipart_invalid", "too_many_items"}, error)
    assert len(parts) <= MOST_PARTS
    if _read_plain(data, b"B", MOST_PARTS) is not None:
        assert _read_any(data, b"B", MOST_PARTS) == parts, "the two readers disagree"
    assert sum(len(part.data) for part in parts) <= len(data)
    return "ok"


SUBJECTS = {
    "images": Subject(images, damage_images.damage, judge_image),
    "npy": Subject(npy_files, damage_bodies.npy, judge_npy),
    "multipart": Subject(multipart_files, damage_bodies.multipart, judge_multipart),
}
