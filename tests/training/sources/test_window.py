"""16-bit images: which values become 0 and 255, and a folder as laboratories have them."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.config import load_config
from handful_training.errors import InputError
from handful_training.packs.pack import pack_source
from handful_training.pipeline.inputs import read_inputs
from handful_training.sources.image_spec import choose_spec, derive_spec
from handful_training.sources.sendable import as_sendable
from handful_training.sources.source import Source, open_source

WriteTiff = Callable[..., bytes]


def wide_source(folder: Path, *images: NDArray) -> Source:
    """Return a source of grey 16-bit (or 8-bit) PNG files of [h, w] arrays."""
    for i, samples in enumerate(images):
        Image.fromarray(samples).save(folder / f"{i:03d}.png")
    return open_source(folder)


def ramp(low: int, high: int, side: int = 40) -> NDArray[np.uint16]:
    return np.linspace(low, high, side * side).round().astype(np.uint16).reshape(side, side)


def reason_of(source: Source) -> str:
    return choose_spec(source, resize="fit", height=None, width=None, channels=None, max_side=64)[1]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 4095), (100, 700), (32_000, 36_000), (0, 16_383), (40_000, 65_535)]
)
def test_values_that_use_a_part_of_16_bits_get_a_window(tmp_path: Path, low: int, high: int):
    """Its ends are the 0.1 % and 99.9 % points of the values, wherever in the range they lie."""
    window = derive_spec(wide_source(tmp_path, *[ramp(low, high)] * 5)).window
    assert window == pytest.approx(
        (low + 0.001 * (high - low), high - 0.001 * (high - low)), abs=(high - low) / 1000 + 1
    )


def test_a_few_hot_pixels_decide_nothing(tmp_path: Path):
    """One saturated value in two thousand leaves the window where it was."""
    images = [ramp(0, 4095, 50) for _ in range(5)]
    window = derive_spec(wide_source(tmp_path, *images)).window
    for image in images:
        image[7, 7] = 65_535
    assert derive_spec(wide_source(tmp_path, *images)).window == pytest.approx(window, abs=10)


def test_values_that_fill_16_bits_need_none(tmp_path: Path):
    """Photographs in 16 bits keep their high byte, and the reason says so."""
    source = wide_source(tmp_path, *[ramp(500, 60_000)] * 3)
    assert derive_spec(source).window is None
    assert "fill their range: no window" in reason_of(source)


def test_bright_points_on_a_dark_ground_are_not_lost(tmp_path: Path):
    """Where even 99.9 % of the values are equal, the window spans all of them."""
    image = np.full((80, 80), 200, np.uint16)
    image[40, 40] = 3000
    assert derive_spec(wide_source(tmp_path, image)).window == (200, 3000)


def test_one_value_alone_gives_none(tmp_path: Path):
    """Empty 16-bit images cannot tell a window, and are no error."""
    source = wide_source(tmp_path, np.full((20, 20), 77, np.uint16))
    assert derive_spec(source).window is None
    assert "all values alike" in reason_of(source)


def test_8_bit_images_have_none(tmp_path: Path):
    """Nothing is derived, and nothing is said, where no image has 16 bits."""
    source = wide_source(tmp_path, (ramp(0, 255)).astype(np.uint8))
    assert derive_spec(source).window is None
    assert "16" not in reason_of(source).partition("looked at")[2]


def test_mixed_depths(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The window follows from the 16-bit images alone; those of 8 bits are taken as they are."""
    narrow = ramp(0, 255).astype(np.uint8)
    source = wide_source(tmp_path, ramp(0, 4095), narrow, ramp(0, 4095), narrow, narrow)
    with caplog.at_level(logging.INFO):
        spec = derive_spec(source)
    assert spec.window == pytest.approx((4, 4091), abs=6)
    assert "16-bit values" in caplog.text
    assert "(3 of 5 images have 8 bits and are taken as is)" in caplog.text
    np.testing.assert_array_equal(decode(source.read(1), spec)[:, :, 0], narrow)


def test_a_window_that_is_set_wins(tmp_path: Path):
    """`image.window` is taken as given, with or without the size."""
    source = wide_source(tmp_path, ramp(0, 900))
    assert derive_spec(source, window=(0, 4095)).window == (0, 4095)
    sized = derive_spec(source, height=32, width=32, channels=1, window=(5, 6))
    assert sized == ImageSpec(height=32, width=32, channels=1, window=(5, 6))
    assert derive_spec(source, height=32, width=32, channels=1).window == pytest.approx(
        (1, 899), abs=2
    )


def test_the_window_is_a_setting(tmp_path: Path):
    """`--set image.window=[0,4095]` reaches the pixels; impossible ones are refused by name."""
    wide_source(tmp_path / ".", *[ramp(0, 900)] * 3)
    config = load_config(None, ["image.window=[0,4095]"]).image
    inputs = read_inputs(str(tmp_path), tmp_path / "handful-work", config=config, minimum=1)
    assert inputs.spec.window == (0, 4095)
    assert int(inputs.pack.images[0].max()) == round(900 * 255 / 4095)
    for text in ("[9,3]", "[0,70000]", "[1]", "wide"):
        with pytest.raises(InputError, match=r"setting image\.window"):
            load_config(None, [f"image.window={text}"])


def test_a_folder_of_everything(tmp_path: Path, write_tiff: WriteTiff):
    """Sizes, depths, formats and spellings of suffixes mix; each row is what a service sees."""
    folder = tmp_path / "slides"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)

    def draw(height: int, width: int, channels: int, dtype: type = np.uint16) -> NDArray:
        top = 4096 if dtype is np.uint16 else 256
        return rng.integers(0, top, (height, width, channels), dtype)

    for i in range(4):
        height, width = rng.integers(30, 90, 2).tolist()
        tiff = write_tiff(draw(height, width, 1), compression="lzw", predictor=True)
        (folder / f"{i}.TIF").write_bytes(tiff)
        (folder / f"{i}.tiff").write_bytes(write_tiff(draw(width, height, 3), order=">"))
        (folder / "deep" / f"{i}.Tif").write_bytes(write_tiff(draw(height, width, 3, np.uint8)))
        Image.fromarray(draw(width, height, 1)[:, :, 0]).save(folder / f"{i}.PNG", "PNG")
        picture = Image.fromarray(draw(height, width, 3, np.uint8))
        picture.save(folder / f"{i}.JpEg", "JPEG")
        picture.save(folder / "deep" / f"{i}.WEBP", "WEBP")
    (folder / "stack.tif").write_bytes(write_tiff(draw(40, 40, 1), pages=[[]]))

    source = open_source(folder)
    spec = derive_spec(source)
    assert spec.channels == 3
    assert spec.window == pytest.approx((4, 4091), abs=6)
    pack = pack_source(source, spec, tmp_path / "work", minimum=1)
    assert len(pack.images) == 24
    rejected = next((tmp_path / "work").rglob("rejected.csv")).read_text()
    assert "stack.tif,image_animated" in rejected
    for i, key in enumerate(source.keys):
        if (row := int(pack.row_of[i])) >= 0:
            expected = decode(as_sendable((folder / key).read_bytes()), spec)
            np.testing.assert_array_equal(pack.images[row], expected)
