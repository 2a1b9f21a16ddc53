"""Bytes → pixels: the only such code, for training and for serving.

bytes → format by magic → header (sizes, orientation, limits) → samples → orientation → size

Only JPEG, PNG and WebP; only still images; only the first picture of a file. EXIF orientation is
applied, every other metadata ignored and never logged. Colour, transparency and 16 bits: the
rules stand in `colour.py`; sizes in `resize.py`; what a format may hold in `jpeg.py`, `png.py`,
`webp.py`. Nothing here changes global state, so any number of threads may call it at once.

Whatever can be wrong with an image raises an `ImageError`; its message never quotes the data.

Raise `PIXELS_VERSION` with every change after which some file could give other pixels, also one
of a dependency: bundles that were made before are then refused, instead of answering on pixels
that they were not trained on.
"""

import io
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from handful_bundle.colour import as_image, narrow, to_channels
from handful_bundle.errors import ImageError, ImageUnreadable
from handful_bundle.jpeg import open_jpeg
from handful_bundle.limits import MAX_PIXELS, MAX_SIDE, check_size
from handful_bundle.manifest import ImageSpec
from handful_bundle.media import JPEG, PNG, WEBP, identify, sniff
from handful_bundle.orientation import Extent, is_transposed, orient, orient_extent
from handful_bundle.png import Png, open_png
from handful_bundle.resize import Placement, place, resample
from handful_bundle.webp import open_webp

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "PIXELS_VERSION",
    "Header",
    "decode",
    "encode_png",
    "header",
    "resize",
    "sniff",
    "wide_samples",
]

PIXELS_VERSION = 1

_NO_LIMIT = 1 << 62
_UNREADABLE = "the image is truncated or corrupt: send the whole file, or export it again"


class Header(NamedTuple):
    """What a file says of its picture, as it is to be shown (after EXIF orientation)."""

    media_type: str  # image/jpeg, image/png or image/webp
    width: int
    height: int
    channels: int  # 1 if the file stores grey, else 3
    bits: int  # of a sample: 16 if the file stores so many, else 8


class _Opened(Protocol):
    """A file whose header is read and within the limits. Sizes are as stored."""

    @property
    def media_type(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def orientation(self) -> int: ...

    def read(
        self, channels: int, reduction: int, window: tuple[int, int] | None, /
    ) -> NDArray[np.uint8]:
        """Decode, at 1/`reduction` of the size if the format can, else whole."""


_FORMATS: dict[str, Callable[[bytes, int], _Opened]] = {
    JPEG: open_jpeg,
    PNG: open_png,
    WEBP: open_webp,
}


def header(data: bytes, *, media_type: str | None = None, max_pixels: int = MAX_PIXELS) -> Header:
    """Return size and kind of an image without decoding it.

    Raises:
        ImageError: as `decode`, except for damage that only decoding can find.
    """
    try:
        image = _open(data, media_type, max_pixels)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 a decoder may raise anything on hostile bytes
        raise ImageUnreadable(_UNREADABLE) from None  # its text may quote them
    return Header(image.media_type, *_shown_size(image), image.channels, _bits(image))


def decode(
    data: bytes, spec: ImageSpec, *, media_type: str | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Return the pixels of an image file as the encoder takes them.

    Args:
        data: a whole JPEG, PNG or WebP file.
        spec: size, channels and resize policy of the result, and the window of 16-bit samples.
        media_type: what the sender declared; None, "" and `application/octet-stream` say nothing.
        max_pixels: most pixels (width x height, as stored) that are decoded.

    Returns:
        uint8 [height, width, channels] of `spec`, a new array.

    Raises:
        ImageEmpty: no bytes.
        ImageUnsupported: not JPEG, PNG or WebP.
        ImageMismatched: `media_type` disagrees with the bytes.
        ImageTooLarge: more than `max_pixels`; told from the header, nothing was decoded.
        ImageAnimated: an animated WebP or an APNG.
        ImageUnreadable: truncated, corrupt, or a side of 0 or more than `MAX_SIDE` pixels.
    """
    try:
        image = _open(data, media_type, max_pixels)
        placement = place(*_shown_size(image), spec)
        reduction = _reduction(image, placement)
        pixels = image.read(spec.channels, reduction, spec.window)
        whole = pixels.shape[:2] == (image.height, image.width)
        if whole and image.orientation == 1 and pixels.shape == spec.shape:
            return pixels  # every policy is the identity: the usual case of small pictures
        scale = 1.0 if whole else 1 / reduction
        extent = orient_extent(
            image.width * scale, image.height * scale, pixels.shape, image.orientation
        )
        return resample(orient(pixels, image.orientation), spec, placement, scale, extent)
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 a decoder may raise anything on hostile bytes
        raise ImageUnreadable(_UNREADABLE) from None  # its text may quote them


def resize(pixels: NDArray[Any], spec: ImageSpec) -> NDArray[np.uint8]:
    """Return what already are pixels as the encoder takes them, by the same rules as `decode`.

    Args:
        pixels: uint8 or uint16, [h, w] or [h, w, 1] grey, [h, w, 3] RGB.
        spec: size, channels and resize policy of the result.

    Returns:
        uint8 [height, width, channels] of `spec`; `pixels` themselves if nothing is to be done.

    Raises:
        ImageUnreadable: another type or shape, or a side of 0 or more than `MAX_SIDE` pixels.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ImageUnreadable("the array is no image: give it shape [h, w], [h, w, 1] or [h, w, 3]")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageUnreadable("the array is neither uint8 nor uint16: convert it")
    height, width = pixels.shape[:2]
    check_size(width, height, _NO_LIMIT)
    samples = pixels if pixels.dtype == np.uint8 else narrow(pixels, spec.window)
    samples = to_channels(samples, spec.channels)
    extent = Extent(0, 0, width, height)
    return resample(samples, spec, place(width, height, spec), 1.0, extent)


def wide_samples(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint16] | None:
    """Return all bits of the samples of a 16-bit image, as from which a window is chosen.

    Returns:
        uint16 [h, w, 1 or 3] as stored, without alpha; None where the file stores fewer bits.

    Raises:
        ImageError: as `decode`.
    """
    try:
        image = _open(data, None, max_pixels)
        return image.wide() if isinstance(image, Png) and _bits(image) == 16 else None
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 a decoder may raise anything on hostile bytes
        raise ImageUnreadable(_UNREADABLE) from None  # its text may quote them


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 [h, w, 1 or 3] pixels as a PNG file, which `decode` gives back exactly."""
    file = io.BytesIO()
    as_image(pixels).save(file, "PNG")
    return file.getvalue()


def _open(data: bytes, media_type: str | None, max_pixels: int) -> _Opened:
    return _FORMATS[identify(data, media_type)](data, max_pixels)


def _bits(image: _Opened) -> int:
    return 16 if isinstance(image, Png) and image.ihdr.depth == 16 else 8


def _shown_size(image: _Opened) -> tuple[int, int]:
    if is_transposed(image.orientation):
        return image.height, image.width
    return image.width, image.height


def _reduction(image: _Opened, placement: Placement) -> int:
    """Return by how much a picture may be decoded smaller and still cover its place: 8, 4, 2, 1."""
    part = placement.part
    if max(image.width, image.height) >= 8:  # below, libjpeg's factors cannot be told apart
        for reduction in (8, 4, 2):
            if (
                part.width >= placement.width * reduction
                and part.height >= placement.height * reduction
            ):
                return reduction
    return 1
