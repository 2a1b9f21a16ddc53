"""From what a user holds (path, bytes, file, PIL image, array) to what can be sent.

Files and bytes go as they are: only the service turns bytes into pixels. PIL images and arrays
are already pixels; they are packed without loss, 16 bits included. So are TIFF files, which no
service takes: the training reads them by the very same code.
"""

import importlib
import io
import os
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union

from handful_client import extras
from handful_client.errors import ImageUnreadable, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

# Union rather than `|`, which cannot take the names of packages that may not be installed.
Image: TypeAlias = Union[  # see above
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    "PillowImage",
    "NDArray[Any]",
]
Images: TypeAlias = Image | Iterable[Image]

_KINDS = "a path, bytes, an open file, a PIL image, or a uint8 or uint16 array [H,W] or [H,W,C]"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Encoded:
    """An image file's bytes. `media_type` is None where the bytes are of no known kind."""

    data: bytes = field(repr=False)
    media_type: str | None


@dataclass(frozen=True)
class Pixels:
    """An array [H,W,C], uint8 or uint16, C from 1 to 4."""

    array: Any = field(repr=False)


@dataclass(frozen=True)
class Vector:
    """An embedding or a latent in place of an image, and the space that an embedding is of."""

    numbers: list[float] = field(repr=False)
    space: str = ""


Loaded = Encoded | Pixels | Vector


def load(image: Image) -> Loaded:
    """Read one image.

    Raises:
        ImageUnreadable: the file cannot be opened, or the object is no image.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return _encoded(bytes(image))
    if isinstance(image, str | os.PathLike):
        return _encoded(_read_file(Path(image)))
    if extras.is_array(image):
        return Pixels(_checked(image))
    if extras.is_pillow(image):
        return _encoded(_pack_pillow(image))
    if hasattr(image, "read"):
        return _encoded(_read_open_file(image))
    raise ImageUnreadable(f"{type(image).__name__} is no image; give {_KINDS}", code="not_an_image")


def is_one(images: Any) -> bool:
    """Whether the argument is a single image rather than many."""
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview):
        return True
    if extras.is_array(images):
        return bool(2 <= images.ndim <= 3)
    return extras.is_pillow(images) or hasattr(images, "read")


def each(images: Any) -> Iterable[Any]:
    """Return the images one by one, whether one or many were given.

    Raises:
        InputError: neither.
    """
    if is_one(images):
        return [images]
    is_scalar = extras.is_array(images) and images.ndim == 0
    if isinstance(images, Iterable) and not isinstance(images, dict) and not is_scalar:
        return images
    hint = "; for an async iterable use AsyncHandful" if isinstance(images, AsyncIterable) else ""
    raise InputError(f"{type(images).__name__} holds no images; give {_KINDS}, or many{hint}")


def weight(loaded: Loaded) -> int:
    """Return the bytes that an image occupies in memory and, about, in a body."""
    if isinstance(loaded, Encoded):
        return len(loaded.data)
    if isinstance(loaded, Pixels):
        return int(loaded.array.nbytes)
    return 20 * len(loaded.numbers)  # digits of a number in JSON


def pack(loaded: Encoded | Pixels) -> Encoded:
    """Return the image as a file: pixels become a PNG, which loses nothing."""
    if isinstance(loaded, Encoded):
        return loaded
    return Encoded(_write_png(loaded.array), "image/png")


def _encoded(data: bytes) -> Encoded:
    if data.startswith(_TIFF):
        data = _tiff_as_png(data)
    return Encoded(data, _media_type(data))


def _tiff_as_png(data: bytes) -> bytes:
    for package in ("numpy", "PIL.TiffImagePlugin"):
        extras.need(package, "arrays", "sending TIFF files")
    tiff = importlib.import_module("handful_client.tiff")
    try:
        return _write_png(tiff.read_tiff(data))
    except tiff.TiffRefused as error:
        raise ImageUnreadable(str(error), code=error.code) from error


def _write_png(samples: Any) -> bytes:
    files = importlib.import_module("handful_client.png_file")  # it imports numpy
    data: bytes = files.write_png(samples)
    return data


def _media_type(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        code = "file_missing" if isinstance(error, FileNotFoundError) else "file_unreadable"
        raise ImageUnreadable(f"{path}: {error.strerror or error}", code=code) from error
    except ValueError as error:  # a NUL in the name
        raise ImageUnreadable(f"{str(path)!r} is no path: {error}", code="file_missing") from error


def _read_open_file(file: Any) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageUnreadable(f"the open file cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageUnreadable("the file is open as text; open it with mode 'rb'")
    return data


def _checked(array: Any) -> Any:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in {1, 2, 3, 4} or 0 in array.shape:
        raise ImageUnreadable(
            f"an array of shape {list(array.shape)} is no image; give [H,W] or [H,W,C] with C of "
            "1 to 4 (many greys: [N,H,W,1])",
            code="not_an_image",
        )
    if array.dtype not in ("uint8", "uint16"):
        raise ImageUnreadable(
            f"an array of {array.dtype} has no agreed range; convert to uint8, 0 to 255, or uint16",
            code="not_an_image",
        )
    return array


def _pack_pillow(image: Any) -> bytes:
    ops = extras.need("PIL.ImageOps", "arrays", "sending PIL images")
    try:
        # As the same file would be shown: the tag does not survive the PNG.
        image = ops.exif_transpose(image)
        if image.mode in {"I", "F"}:  # what Pillow would convert it to is clipped, not scaled
            raise ImageUnreadable(
                f"a PIL image of mode {image.mode} has no agreed range; give a uint16 array",
                code="not_an_image",
            )
        if image.mode not in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"}:
            image = image.convert("RGB")
        return _png(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageUnreadable(f"Pillow cannot read this image: {error}") from error


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
