"""Golden examples: inputs with the outputs that a bundle gave when it was written.

They travel with the bundle and are checked at each load, so that another decoder library, another
runtime or a swapped file cannot change answers unnoticed.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handful_bundle import pixels
from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.encoder import Encoder
from handful_bundle.errors import BundleCorrupt, ImageError
from handful_bundle.head import NOVELTY, Head
from handful_bundle.manifest import ImageSpec

FILE = "golden.npz"
FORMATS = ("JPEG", "PNG", "WEBP")
PIXEL_TOLERANCE = 1  # of 255: builds of one codec may round differently
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}  # relative to max(1, |value|)
MAX_IMAGES = 1000  # they are all run at each load


def make_golden(images: NDArray[np.uint8], encoder: Encoder, head: Head | None = None) -> bytes:
    """Return the content of `golden.npz`.

    Args:
        images: [n, H, W, C], n >= 1, of the encoder's own size. The first also becomes the
            picture of the JPEG, PNG and WebP files.
        encoder: as it will be served.
        head: as it will be served, if there is one.
    """
    files = [_encoded(images[0], kind) for kind in FORMATS]
    if encoder.spec.window is not None:
        files.append(_wide_png(encoder.spec))
    encoding = encoder(images)
    arrays: dict[str, NDArray[Any]] = {
        "files": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]).astype(np.int64),
        "pixels": np.stack([pixels.decode(file, encoder.spec) for file in files]),
        "images": images,
        "embedding": encoding.embedding,
        "mean": encoding.mean,
    }
    if head is not None:
        arrays |= _judged(head, encoding.embedding)
    return pack_arrays(arrays)


def check_golden(data: bytes, encoder: Encoder, head: Head | None) -> None:
    """Compare today's outputs with the golden ones.

    Raises:
        BundleCorrupt: a golden example is missing, malformed, or comes out otherwise.
    """
    arrays = unpack_arrays(data, FILE)
    expected = {"files", "offsets", "pixels", "images", "embedding", "mean"}
    if head is not None:
        expected |= {"probabilities"} | ({NOVELTY} if head.tells_novelty else set())
    if arrays.keys() != expected:
        raise BundleCorrupt(
            f"{FILE}: holds {sorted(arrays)}, expected {sorted(expected)}; export the bundle again"
        )
    _check_pixels(arrays, encoder.spec)
    images = arrays["images"]
    if images.dtype != np.uint8 or images.shape[1:] != encoder.spec.shape:
        raise BundleCorrupt(f"{FILE}: `images` do not fit the encoder; export the bundle again")
    if not 1 <= len(images) <= MAX_IMAGES:
        raise BundleCorrupt(
            f"{FILE}: {len(images)} images, 1 to {MAX_IMAGES} are run; export the bundle again"
        )
    encoding = encoder(images)
    found = {"embedding": encoding.embedding, "mean": encoding.mean}
    if head is not None:
        found |= _judged(head, encoding.embedding)
    tolerance = TOLERANCE[encoder.provider]
    for name, values in found.items():
        apart = difference(values, arrays[name])
        if not apart <= tolerance:  # also refuses NaN
            raise BundleCorrupt(
                f"{FILE}: `{name}` differs by {apart:.2g}, at most {tolerance:g} is allowed; "
                "the file or the runtime has changed: export the bundle again"
            )


def difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest |found - expected| relative to max(1, |expected|).

    Infinite where shapes or types differ; NaN if any value is NaN or infinite in both.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


def _judged(head: Head, embedding: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    judgement = head.judge(embedding)
    return {name: array for name, array in judgement._asdict().items() if array is not None}


def _check_pixels(arrays: dict[str, NDArray[Any]], spec: ImageSpec) -> None:
    blob, offsets, golden = arrays["files"], arrays["offsets"], arrays["pixels"]
    formats = FORMATS if spec.window is None else (*FORMATS, "16-bit PNG")
    well_formed = (
        blob.dtype == np.uint8
        and offsets.dtype == np.int64
        and offsets.shape == (len(formats) + 1,)
        and golden.dtype == np.uint8
        and golden.shape == (len(formats), *spec.shape)
        and offsets[0] == 0
        and offsets[-1] == blob.size
        and bool((np.diff(offsets) > 0).all())
    )
    if not well_formed:
        raise BundleCorrupt(f"{FILE}: `files` are malformed; export the bundle again")
    for kind, start, stop, want in zip(formats, offsets, offsets[1:], golden, strict=False):
        try:
            found = pixels.decode(blob[start:stop].tobytes(), spec)
        except ImageError as error:
            raise BundleCorrupt(
                f"{FILE}: the {kind} file cannot be decoded: {error}; export the bundle again"
            ) from error
        levels = int(np.abs(found.astype(np.int16) - want).max())
        if levels > PIXEL_TOLERANCE:
            raise BundleCorrupt(
                f"{FILE}: {kind} pixels differ by {levels} of 255: this release decodes "
                "otherwise than the one that trained; train again or use that release"
            )


def _encoded(image: NDArray[np.uint8], kind: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def _wide_png(spec: ImageSpec) -> bytes:
    """Return a 16-bit PNG of a ramp through all values, so inside and outside of any window."""
    ramp = np.linspace(0, 65_535, spec.height * spec.width).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(ramp.reshape(spec.height, spec.width)).save(buffer, "PNG")
    return buffer.getvalue()
