"""16-bit samples through a window of the model."""

import hashlib
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleCorrupt
from handful_bundle.manifest import ImageSpec, space_digest
from handful_bundle.pixels import decode, header, resize, wide_samples

WINDOWS = [(0, 4095), (100, 3999), (0, 65535), (30000, 30001), (65534, 65535)]


def spec_of(samples, channels, window=None, **size):
    height, width = samples.shape[:2]
    return ImageSpec(**{"height": height, "width": width, **size}, channels=channels, window=window)


def through(samples, low, high):
    """The definition, in floating point."""
    return np.floor(np.clip((samples.astype(float) - low) / (high - low), 0, 1) * 255 + 0.5)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_is_linear_rounded_and_clipped(window, write_png):
    """Every 16-bit value becomes (value - low) * 255 / (high - low), rounded, within 0 … 255."""
    samples = np.arange(65536).reshape(256, 256, 1)
    for channels in (1, 3):
        found = decode(write_png(samples, 16), spec_of(samples, channels, window))
        np.testing.assert_array_equal(found, through(samples, *window).repeat(channels, axis=2))


def test_dark_12_bit_data_fill_the_range(write_png):
    """Without a window 12-bit values use 16 levels of 256; with theirs, all."""
    samples = np.arange(4096).reshape(64, 64, 1)
    assert len(np.unique(decode(write_png(samples, 16), spec_of(samples, 1)))) == 16
    assert len(np.unique(decode(write_png(samples, 16), spec_of(samples, 1, (0, 4095))))) == 256


def test_colour_is_windowed_at_full_depth(picture, write_png):
    """All channels of 16-bit RGB go through one window, low bytes included."""
    samples = picture(21, 34, 3).astype(np.uint16) * 16 + np.arange(34, dtype=np.uint16)[:, None]
    found = decode(write_png(samples, 16), spec_of(samples, 3, (500, 3000)))
    np.testing.assert_array_equal(found, through(samples, 500, 3000))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_not_windowed(channels, picture, write_png):
    """Of LA and RGBA the colour goes through the window; alpha keeps its high byte."""
    wide = picture(19, 23, channels).astype(np.uint16) * 16
    wide[:, :, -1] = picture(19, 23, 1)[:, :, 0].astype(np.uint16) * 256 + 77
    narrow = through(wide, 200, 3500)
    narrow[:, :, -1] = wide[:, :, -1] >> 8
    for wanted in (1, 3):
        found = decode(write_png(wide, 16), spec_of(wide, wanted, (200, 3500)))
        expected = decode(write_png(narrow.astype(np.uint8)), spec_of(wide, wanted))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_stays_white(channels, picture, write_png):
    """The tRNS colour is compared at full depth, before the window."""
    samples = picture(17, 26, channels).astype(np.uint16) * 16
    samples[3, 4] = samples[9, 9] ^ 1
    chunk = (b"tRNS", samples[9, 9].astype(">u2").tobytes())
    found = decode(write_png(samples, 16, before=[chunk]), spec_of(samples, channels, (0, 4095)))
    is_key = (samples == samples[9, 9]).all(axis=2)
    assert not is_key[3, 4]
    np.testing.assert_array_equal(found[is_key], 255)
    np.testing.assert_array_equal(found[~is_key], through(samples, 0, 4095)[~is_key])


def test_8_bit_images_have_no_window(image_files):
    """Files of fewer than 16 bits give the same pixels under any window."""
    for name, data in image_files.items():
        if header(data).bits == 8:
            plain, windowed = (
                decode(data, ImageSpec(height=19, width=23, channels=3, window=window))
                for window in (None, (3, 99))
            )
            np.testing.assert_array_equal(plain, windowed, err_msg=name)
    assert {name for name, data in image_files.items() if header(data).bits == 16} == {
        "png-16",
        "png-rgb16",
    }


def test_arrays_go_through_the_same_window(picture, write_png):
    """`resize` of uint16 arrays, grey or RGB, at any size, equals `decode` of a PNG of them."""
    for channels in (1, 3):
        samples = picture(44, 37, channels).astype(np.uint16) * 15
        for wanted in (1, 3):
            spec = ImageSpec(height=16, width=24, channels=wanted, window=(90, 3333))
            np.testing.assert_array_equal(
                resize(samples, spec), decode(write_png(samples, 16), spec)
            )


def test_shrinking_after_the_window_is_exact_to_one_level(picture, write_png):
    """Rounding to 8 bits before shrinking costs at most one level against floating point."""
    samples = picture(64, 64, 1).astype(np.uint16) * 16
    samples += np.random.default_rng(0).integers(0, 16, samples.shape, np.uint16)
    found = decode(write_png(samples, 16), spec_of(samples, 1, (0, 4095), height=16, width=16))
    exact = Image.fromarray((samples[:, :, 0] * np.float32(255 / 4095)).astype(np.float32))
    exact = np.asarray(exact.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(found[:, :, 0] - exact).max() < 1


def test_a_hot_pixel_does_not_bleed(write_png):
    """One saturated pixel among 12-bit ones counts no more than the brightest of these."""
    samples = np.full((64, 64, 1), 1000)
    samples[30, 30] = 65535
    found = decode(write_png(samples, 16), spec_of(samples, 1, (0, 4095), height=16, width=16))
    bounded = np.minimum(samples, 4095)
    spec = spec_of(samples, 1, (0, 4095), height=16, width=16)
    np.testing.assert_array_equal(found, decode(write_png(bounded, 16), spec))
    assert found.max() < 90  # resampled first, it would be 255 here


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_wide_samples_are_those_of_the_file(channels, picture, write_png):
    """All 16 bits come back, without alpha; of an 8-bit file there are none."""
    samples = picture(18, 25, channels).astype(np.uint16) * 251
    colour = samples[:, :, : 1 if channels < 3 else 3]
    np.testing.assert_array_equal(wide_samples(write_png(samples, 16)), colour)
    assert wide_samples(write_png(samples >> 8)) is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_files_are_windowed_alike(channels, picture, write_png, png_chunk):
    """The seven passes of an interlaced 16-bit file give the pixels of the plain one."""
    samples = picture(19, 23, channels).astype(np.uint16) * 251
    plain = write_png(samples, 16)
    passes = (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    )
    parts = [samples[top::down, left::across] for left, top, across, down in passes]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
    header = plain[16:28] + b"\1"
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    interlaced = plain[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)
    spec = spec_of(samples, 3, (999, 44444))
    np.testing.assert_array_equal(decode(interlaced, spec), decode(plain, spec))


@pytest.mark.parametrize("window", [(5, 5), (9, 3), (-1, 5), (0, 65536), (1,), ("a", "b")])
def test_impossible_windows_are_refused(window):
    """Two rising values within 16 bits, else no spec."""
    with pytest.raises(ValidationError):
        ImageSpec(height=8, width=8, channels=1, window=window)


def test_without_a_window_the_space_is_as_ever():
    """The image block without a window has the keys, hence the digest, of before there was any."""
    spec = ImageSpec(height=28, width=28, channels=1)
    before = {"height": 28, "width": 28, "channels": 1, "resize": "fit"}
    assert spec.model_dump() == json.loads(spec.model_dump_json()) == before
    encoder = "sha256:" + "0" * 64
    block = {"encoder": encoder, "image": before, "pixels_version": 1}
    text = json.dumps(block, sort_keys=True, separators=(",", ":"))
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert space_digest(encoder, spec, 1) == digest
    windows = [None, (0, 4095), (0, 4096)]
    specs = [ImageSpec(**before, window=window) for window in windows]
    assert len({space_digest(encoder, spec, 1) for spec in specs}) == 3


def test_a_bundle_keeps_its_window(make_bundle, tmp_path):
    """The window is written, read, and guarded by a golden 16-bit file."""
    root = make_bundle(tmp_path / "scope", window=(100, 3999))
    manifest = root / "manifest.json"
    assert json.loads(manifest.read_text())["image"]["window"] == [100, 3999]
    assert Bundle.load(root, device="cpu", threads=1).encoder.spec.window == (100, 3999)
    manifest.write_text(manifest.read_text().replace("3999", "4095"))
    with pytest.raises(BundleCorrupt, match="`space` is not that of the encoder"):
        Bundle.load(root, device="cpu", threads=1)


def test_the_golden_16_bit_file_catches_other_windowing(make_bundle, tmp_path):
    """A release that took 16-bit values otherwise would refuse the bundle."""
    root = make_bundle(tmp_path / "scope", window=(100, 3999))
    changed = json.loads((root / "manifest.json").read_text())
    changed["image"]["window"] = [200, 3999]
    spec = ImageSpec(**changed["image"])
    changed["space"] = space_digest(changed["files"]["encoder.onnx"], spec, 1)
    (root / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(BundleCorrupt, match="16-bit PNG pixels differ"):
        Bundle.load(root, device="cpu", threads=1)
