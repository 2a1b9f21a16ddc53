"""The chunks that a PNG file consists of, and its header. Inflates and decodes nothing."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from handful_bundle.errors import ImageUnreadable

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
"""Colour types."""

SIGNATURE = 8
"""Bytes before the first chunk."""

TRUNCATED = "the PNG file ends too early: send all of it"
CORRUPT = "the PNG file is corrupt: export it again from the original"

_MAX_CHUNKS = 65_536
_DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    COLOUR: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}
_SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
# first column, first row, step of columns, step of rows, of each pass
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


class PngHeader(NamedTuple):
    """The chunk IHDR."""

    width: int
    height: int
    depth: int  # bits per sample
    colour_type: int
    interlaced: bool

    @property
    def inflated_size(self) -> int:
        """Bytes of all rows of the picture, each with the number of its filter."""
        bits = self.depth * _SAMPLES[self.colour_type]
        size = 0
        for left, top, across, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns = -(-(self.width - left) // across)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                size += rows * (1 + -(-columns * bits // 8))
        return size


class Chunk(NamedTuple):
    """One chunk of a PNG file."""

    kind: bytes
    body: memoryview
    whole: memoryview  # with length, kind and checksum
    intact: bool  # the checksum is right

    @property
    def is_critical(self) -> bool:
        """Whether a picture cannot be shown by who does not know this kind."""
        return self.kind[:1].isupper()


def read_png_header(data: bytes) -> PngHeader:
    """Read the first chunk of a PNG file.

    Raises:
        ImageUnreadable: not a header that the standard allows.
        struct.error: truncated within it.
    """
    length, kind, width, height, depth, colour_type, compression, filters, interlace = (
        struct.unpack_from(">I4sIIBBBBB", data, SIGNATURE)
    )
    if (
        (length, kind) != (13, b"IHDR")
        or depth not in _DEPTHS.get(colour_type, ())
        or (compression, filters) != (0, 0)
        or interlace > 1
    ):
        raise ImageUnreadable(CORRUPT)
    return PngHeader(width, height, depth, colour_type, interlace == 1)


def walk_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file from IHDR to IEND, both included.

    Raises:
        ImageUnreadable: it ends before IEND, or has absurdly many chunks.
        struct.error: truncated within the head of a chunk.
    """
    view = memoryview(data)
    position = SIGNATURE
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise ImageUnreadable(TRUNCATED)
        checksum = int.from_bytes(data[end : end + 4], "big")
        intact = zlib.crc32(view[position + 4 : end]) == checksum
        yield Chunk(kind, view[position + 8 : end], view[position : end + 4], intact)
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageUnreadable(f"the PNG file has more than {_MAX_CHUNKS:,} chunks: export it again")
