import logging
import struct
import zlib

import numpy as np

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header

SPEC = ImageSpec(height=19, width=23, channels=3)
BOMB = zlib.compress(bytes(40_000_000), 9)  # 39 kB


def hostile_chunks():
    words = b"s3cret\n\x1b[31m"
    yield b"iCCP", b"s3cret\0\0" + BOMB
    yield b"iCCP", b"s3cret\0\0not deflated"
    yield b"iCCP", b"s3cret"
    yield b"zTXt", b"s3cret\0\0" + BOMB
    yield b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB
    yield b"tEXt", b"s3cret\0" + words * 1000
    yield b"zTXt", b""
    yield b"eXIf", b"MM\0*" + b"\xff" * 50
    yield b"gAMA", b""
    yield b"cHRM", b"1"
    yield b"pHYs", b""
    yield b"fcTL", words
    yield b"prVt", words


def test_hostile_metadata_of_a_png_are_ignored_and_never_logged(
    picture, write_png, png_chunk, caplog
):
    """Bombs and nonsense in profile, text, Exif or private chunks change and say nothing."""
    caplog.set_level(logging.DEBUG)
    pixels = picture(19, 23)
    for chunk in hostile_chunks():
        for place in ("before", "after"):
            data = write_png(pixels, **{place: [chunk]})
            np.testing.assert_array_equal(decode(data, SPEC), pixels)
            body = png_chunk(*chunk)
            damaged = data.replace(body, body[:-1] + bytes([body[-1] ^ 1]))  # its checksum
            np.testing.assert_array_equal(decode(damaged, SPEC), pixels)
    assert "s3cret" not in caplog.text


def test_hostile_metadata_of_jpeg_and_webp_are_ignored_and_never_logged(picture, save, caplog):
    """Nonsense as ICC profile, XMP, Exif or comment changes and says nothing."""
    caplog.set_level(logging.DEBUG)
    pixels = picture(19, 23)
    junk = b"s3cret\n\x1b[31m" * 100
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + b"\xff\xff" + junk
    plain = {"JPEG": decode(save(pixels, "JPEG"), SPEC), "WEBP": pixels}
    for kind, more in (("JPEG", {"comment": junk}), ("WEBP", {"lossless": True})):
        for options in (
            {"icc_profile": junk},
            {"icc_profile": BOMB},
            {"xmp": junk},
            {"exif": exif},
            more,
        ):
            data = save(pixels, kind, **(more | options))
            assert header(data) == header(save(pixels, kind, **more))
            np.testing.assert_array_equal(decode(data, SPEC), plain[kind])
    assert "s3cret" not in caplog.text
