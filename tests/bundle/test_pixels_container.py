import struct

import numpy as np
import pytest
from PIL import Image

from handful_bundle.errors import ImageAnimated, ImageUnreadable
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header

SPEC = ImageSpec(height=19, width=23, channels=3)


def riff(*chunks):
    body = b"".join(
        kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def test_animations_are_refused(picture, save):
    """Animated WebP and APNG, of several frames, have an error of their own; header agrees."""
    frames = [picture(19, 23), 255 - picture(19, 23)]
    more = {"save_all": True, "append_images": [Image.fromarray(frames[1])], "duration": 100}
    for kind in ("PNG", "WEBP"):
        data = save(frames[0], kind, **more)
        for read in (lambda data=data: decode(data, SPEC), lambda data=data: header(data)):
            with pytest.raises(ImageAnimated, match="one still image"):
                read()


def test_floods_of_parts_are_refused(image_files, png_chunk):
    """A hundred thousand chunks, or a progressive JPEG of a hundred scans, are not worked off."""
    png = image_files["png"]
    flood = png[:33] + png_chunk(b"prVt", b"") * 100_000 + png[33:]
    with pytest.raises(ImageUnreadable, match="chunks"):
        decode(flood, SPEC)
    jpeg = image_files["jpeg-progressive"]
    last = jpeg.rindex(b"\xff\xda")
    flood = jpeg[:last] + jpeg[last:-2] * 100 + jpeg[-2:]
    with pytest.raises(ImageUnreadable, match="scans"):
        decode(flood, SPEC)


def test_scans_are_counted_within_the_picture_only(image_files):
    """Data after the picture that look like many scans, as of a film, do not refuse it."""
    for name in ("jpeg", "jpeg-progressive", "jpeg-exif"):
        data = image_files[name]
        filmed = data + b"\xff\xda" * 1000
        np.testing.assert_array_equal(decode(filmed, SPEC), decode(data, SPEC))


def test_a_webp_must_be_what_its_container_says(image_files, save, picture):
    """A canvas of another size than the picture, or no picture at all, is refused."""
    data = save(picture(19, 23), "WEBP", lossless=True, exif=b"II*\0")
    assert data[12:16] == b"VP8X"
    other = bytearray(data)
    other[24] += 1
    for bad in (bytes(other), riff(), riff((b"EXIF", b"abcd")), riff((b"VP8X", b""))):
        with pytest.raises(ImageUnreadable):
            decode(bad, SPEC)
        with pytest.raises(ImageUnreadable):
            header(bad)
    trailed = image_files["webp"] + b"other data"
    np.testing.assert_array_equal(decode(trailed, SPEC), decode(image_files["webp"], SPEC))
