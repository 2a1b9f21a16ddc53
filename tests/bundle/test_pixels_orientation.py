import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header

# how a picture must be stored to be shown as it is, by what Exif calls its 0th row and column
STORED = {
    1: lambda shown: shown,  # top, left
    2: lambda shown: shown[:, ::-1],  # top, right
    3: lambda shown: shown[::-1, ::-1],  # bottom, right
    4: lambda shown: shown[::-1],  # bottom, left
    5: lambda shown: shown.swapaxes(0, 1),  # left, top
    6: lambda shown: np.rot90(shown, 1),  # right, top
    7: lambda shown: np.rot90(shown, 2).swapaxes(0, 1),  # right, bottom
    8: lambda shown: np.rot90(shown, -1),  # left, bottom
}
SPECS = [
    ImageSpec(height=37, width=53, channels=3),  # as it is
    *(
        ImageSpec(height=height, width=width, channels=channels, resize=policy)
        for height, width in ((16, 16), (20, 15), (9, 40), (80, 90))
        for channels in (1, 3)
        for policy in ("stretch", "fit", "crop")
    ),
]


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("order", ["<", ">"])
def test_png_and_webp_give_identical_pixels(
    orientation, order, picture, write_png, write_exif, save
):
    """However a lossless picture is stored, each size and policy gives the same pixels."""
    shown = picture(37, 53)
    stored = np.ascontiguousarray(STORED[orientation](shown))
    exif = write_exif(orientation, order)
    upright = write_png(shown)
    files = [
        write_png(stored, before=[(b"eXIf", exif)]),
        write_png(stored, after=[(b"eXIf", exif)]),
        save(stored, "WEBP", lossless=True, exif=exif),
        save(stored, "WEBP", lossless=True, exif=b"Exif\0\0" + exif),
    ]
    for data in files:
        assert header(data)[1:3] == (53, 37)
        for spec in SPECS:
            np.testing.assert_array_equal(decode(data, spec), decode(upright, spec))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("size", "most", "mean"), [((232, 328), 2, 0.2), ((233, 331), 8, 0.8)])
def test_jpeg_gives_the_same_picture(orientation, size, most, mean, picture, save, write_exif):
    """Stored in any orientation a JPEG gives nearly the same pixels, also at reduced size.

    Where a side is no multiple of 8, JPEG itself cuts a mirrored picture into other blocks.
    """
    height, width = size
    shown = picture(height, width)
    stored = np.ascontiguousarray(STORED[orientation](shown))
    options = {"quality": 98, "subsampling": 0}
    upright = save(shown, "JPEG", **options)
    data = save(stored, "JPEG", exif=b"Exif\0\0" + write_exif(orientation, ">"), **options)
    assert header(data)[1:3] == (width, height)
    for spec in SPECS:
        difference = np.abs(decode(data, spec).astype(int) - decode(upright, spec))
        assert difference.max() <= most
        assert difference.mean() <= mean
    spec = ImageSpec(height=height, width=width, channels=3)
    reference = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data, spec), reference)


def test_turned_pixels_are_an_array_of_their_own(picture, write_png, write_exif, save):
    """Whatever was done to them, pixels are C-contiguous and writable."""
    stored = picture(53, 37)
    exif = write_exif(6)
    for data in (
        write_png(stored, before=[(b"eXIf", exif)]),
        save(stored, "JPEG", exif=b"Exif\0\0" + exif),
        save(stored, "WEBP", exif=exif),
        write_png(stored.swapaxes(0, 1)),
    ):
        for spec in (*SPECS, ImageSpec(height=37, width=40, channels=3, resize="crop")):
            flags = decode(data, spec).flags
            assert flags.c_contiguous
            assert flags.writeable


def test_orientation_is_read_from_long_values_too(picture, write_png, write_exif):
    """Writers that store the orientation as LONG instead of SHORT are understood."""
    pixels = picture(9, 14)
    for order in "<>":
        assert header(write_png(pixels, before=[(b"eXIf", write_exif(6, order, 4))])).width == 9


def malformed(write_exif):
    good = write_exif(6)
    yield from (good[:length] for length in range(len(good) - 6))
    yield from (write_exif(value) for value in (0, 9, 255, 65535))
    yield good.replace(b"II*", b"XX*")
    yield good[:4] + struct.pack("<I", 0xFFFFFFFF) + good[8:]  # points outside
    yield good[:8] + struct.pack("<H", 0xFFFF) + good[10:22] + bytes(100)  # too many entries
    yield good.replace(struct.pack("<HH", 0x0112, 3), struct.pack("<HH", 0x0112, 2))  # as text
    yield b""
    yield bytes(50)


def test_malformed_exif_counts_as_none(picture, write_png, write_exif, save):
    """Cut, pointing outside, of odd type or value: the picture is shown as stored, no error."""
    pixels = picture(37, 53)
    spec = SPECS[0]
    plain = decode(save(pixels, "JPEG"), spec)
    for exif in malformed(write_exif):
        png = write_png(pixels, before=[(b"eXIf", exif)])
        np.testing.assert_array_equal(decode(png, spec), pixels)
        jpeg = save(pixels, "JPEG", exif=b"Exif\0\0" + exif)
        np.testing.assert_array_equal(decode(jpeg, spec), plain)
        if exif:
            webp = save(pixels, "WEBP", lossless=True, exif=exif)
            np.testing.assert_array_equal(decode(webp, spec), pixels)


def test_the_word_exif_elsewhere_is_no_exif(picture, save, write_exif):
    """A comment, or a second picture, that holds an Exif block does not turn the first one."""
    pixels = picture(37, 53)
    block = b"Exif\0\0" + write_exif(6)
    plain = decode(save(pixels, "JPEG"), SPECS[0])
    commented = save(pixels, "JPEG", comment=block)
    followed = save(pixels, "JPEG") + save(pixels, "JPEG", exif=block)
    for data in (commented, followed):
        assert block in data
        np.testing.assert_array_equal(decode(data, SPECS[0]), plain)
