import hashlib

import numpy as np

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import PIXELS_VERSION, decode, encode_png

# sha256 over all that `digest` decodes, by PIXELS_VERSION
PINNED = {1: "1d98e7ef9064e53892bcc77e238e3a601e2d8e59487216aa88c80450a7bb92de"}


def digest(write_png):
    """Return a digest of lossless pictures of many kinds in many sizes, by integers alone."""
    y, x = np.mgrid[:45, :61]
    planes = [x * 7 + y * 3, x * y // 5, 255 - x * 2 - y, 128 + (x * 5 + y * 11) % 128]
    samples = np.stack(planes, axis=2) % 256
    files = [write_png(samples[:, :, :channels]) for channels in (1, 3, 4)]
    files.append(write_png(samples[:, :, ::3]))
    files.append(write_png(samples[:, :, :3] * 257 ^ 85, 16))
    files.append(write_png(samples[:, :, :1] * 256 + 255, 16))
    files.append(write_png(samples[:, :, :1] >> 6, 2))
    state = hashlib.sha256()
    for data in files:
        for height, width in ((45, 61), (28, 28), (16, 40), (64, 64)):
            for channels in (1, 3):
                for policy in ("stretch", "fit", "crop"):
                    spec = ImageSpec(height=height, width=width, channels=channels, resize=policy)
                    state.update(decode(data, spec).tobytes())
    return state.hexdigest()


def test_other_pixels_need_another_version(write_png):
    """The pixels of lossless files are those that this PIXELS_VERSION has always given."""
    found = digest(write_png)
    assert PINNED.get(PIXELS_VERSION) == found, (
        f"pixels have changed: raise PIXELS_VERSION and pin {found!r} for it; bundles trained on "
        "the old pixels are then refused instead of answering wrongly"
    )


def test_encode_png_is_lossless(picture):
    """What `encode_png` writes of grey or RGB pixels, `decode` gives back bit for bit."""
    for channels in (1, 3):
        pixels = picture(31, 17, channels)
        spec = ImageSpec(height=31, width=17, channels=channels)
        np.testing.assert_array_equal(decode(encode_png(pixels), spec), pixels)
