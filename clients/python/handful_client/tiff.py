"""TIFF → samples, losslessly: what science stores, brought into a form that a service takes.

Read are single pictures of 8 or 16 bits, unsigned, grey or RGB, with or without straight alpha;
in strips or tiles; uncompressed or by LZW, deflate or PackBits. Whatever else a TIFF can hold
(stacks, floating point, palettes, CMYK, JPEG within) has no agreed way to pixels: it is refused
with what to do about it. Overviews and masks beside the picture are passed over.

The directory is read here (TIFF 6.0), so that size and kind are known before a byte is decoded.
libtiff (within Pillow) decodes, and sees only the entries that make up the picture: no profile, no
text, no other page. Of 16-bit colour Pillow keeps the high bytes, so the low ones are read by a
second decoding with the bytes of a sample exchanged.

The package for training and the one for clients both hold this file, for neither depends on the
other, and the tests compare the two: the same file must give the same samples on both sides.
"""

import io
import re
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

MAX_PIXELS = 25_000_000
MAX_SIDE = 32_768

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_BIG = (b"II+\0", b"MM\0+")
_LAYOUTS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_MAX_PAGES = 64

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _DESCRIPTION, _STRIPS, _ORIENTATION, _SAMPLES = 266, 270, 273, 274, 277
_ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _PREDICTOR = 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_PICTURE = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS_PER_STRIP),
    *(_STRIP_BYTES, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA),
}

# Which go with none, LZW, deflate, PackBits, deflate under its old number.
_PREDICTORS = {1: (1,), 5: (1, 2), 8: (1, 2), 32773: (1,), 32946: (1, 2)}
_COLOURS = {1: 1, 2: 3}  # samples of a pixel: grey, RGB
_UNSIGNED = 1
_STRAIGHT_ALPHA = 2
_BESIDE_THE_PICTURE = 1 | 4  # bits of NewSubfileType: a smaller version of it, a mask
_IMAGEJ_STACK = re.compile(rb"^images=(?!1\s*$)\d", re.MULTILINE)
_EXCHANGED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_CORRUPT = "the TIFF file is truncated or corrupt: send the whole file, or export it again"


class TiffRefused(ValueError):
    """A TIFF file cannot be used. The message says what was found, and the remedy.

    Attributes:
        code: image_unsupported, image_animated, image_too_large or image_unreadable.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_tiff(data: bytes) -> bool:
    """Say whether `data` begin as a TIFF file."""
    return data[:4] in _ORDERS or data.startswith(_BIG)


def read_tiff(data: bytes) -> NDArray[Any]:
    """Return the samples of a TIFF file, as it is to be shown (after its orientation).

    Returns:
        uint8 or uint16 [h, w, c]; c is 1: grey, 2: grey and alpha, 3: RGB, 4: RGB and alpha.

    Raises:
        TiffRefused: not such a file, of more than `MAX_PIXELS`, or corrupt.
    """
    if data.startswith(_BIG):
        _unsupported("a BigTIFF", "save it as a classic TIFF")
    try:
        order = _ORDERS[data[:4]]
        (first,) = struct.unpack_from(order + "I", data, 4)
        page = _page(data, order, first)
        width, height = _check_size(page)
        _check_kind(page)
        if _DESCRIPTION in page.entries and _IMAGEJ_STACK.search(page.raw(_DESCRIPTION)[1]):
            _stack()
        _check_pieces(page, width, height)
        for other in _others(data, order, page):
            if not other.one(_SUBFILE, 0) & _BESIDE_THE_PICTURE:
                _stack()
        return _turned(_decode(page), page.one(_ORIENTATION, 1))
    except TiffRefused:
        raise
    except Exception:  # noqa: BLE001 a decoder may raise anything on hostile bytes
        raise TiffRefused("image_unreadable", _CORRUPT) from None  # its text may quote them


class _Page(NamedTuple):
    """One directory of the file."""

    data: bytes
    order: str
    entries: dict[int, bytes]  # tag -> the twelve bytes of its entry
    following: int  # offset of the next directory, or 0

    def raw(self, tag: int) -> tuple[int, bytes]:
        """Return type and bytes of a tag's values."""
        kind, count = struct.unpack_from(self.order + "HI", self.entries[tag], 2)
        size = count * struct.calcsize(_LAYOUTS.get(kind, "B"))
        if size <= 4:
            return kind, self.entries[tag][8 : 8 + size]
        (at,) = struct.unpack_from(self.order + "I", self.entries[tag], 8)
        if at + size > len(self.data):
            raise TiffRefused("image_unreadable", _CORRUPT)
        return kind, self.data[at : at + size]

    def all(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a tag, none where it is absent."""
        if tag not in self.entries:
            return ()
        kind, raw = self.raw(tag)
        layout = _LAYOUTS[kind]
        return struct.unpack(f"{self.order}{len(raw) // struct.calcsize(layout)}{layout}", raw)

    def one(self, tag: int, default: int) -> int:
        """Return the number of a tag, or its default."""
        found = self.all(tag)
        return found[0] if found else default


def _page(data: bytes, order: str, at: int) -> _Page:
    (count,) = struct.unpack_from(order + "H", data, at)
    end = at + 2 + 12 * count
    entries: dict[int, bytes] = {}
    for start in range(at + 2, end, 12):
        (tag,) = struct.unpack_from(order + "H", data, start)
        entries.setdefault(tag, data[start : start + 12])
    (following,) = struct.unpack_from(order + "I", data, end)
    return _Page(data, order, entries, following)


def _others(data: bytes, order: str, page: _Page) -> Iterator[_Page]:
    for _ in range(_MAX_PAGES):
        if page.following == 0:
            return
        page = _page(data, order, page.following)
        yield page
    _stack()  # or a ring


def _check_size(page: _Page) -> tuple[int, int]:
    width, height = page.one(_WIDTH, 0), page.one(_HEIGHT, 0)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise TiffRefused(
            "image_unreadable",
            f"the TIFF has {width} x {height} pixels: send one of 1 to {MAX_SIDE:,} a side",
        )
    if width * height > MAX_PIXELS:
        raise TiffRefused(
            "image_too_large",
            f"the TIFF has {width} x {height} pixels, allowed are {MAX_PIXELS:,}: shrink it",
        )
    return width, height


def _check_kind(page: _Page) -> None:
    """Refuse what has no agreed way to pixels, by the directory alone."""
    if not set(page.all(_FORMAT)) <= {_UNSIGNED}:
        _unsupported(
            "of signed or floating-point values",
            "convert it to unsigned 16 bits, by one rule for all",
        )
    bits = set(page.all(_BITS)) or {1}
    if bits not in ({8}, {16}):
        found = ", ".join(map(str, sorted(bits)))
        _unsupported(f"of {found} bits per sample", "convert it to 8 or 16 bits")
    if page.one(_PHOTOMETRIC, -1) not in _COLOURS:
        _unsupported("neither grey (black is zero) nor RGB", "convert it to grey or RGB")
    samples, extra = page.one(_SAMPLES, 1), page.all(_EXTRA)
    colours = _COLOURS[page.one(_PHOTOMETRIC, -1)]
    if extra not in ((), (_STRAIGHT_ALPHA,)) or samples != colours + len(extra):
        _unsupported("of channels besides colour and straight alpha", "save it without them")
    if samples == 2 and bits == {16}:
        _unsupported("of 16-bit grey with alpha", "save it without alpha")
    if samples > 1 and page.one(_PLANAR, 1) != 1:
        _unsupported("stored in planes", "store the channels of a pixel together")
    predictors = _PREDICTORS.get(page.one(_COMPRESSION, 1), ())
    if page.one(_PREDICTOR, 1) not in predictors or page.one(_FILL_ORDER, 1) != 1:
        _unsupported("compressed in an unusual way", "use LZW, deflate or no compression")


def _check_pieces(page: _Page, width: int, height: int) -> None:
    """Refuse a picture of which strips or tiles are missing: they would be black."""
    if _TILES in page.entries:
        across, down = page.one(_TILE_WIDTH, 0), page.one(_TILE_HEIGHT, 0)
        if across > MAX_SIDE or across * down > MAX_PIXELS:
            raise TiffRefused("image_unreadable", _CORRUPT)
        starts, sizes = page.all(_TILES), page.all(_TILE_BYTES)
    else:
        across, down = width, min(height, page.one(_ROWS_PER_STRIP, height))
        starts, sizes = page.all(_STRIPS), page.all(_STRIP_BYTES)
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    if len(ends) != -(-width // across) * -(-height // down) or max(ends) > len(page.data):
        raise TiffRefused("image_unreadable", _CORRUPT)


def _decode(page: _Page) -> NDArray[Any]:
    """Return the samples as stored: [h, w, c]."""
    file = _picture(page)
    with TiffImageFile(io.BytesIO(file)) as image:
        samples = np.asarray(image)  # of several samples of 16 bits the high bytes
    if page.one(_BITS, 1) == 16:
        samples = samples.astype(np.uint16)
        if samples.ndim == 3:
            with TiffImageFile(io.BytesIO(file)) as again:
                again.tile = [tile._replace(args=_exchanged(tile.args)) for tile in again.tile]
                samples <<= 8  # in place: there may be 75 million
                samples |= np.asarray(again)
    return samples[:, :, np.newaxis] if samples.ndim == 2 else samples


def _picture(page: _Page) -> bytes:
    """Return the file with a directory, behind all else, that names nothing but the picture."""
    order = page.order
    entries = [entry for tag, entry in sorted(page.entries.items()) if tag in _PICTURE]
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    even = len(page.data) % 2 * b"\0"
    start = struct.pack(order + "I", len(page.data) + len(even))
    return page.data[:4] + start + page.data[8:] + even + directory


def _exchanged(arguments: Any) -> tuple[Any, ...]:
    """Return a decoder's arguments, of which the first names the layout, for the other byte."""
    layout, *others = arguments
    return (layout[:-1] + _EXCHANGED[layout[-1]], *others)


def _turned(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an orientation of 1 to 8, as of an EXIF block."""
    if not 1 <= orientation <= 8:
        return samples
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    return np.ascontiguousarray(samples[::rows, ::columns])


def _stack() -> NoReturn:
    raise TiffRefused(
        "image_animated", "the TIFF holds several pictures: save each as a file of its own"
    )


def _unsupported(found: str, remedy: str) -> NoReturn:
    raise TiffRefused("image_unsupported", f"the TIFF is {found}: {remedy}")
