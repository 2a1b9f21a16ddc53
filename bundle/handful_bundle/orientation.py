"""Which way up an image is: the EXIF orientation, and pixels turned by it.

Exif 2.3 (CIPA DC-008), tag 0x0112: 1 upright, 2 mirrored, 3 upside down, 4 both; 5 to 8 the same
four after exchanging rows and columns. This is the only metadata that Handful reads: an Exif
block that is malformed counts as none, and one inside XMP or a PNG's text is ignored.
"""

import struct
from typing import Any, NamedTuple

from numpy.typing import NDArray

_TAG = 0x0112
_SHORT, _LONG = 3, 4
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
# (rows, columns) to be reversed, for 1 to 4 and, after exchanging rows and columns, 5 to 8
_FLIPS = ((False, False), (False, True), (True, True), (True, False))


class Extent(NamedTuple):
    """The part of some pixels that the picture covers, in pixels; fractions are possible."""

    left: float
    top: float
    width: float
    height: float


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in an Exif block, with or without its name; else 1."""
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _TAG:
                layout = {_SHORT: "H", _LONG: "I"}.get(kind)
                if layout is None:
                    return 1
                (value,) = struct.unpack_from(order + layout, tiff, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # points outside the block
        pass
    return 1


def is_transposed(orientation: int) -> bool:
    """Say whether rows are shown as columns: 5 to 8."""
    return orientation > 4


def orient(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return `pixels` [h, w, c] as they are to be shown: a view, nothing is copied."""
    rows, columns = _FLIPS[(orientation - 1) % 4]
    if is_transposed(orientation):
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def orient_extent(width: float, height: float, shape: tuple[int, ...], orientation: int) -> Extent:
    """Return where a picture lies after `orient`.

    Args:
        width: of the picture, which begins at the first pixel as stored.
        height: likewise.
        shape: [h, w, ...] of the pixels as stored.
        orientation: 1 to 8.
    """
    rows, columns = _FLIPS[(orientation - 1) % 4]
    stored_height, stored_width = shape[:2]
    if is_transposed(orientation):
        width, height = height, width
        stored_width, stored_height = stored_height, stored_width
    left = stored_width - width if columns else 0.0
    top = stored_height - height if rows else 0.0
    return Extent(left, top, width, height)
