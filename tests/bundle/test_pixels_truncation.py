import struct
import zlib

import numpy as np
import pytest

from handful_bundle.errors import ImageError, ImageUnreadable
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header

SPEC = ImageSpec(height=19, width=23, channels=3)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_every_truncation_is_an_error_or_the_same_pixels(image_files):
    """Any prefix of any sample raises an ImageError, or lost only what follows the picture."""
    for name, data in image_files.items():
        whole = decode(data, SPEC)
        accepted = 0
        for length in range(len(data)):
            try:
                pixels = decode(data[:length], SPEC)
            except ImageError:
                continue
            accepted += 1
            np.testing.assert_array_equal(pixels, whole, err_msg=f"{name} cut to {length}")
        limit = len(b"\xff\xd8\xff some other data") if name == "jpeg-trailer" else 0
        assert accepted == limit, name


def test_the_header_of_a_truncated_container_is_refused(image_files):
    """PNG and WebP say how long they are, so `header` finds every truncation too."""
    for name, data in image_files.items():
        if not name.startswith("jpeg"):
            for length in range(len(data)):
                with pytest.raises(ImageError):
                    header(data[:length])


@pytest.mark.parametrize("interlaced", [False, True])
def test_compressed_data_that_end_early_are_an_error(interlaced, image_files, png_chunk):
    """Intact chunks around too few rows are refused, even where the lost rows are black."""
    data = image_files["png-interlaced" if interlaced else "png"]
    start = data.index(b"IDAT") - 4
    head, (length,) = data[:start], struct.unpack_from(">I", data, start)
    rows = zlib.decompress(data[start + 8 : start + 8 + length])
    black = rows[: len(rows) // 2] + bytes(len(rows) - len(rows) // 2)

    def file(raw):
        return head + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")

    decode(file(black), SPEC)
    decode(file(black + b"more than needed"), SPEC)
    for kept in range(len(rows)):
        with pytest.raises(ImageUnreadable):
            decode(file(black[:kept]), SPEC)


def test_damage_to_the_picture_of_a_png_is_found(image_files):
    """Whichever bit of the chunks that make up the picture flips, there are no other pixels."""
    data = image_files["png-palette"]
    whole = decode(data, SPEC)
    for position in range(8, len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            try:
                pixels = decode(bytes(damaged), SPEC)
            except ImageError:
                continue
            np.testing.assert_array_equal(pixels, whole)


def test_unknown_critical_chunks_and_absurd_headers_are_refused(write_png, png_chunk):
    """What the standard tells a reader not to guess at is an error."""
    pixels = np.zeros((19, 23, 3), int)
    with pytest.raises(ImageUnreadable):
        decode(write_png(pixels, before=[(b"CgBI", b"\0\0\0\0")]), SPEC)
    with pytest.raises(ImageUnreadable):
        decode(write_png(pixels[:, :, :1], 8, 3), SPEC)  # a palette picture without palette
    good = struct.pack(">IIBBBBB", 23, 19, 8, 2, 0, 0, 0)
    tail = write_png(pixels)[8 + 25 :]
    decode(SIGNATURE + png_chunk(b"IHDR", good) + tail, SPEC)
    for position, value in ((8, 3), (8, 0), (9, 1), (9, 7), (10, 1), (11, 1), (12, 2)):
        changed = bytearray(good)
        changed[position] = value
        with pytest.raises(ImageUnreadable):
            decode(SIGNATURE + png_chunk(b"IHDR", bytes(changed)) + tail, SPEC)
    second = [(b"IHDR", good)]
    with pytest.raises(ImageUnreadable):
        decode(write_png(pixels, before=second), SPEC)
