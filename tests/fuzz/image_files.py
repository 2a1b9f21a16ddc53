"""Image files of every kind, written without the code under test."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG colour type


def picture(height: int, width: int, channels: int = 3) -> Pixels:
    """Return a smooth picture without any symmetry, uint8 [height, width, channels]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [
        0.5 + 0.5 * np.sin(7 * x + 3 * y * y + 1),
        0.2 + 0.7 * y + 0.1 * np.cos(9 * x),
        0.9 - 0.8 * x * y - 0.1 * np.sin(11 * y),
        0.1 + 0.8 * x,
    ]
    return np.stack(planes[:channels], axis=2).__mul__(255).round().astype(np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def write_png(
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
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def write_exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an Exif block (TIFF) of two entries; the second is the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    make = struct.pack(order + "HHI4s", 0x010F, 2, 4, b"abc\0")
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return start + struct.pack(order + "IH", 8, 2) + make + entry + struct.pack(order + "I", 0)


def save(pixels: Pixels, kind: str, **options: object) -> bytes:
    """Return the file that Pillow writes of uint8 [h, w, c]."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def write_jpeg(pixels: Pixels, quality: int = 90, subsampling: str = "444") -> bytes:
    colourspace = {1: "GRAY", 3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    subsampling = "Gray" if pixels.shape[2] == 1 else subsampling
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colourspace, subsampling)


def image_files() -> dict[str, bytes]:
    """Small files of every kind that is accepted, 19 x 23 pixels unless named otherwise."""
    rgb, rgba = picture(19, 23), picture(19, 23, 4)
    grey = rgb[:, :, :1]
    exif = write_exif(6)
    return {
        "jpeg": write_jpeg(rgb),
        "jpeg-grey": write_jpeg(grey),
        "jpeg-420": write_jpeg(rgb, 75, "420"),
        "jpeg-cmyk": _save_cmyk(rgba),
        "jpeg-ycck": write_jpeg(rgba),
        "jpeg-progressive": save(rgb, "JPEG", progressive=True),
        "jpeg-exif": save(rgb, "JPEG", exif=b"Exif\0\0" + exif),
        "jpeg-reduced": write_jpeg(picture(67, 131), 60, "420"),
        "jpeg-trailer": write_jpeg(rgb) + b"\xff\xd8\xff some other data",
        "png": write_png(rgb),
        "png-grey": write_png(grey),
        "png-1": write_png(grey >> 7, 1),
        "png-2": write_png(grey >> 6, 2),
        "png-16": write_png(grey.astype(np.uint16) * 257, 16),
        "png-rgb16": write_png(rgb.astype(np.uint16) * 257, 16),
        "png-palette": write_png(grey >> 4, 4, 3, before=[(b"PLTE", bytes(range(48)))]),
        "png-alpha": write_png(rgba),
        "png-exif": write_png(rgb, before=[(b"eXIf", exif)]),
        "png-interlaced": _interlaced(rgb),
        "webp": save(rgb, "WEBP", quality=80),
        "webp-lossless": save(rgb, "WEBP", lossless=True),
        "webp-alpha": save(rgba, "WEBP", quality=80),
        "webp-exif": save(rgb, "WEBP", lossless=True, exif=exif),
    }


def odd_files() -> dict[str, bytes]:
    """Animations, which are refused, and files laden with what is not looked at."""
    rgb, rgba = picture(19, 23), picture(19, 23, 4)
    frames = [Image.fromarray(part) for part in (rgb, rgb[::-1], rgb[:, ::-1])]
    animation, laden = io.BytesIO(), io.BytesIO()
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:])
    frames[0].save(
        laden, "WEBP", icc_profile=b"a profile" * 9, exif=write_exif(3), xmp=b"<x:xmpmeta/>"
    )
    control = struct.pack(">II", 1, 0)
    frame = struct.pack(">IIIIIHHBB", 0, 23, 19, 0, 0, 1, 10, 0, 0)
    profile = b"name\0\0" + zlib.compress(b"a profile" * 9)
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x:xmpmeta/>")
    chunks = [(b"iCCP", profile), (b"iTXt", text), (b"eXIf", write_exif(8, ">"))]
    keyed = write_png(rgb[:, :, :1], before=[(b"tRNS", b"\0\x80")])
    exif = b"Exif\0\0" + write_exif(5)
    return {
        "webp-animated": animation.getvalue(),
        "webp-laden": laden.getvalue(),
        "png-animated": write_png(rgb, before=[(b"acTL", control), (b"fcTL", frame)]),
        "png-laden": write_png(rgba, before=chunks),
        "png-keyed": keyed,
        "png-rgba16": write_png(rgba.astype(np.uint16) * 257, 16),
        "jpeg-laden": save(rgb, "JPEG", icc_profile=b"a profile" * 9, exif=exif, comment=b"text"),
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
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
