import numpy as np
import pytest

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, resize


def spec_of(pixels, channels):
    height, width = pixels.shape[:2]
    return ImageSpec(height=height, width=width, channels=channels)


def luma(rgb):
    """ITU-R BT.601, as float."""
    return rgb.astype(float) @ np.array([0.299, 0.587, 0.114])


def over_white(samples, alpha):
    colour, opacity = samples.astype(float), alpha.astype(float)[:, :, None] / 255
    return np.floor(colour * opacity + 255 * (1 - opacity) + 0.5)


def assert_is(pixels, rgb):
    """`pixels` are exactly the reference, float or integer [h, w, 3]."""
    np.testing.assert_array_equal(pixels, rgb)


def test_png_of_8_bits_comes_back_exactly(picture, write_png):
    """RGB → RGB and grey → grey change no bit; grey → RGB repeats it; RGB → grey is the luma."""
    rgb = picture(21, 34)
    grey = rgb[:, :, :1]
    assert_is(decode(write_png(rgb), spec_of(rgb, 3)), rgb)
    assert_is(decode(write_png(grey), spec_of(grey, 1)), grey)
    assert_is(decode(write_png(grey), spec_of(grey, 3)), grey.repeat(3, axis=2))
    found = decode(write_png(rgb), spec_of(rgb, 1))[:, :, 0]
    assert np.abs(found - luma(rgb)).max() <= 0.51


def test_16_bit_grey_is_scaled_not_clipped(write_png):
    """All 65,536 values map on their high byte, so their mean is 127.5, not 254.5."""
    samples = np.arange(65536).reshape(256, 256, 1)
    for channels in (1, 3):
        pixels = decode(write_png(samples, 16), spec_of(samples, channels))
        assert_is(pixels, (samples >> 8).repeat(channels, axis=2))
        assert pixels.mean() == 127.5
        assert np.abs(pixels - samples / 257).max() < 1


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_and_alpha_keep_the_high_byte(channels, picture, write_png):
    """16-bit LA, RGB and RGBA give what their 8-bit high bytes give."""
    wide = picture(20, 31, channels).astype(np.uint16) * 257
    wide ^= np.arange(31, dtype=np.uint16)[None, :, None] * 7 & 255  # other low bytes
    for wanted in (1, 3):
        spec = spec_of(wide, wanted)
        assert_is(decode(write_png(wide, 16), spec), decode(write_png(wide >> 8), spec))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_spread_over_the_range(depth, picture, write_png):
    """A depth of 1, 2 or 4 bits reaches from 0 to 255 in equal steps."""
    samples = picture(18, 29, 1) >> (8 - depth)
    expected = samples.astype(int) * 255 // (2**depth - 1)
    assert {0, 255} <= set(np.unique(expected))
    assert_is(decode(write_png(samples, depth), spec_of(samples, 1)), expected)
    assert_is(decode(write_png(samples, depth), spec_of(samples, 3)), expected.repeat(3, axis=2))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_with_and_without_transparency(depth, write_png):
    """An index becomes its entry, composited over white by its alpha; absent alphas are opaque."""
    entries = 2**depth
    rng = np.random.default_rng(depth)
    palette = rng.integers(0, 256, (entries, 3))
    alphas = rng.integers(0, 256, max(1, entries // 2))
    indices = rng.integers(0, entries, (15, 27, 1))
    table = (b"PLTE", palette.astype(np.uint8).tobytes())
    spec = spec_of(indices, 3)
    plain = palette[indices[:, :, 0]]
    assert_is(decode(write_png(indices, depth, 3, before=[table]), spec), plain)

    transparency = (b"tRNS", alphas.astype(np.uint8).tobytes())
    opacity = np.append(alphas, [255] * (entries - len(alphas)))[indices[:, :, 0]]
    found = decode(write_png(indices, depth, 3, before=[table, transparency]), spec)
    assert_is(found, over_white(plain, opacity))
    grey = decode(write_png(indices, depth, 3, before=[table, transparency]), spec_of(indices, 1))
    assert np.abs(grey[:, :, 0] - luma(found)).max() <= 0.51


def test_alpha_is_composited_over_white(write_png):
    """Every pair of value and alpha, as LA and as RGBA, is the rounded mixture with white."""
    value, alpha = np.mgrid[:256, :256]
    expected = over_white(value[:, :, None], alpha)
    la = np.stack([value, alpha], axis=2)
    assert_is(decode(write_png(la), spec_of(la, 1)), expected)
    assert_is(decode(write_png(la), spec_of(la, 3)), expected.repeat(3, axis=2))
    rgba = np.stack([value, 255 - value, value // 2, alpha], axis=2)
    assert_is(decode(write_png(rgba), spec_of(rgba, 3)), over_white(rgba[:, :, :3], alpha))


@pytest.mark.parametrize(
    ("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)]
)
def test_the_transparent_colour_becomes_white(depth, channels, picture, write_png):
    """Exactly the pixels of the tRNS colour turn white, at full depth, and no other changes."""
    samples = picture(17, 26, channels).astype(np.uint16) >> max(0, 8 - depth)
    if depth == 16:
        samples = samples * 257
        samples[3, 4] = samples[9, 9] ^ 1  # differs from the key in the low byte alone
    key = samples[9, 9]
    transparency = (b"tRNS", key.astype(">u2").tobytes())
    spec = spec_of(samples, channels)
    plain = decode(write_png(samples, depth), spec)
    found = decode(write_png(samples, depth, before=[transparency]), spec)
    is_key = (samples == key).all(axis=2)
    assert is_key[9, 9]
    assert_is(found[is_key], 255)
    assert_is(found[~is_key], plain[~is_key])


def test_lossless_webp_equals_png(picture, save, write_png):
    """The same RGB or RGBA samples give the same pixels from either format."""
    for channels in (3, 4):
        samples = picture(22, 33, channels)
        webp = save(samples, "WEBP", lossless=True, exact=True)
        for wanted in (1, 3):
            spec = spec_of(samples, wanted)
            assert_is(decode(webp, spec), decode(write_png(samples), spec))


def test_arrays_follow_the_same_colour_rules(picture, write_png):
    """`resize` of uint8 and uint16 arrays, grey or RGB, equals `decode` of a PNG of them."""
    for channels in (1, 3):
        wide = picture(24, 17, channels).astype(np.uint16) * 251
        for samples, depth in ((wide, 16), ((wide >> 8).astype(np.uint8), 8)):
            for spec in (spec_of(wide, 1), spec_of(wide, 3)):
                assert_is(resize(samples, spec), decode(write_png(samples, depth), spec))
    assert_is(resize(wide[:, :, 0], spec_of(wide, 1)), resize(wide[:, :, :1], spec_of(wide, 1)))
