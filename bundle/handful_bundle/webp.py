"""WebP → pixels, by libwebp (Pillow). Knows nothing of the encoder's size.

The container is walked here (RFC 9649), so that truncation, sizes, animation and orientation are
known before libwebp sees a byte. Animations are refused, also those of one frame. ICC profiles
and XMP are skipped unread; bytes after the end that the file declares are dropped.
"""

import io
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.WebPImagePlugin import WebPImageFile

from handful_bundle.colour import to_pixels
from handful_bundle.errors import ImageAnimated, ImageUnreadable
from handful_bundle.limits import check_size
from handful_bundle.media import WEBP
from handful_bundle.orientation import read_orientation

_MAX_CHUNKS = 10_000
_HEADER = 12  # "RIFF", size, "WEBP"
_ANIMATED = 0x02


class Webp(NamedTuple):
    """The container of a WebP file. Sizes are as stored, before `orientation` is applied."""

    data: bytes
    width: int
    height: int
    orientation: int
    channels: int = 3
    media_type: str = WEBP

    def read(
        self, channels: int, _reduction: int = 1, _window: tuple[int, int] | None = None, /
    ) -> NDArray[np.uint8]:
        """Decode to uint8 [height, width, channels]: WebP is never reduced."""
        with WebPImageFile(io.BytesIO(self.data)) as image:
            return to_pixels(image, channels)


def open_webp(data: bytes, max_pixels: int) -> Webp:
    """Walk the container of a WebP file.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageAnimated: it is an animation.
        ImageUnreadable: truncated, malformed or of impossible size.
        struct.error: truncated within a header.
    """
    (declared,) = struct.unpack_from("<I", data, 4)
    end = 8 + declared
    if end > len(data):
        raise ImageUnreadable("the WebP file ends too early: send all of it")
    canvas: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    orientation = 1
    position = _HEADER
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if body + length > end:
            raise ImageUnreadable("a chunk of the WebP file ends too early: send all of it")
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and data[body] & _ANIMATED):
            raise ImageAnimated("the WebP file is an animation: send one still image")
        if kind == b"VP8X":
            canvas = _canvas_size(data, body)
            check_size(*canvas, max_pixels)
        elif kind in (b"VP8 ", b"VP8L") and frame is None:
            frame = (_lossy_size if kind == b"VP8 " else _lossless_size)(data, body)
            check_size(*frame, max_pixels)
        elif kind == b"EXIF" and orientation == 1:
            orientation = read_orientation(data[body : body + length])
        position = body + length + length % 2
    if frame is None or canvas not in (None, frame):
        raise ImageUnreadable("the WebP file holds no picture of the size that it declares")
    return Webp(data[:end], *frame, orientation)


def _canvas_size(data: bytes, body: int) -> tuple[int, int]:
    width = int.from_bytes(data[body + 4 : body + 7], "little") + 1
    height = int.from_bytes(data[body + 7 : body + 10], "little") + 1
    return width, height


def _lossy_size(data: bytes, body: int) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, body + 6)  # after frame tag and start code
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(data: bytes, body: int) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, body + 1)  # after the signature byte
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
