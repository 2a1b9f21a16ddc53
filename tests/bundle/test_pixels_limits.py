import struct
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg

from handful_bundle.errors import ImageTooLarge, ImageUnreadable
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import MAX_PIXELS, MAX_SIDE, decode, header

SPEC = ImageSpec(height=19, width=23, channels=3)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_of_size(width, height, chunk, depth=8, colour_type=2):
    body = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", body)


def png_with_size(width, height, chunk):
    """Whole in structure, but with no compressed data to speak of."""
    return png_of_size(width, height, chunk) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg_of_size(width, height):
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def riff(*chunks):
    body = b"".join(
        kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_of_size(width, height, kind):
    if kind == "VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return riff((b"VP8X", bytes(4) + size))
    if kind == "VP8L":
        bits = width - 1 | height - 1 << 14
        return riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(20)))
    return riff((b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)))


def declared(png_chunk, width, height):
    yield png_of_size(width, height, png_chunk)
    yield jpeg_of_size(width, height)
    if max(width, height) < 16384:
        yield webp_of_size(width, height, "VP8 ")
        if min(width, height) > 0:
            yield webp_of_size(width, height, "VP8L")
    if min(width, height) > 0:
        yield webp_of_size(width, height, "VP8X")


def test_too_many_pixels_are_told_from_the_header_alone(png_chunk):
    """A header that promises more than the limit is refused though nothing follows it."""
    for data in declared(png_chunk, 6000, 5000):
        for read in (lambda data=data: decode(data, SPEC), lambda data=data: header(data)):
            with pytest.raises(ImageTooLarge, match="shrink it"):
                read()


def test_a_small_file_of_81_megapixels_is_refused(png_chunk):
    """The 10 kB PNG that Pillow opens without a word is over the limit."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + 9000 // 8)) for _ in range(9000)) + rows.flush()
    head = png_of_size(9000, 9000, png_chunk, 1, 0)
    data = head + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    assert len(data) < 20_000
    with pytest.raises(ImageTooLarge):
        decode(data, SPEC)


def test_the_limit_itself_is_allowed(png_chunk, write_png):
    """`max_pixels` is the largest number accepted, one less is refused."""
    assert header(png_with_size(5000, 5000, png_chunk)).width * 5000 == MAX_PIXELS
    small = write_png(np.zeros((20, 30, 3), int))
    assert decode(small, SPEC, max_pixels=600).shape == SPEC.shape
    with pytest.raises(ImageTooLarge):
        decode(small, SPEC, max_pixels=599)


def test_a_raised_limit_warns_of_nothing(png_chunk):
    """Pillow's own limit of 89 megapixels neither warns nor raises where ours is higher."""
    width, height = 9500, 9500
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + -(-width // 8))) for _ in range(height)) + rows.flush()
    head = png_of_size(width, height, png_chunk, 1, 0)
    data = head + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = decode(data, ImageSpec(height=1, width=1, channels=1), max_pixels=10**8)
    assert pixels.tolist() == [[[0]]]
    assert caught == []


def test_impossible_sizes_are_unreadable(png_chunk):
    """A side of zero or of more than the longest allowed is refused, whatever the format."""
    for width, height in ((0, 5), (5, 0), (0, 0), (1, 60_000), (60_000, 1), (MAX_SIDE + 1, 7)):
        for data in declared(png_chunk, width, height):
            with pytest.raises(ImageUnreadable):
                decode(data, SPEC)
            with pytest.raises(ImageUnreadable):
                header(data)


def test_the_longest_side_is_accepted(write_png):
    """A PNG of 1 x 32,768 pixels has a result."""
    data = write_png(np.full((1, MAX_SIDE, 3), 9))
    assert (decode(data, SPEC.model_copy(update={"resize": "stretch"})) == 9).all()
