import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, resize


def differences(found, expected):
    return np.abs(found.astype(int) - expected.astype(int))


def spec_of(pixels, channels):
    height, width = pixels.shape[:2]
    return ImageSpec(height=height, width=width, channels=channels)


def test_pixels_of_the_right_size_are_those_of_another_decoder(picture, write_jpeg):
    """Without scaling, baseline RGB and grey agree with Pillow's own libjpeg to the bit."""
    for channels in (1, 3):
        pixels = picture(40, 56, channels)
        data = write_jpeg(pixels)
        reference = np.asarray(Image.open(io.BytesIO(data))).reshape(pixels.shape)
        np.testing.assert_array_equal(decode(data, spec_of(pixels, channels)), reference)
        assert differences(reference, pixels).mean() < 2


def test_grey_and_colour_convert_by_the_luma_that_jpeg_stores(picture, write_jpeg):
    """Colour → grey is BT.601 luma within rounding; grey → colour repeats it."""
    rgb = picture(40, 56)
    grey = decode(write_jpeg(rgb, 100), spec_of(rgb, 1))[:, :, 0]
    luma = rgb.astype(float) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luma).max() <= 2
    stored = write_jpeg(rgb[:, :, :1])
    np.testing.assert_array_equal(
        decode(stored, spec_of(rgb, 3)), decode(stored, spec_of(rgb, 1)).repeat(3, axis=2)
    )


@pytest.mark.parametrize("form", ["cmyk", "ycck"])
def test_cmyk_is_read_inverted_as_adobe_writes_it(form, picture, write_jpeg):
    """Ink c, m, y with black k becomes (255 - c)(255 - k) / 255 and so on, in both forms."""
    ink = picture(160, 224, 4)
    ink[:, :, 3] //= 2
    if form == "cmyk":
        file = io.BytesIO()
        image = Image.frombytes("CMYK", (224, 160), ink.tobytes())
        image.save(file, "JPEG", quality=100, subsampling=0)
        data = file.getvalue()
    else:
        data = write_jpeg(255 - ink, 100)  # this writer takes samples as stored
    light = 255.0 - ink
    expected = light[:, :, :3] * light[:, :, 3:] / 255
    found = decode(data, spec_of(ink, 3))
    assert np.abs(found - expected).max() <= 5
    assert np.abs(found - expected).mean() < 1
    grey = decode(data, spec_of(ink, 1))[:, :, 0]
    assert np.abs(grey - expected @ np.array([0.299, 0.587, 0.114])).max() <= 5
    small = ImageSpec(height=40, width=56, channels=3)
    whole = resize(found, small)
    assert differences(decode(data, small), whole).max() <= 3  # reduced while decoding


@pytest.mark.parametrize("policy", ["stretch", "fit", "crop"])
@pytest.mark.parametrize("size", [(641, 487), (97, 803), (1000, 333), (520, 512)])
def test_reduced_decoding_stays_close_to_decoding_whole(policy, size, picture, write_jpeg):
    """The DCT's scaling moves smooth pixels by no more than 3 of 255, at any odd size."""
    pixels = picture(size[1], size[0])
    data = write_jpeg(pixels, 95, "420")
    whole = np.asarray(Image.open(io.BytesIO(data)))
    for height, width in ((64, 64), (30, 61), (60, 40)):
        spec = ImageSpec(height=height, width=width, channels=3, resize=policy)
        assert differences(decode(data, spec), resize(whole, spec)).max() <= 3


def test_decoding_is_reduced_where_that_suffices(picture, write_jpeg):
    """At 1/2, 1/4 and 1/8 the pixels are those of libjpeg's own scaling, no larger decode."""
    data = write_jpeg(picture(512, 256), 90, "420")
    for reduction in (2, 4, 8):
        height, width = 512 // reduction, 256 // reduction
        expected = simplejpeg.decode_jpeg(data, min_height=height, min_width=width)
        found = decode(data, ImageSpec(height=height, width=width, channels=3))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", range(1, 18))
def test_tiny_pictures_are_decoded_whole(side, write_jpeg):
    """Below 8 pixels libjpeg's factors look alike, so none is used."""
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    data = write_jpeg(pixels, 100)
    reference = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, spec_of(pixels, 3)), reference)
    if side < 8:
        for smaller in range(1, side):
            spec = ImageSpec(height=smaller, width=smaller, channels=3)
            np.testing.assert_array_equal(decode(data, spec), resize(reference, spec))


def test_the_first_picture_of_several_is_taken(picture, save):
    """A multi-picture file (MPO) gives the pixels of its first picture alone."""
    first = picture(40, 56)
    other = Image.fromarray(255 - first)
    several = save(first, "MPO", save_all=True, append_images=[other], quality=90)
    alone = save(first, "JPEG", quality=90)
    assert len(several) > len(alone)
    spec = spec_of(first, 3)
    np.testing.assert_array_equal(decode(several, spec), decode(alone, spec))


def test_progressive_equals_baseline(picture, save):
    """The order of the scans changes no pixel."""
    pixels = picture(40, 56)
    spec = spec_of(pixels, 3)
    np.testing.assert_array_equal(
        decode(save(pixels, "JPEG", progressive=True), spec), decode(save(pixels, "JPEG"), spec)
    )
