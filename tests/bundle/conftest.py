"""Image files of every kind, written without the code under test."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG colour type


def _picture(height: int, width: int, channels: int = 3) -> Pixels:
    """Return a smooth picture without any symmetry, uint8 [height, width, channels]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [
        0.5 + 0.5 * np.sin(7 * x + 3 * y * y + 1),
        0.2 + 0.7 * y + 0.1 * np.cos(9 * x),
        0.9 - 0.8 * x * y - 0.1 * np.sin(11 * y),
        0.1 + 0.8 * x,
    ]
    return np.stack(planes[:channels], axis=2).__mul__(255).round().astype(np.uint8)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def _png(
    samples: NDArray,
    depth: int = 8,
    colour_type: int | None = None,
    *,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return a PNG file of integer samples [h, w, c], with more chunks around IDAT."""
    height, width, channels = samples.shape
    if colour_type is None:
        colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    assert channels == _CHANNELS[colour_type]
    assert samples.max() < 2**depth
    if depth == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:  # most significant bit first, rows padded to whole bytes
        bits = samples.astype(np.uint8).reshape(height, -1, 1) >> np.arange(depth)[::-1] & 1
        rows = np.packbits(bits.astype(np.uint8).reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an Exif block (TIFF) of two entries; the second is the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    make = struct.pack(order + "HHI4s", 0x010F, 2, 4, b"abc\0")
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return start + struct.pack(order + "IH", 8, 2) + make + entry + struct.pack(order + "I", 0)


def _save(pixels: Pixels, kind: str, **options: object) -> bytes:
    """Return the file that Pillow writes of uint8 [h, w, c]."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def _jpeg(pixels: Pixels, quality: int = 90, subsampling: str = "444") -> bytes:
    colourspace = {1: "GRAY", 3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    subsampling = "Gray" if pixels.shape[2] == 1 else subsampling
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colourspace, subsampling)


@pytest.fixture(scope="session")
def picture() -> Callable[..., Pixels]:
    """`picture(height, width, channels=3)`: smooth, asymmetric pixels."""
    return _picture


@pytest.fixture(scope="session")
def write_png() -> Callable[..., bytes]:
    """`write_png(samples, depth=8, colour_type=None, before=(), after=())`."""
    return _png


@pytest.fixture(scope="session")
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    """`png_chunk(kind, body)`: with length and checksum."""
    return _chunk


@pytest.fixture(scope="session")
def write_exif() -> Callable[..., bytes]:
    """`write_exif(orientation, order="<", kind=3)`."""
    return _exif


@pytest.fixture(scope="session")
def save() -> Callable[..., bytes]:
    """`save(pixels, kind, **options)`: the file that Pillow writes."""
    return _save


@pytest.fixture(scope="session")
def write_jpeg() -> Callable[..., bytes]:
    """`write_jpeg(pixels, quality=90, subsampling="444")`: four channels become YCCK."""
    return _jpeg


@pytest.fixture(scope="session")
def image_files() -> dict[str, bytes]:
    """Small files of every kind that is accepted, 19 x 23 pixels unless named otherwise."""
    rgb, rgba = _picture(19, 23), _picture(19, 23, 4)
    grey = rgb[:, :, :1]
    exif = _exif(6)
    return {
        "jpeg": _jpeg(rgb),
        "jpeg-grey": _jpeg(grey),
        "jpeg-420": _jpeg(rgb, 75, "420"),
        "jpeg-cmyk": _save_cmyk(rgba),
        "jpeg-ycck": _jpeg(rgba),
        "jpeg-progressive": _save(rgb, "JPEG", progressive=True),
        "jpeg-exif": _save(rgb, "JPEG", exif=b"Exif\0\0" + exif),
        "jpeg-reduced": _jpeg(_picture(67, 131), 60, "420"),
        "jpeg-trailer": _jpeg(rgb) + b"\xff\xd8\xff some other data",
        "png": _png(rgb),
        "png-grey": _png(grey),
        "png-1": _png(grey >> 7, 1),
        "png-2": _png(grey >> 6, 2),
        "png-16": _png(grey.astype(np.uint16) * 257, 16),
        "png-rgb16": _png(rgb.astype(np.uint16) * 257, 16),
        "png-palette": _png(grey >> 4, 4, 3, before=[(b"PLTE", bytes(range(48)))]),
        "png-alpha": _png(rgba),
        "png-exif": _png(rgb, before=[(b"eXIf", exif)]),
        "png-interlaced": _interlaced(rgb),
        "webp": _save(rgb, "WEBP", quality=80),
        "webp-lossless": _save(rgb, "WEBP", lossless=True),
        "webp-alpha": _save(rgba, "WEBP", quality=80),
        "webp-exif": _save(rgb, "WEBP", lossless=True, exif=exif),
    }


def _save_cmyk(ink: Pixels) -> bytes:
    file = io.BytesIO()
    height, width = ink.shape[:2]
    Image.frombytes("CMYK", (width, height), ink.tobytes()).save(file, "JPEG", quality=95)
    return file.getvalue()


def _interlaced(rgb: Pixels) -> bytes:
    height, width = rgb.shape[:2]
    raw = b""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        part = rgb[top::down, left::across]
        if part.size:
            raw += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
