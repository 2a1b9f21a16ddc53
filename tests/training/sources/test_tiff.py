"""TIFF files as a source of images: read exactly, or refused with a remedy."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.errors import ImageError
from handful_bundle.pixels import wide_samples
from handful_training.sources.png_file import write_png
from handful_training.sources.sendable import as_sendable
from handful_training.sources.source import open_source
from handful_training.sources.tiff import TiffRefused, read_tiff

WriteTiff = Callable[..., bytes]


def noise(channels: int, dtype: type = np.uint16, height: int = 37, width: int = 53) -> NDArray:
    """Return samples of which every byte matters."""
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(TiffRefused) as caught:
        read_tiff(data)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"rows": 5}, {"tile": (16, 32)}])
def test_every_kind_comes_back_exactly(
    order: str, compression: str, layout: dict[str, object], write_tiff: WriteTiff
):
    """8 and 16 bits, grey and RGB, with and without alpha, in either order of bytes."""
    for channels in (1, 2, 3, 4):
        for dtype in (np.uint8, np.uint16):
            if (channels, dtype) == (2, np.uint16):
                continue  # refused: see below
            samples = noise(channels, dtype)
            found = read_tiff(write_tiff(samples, order=order, compression=compression, **layout))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_differences_are_summed(compression: str, write_tiff: WriteTiff):
    """The horizontal predictor, with which most tools write 16 bits, is undone."""
    for channels in (1, 3):
        for dtype in (np.uint8, np.uint16):
            samples = noise(channels, dtype)
            data = write_tiff(samples, compression=compression, predictor=True, rows=8)
            np.testing.assert_array_equal(read_tiff(data), samples)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int, write_tiff: WriteTiff):
    """The picture is read as Pillow shows it."""
    samples = noise(3, np.uint8)
    data = write_tiff(samples, tags=[(274, 3, [orientation])])
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        np.testing.assert_array_equal(read_tiff(data), np.asarray(image))
    wide = noise(3)
    turned = read_tiff(write_tiff(wide, tags=[(274, 3, [orientation])]))
    high = read_tiff(write_tiff((wide >> 8).astype(np.uint8), tags=[(274, 3, [orientation])]))
    np.testing.assert_array_equal(turned >> 8, high)


def test_overviews_and_masks_are_passed_over(write_tiff: WriteTiff):
    """A smaller version of the picture, or its mask, behind it changes nothing."""
    samples = noise(1)
    data = write_tiff(samples, pages=[[(254, 4, [1])], [(254, 4, [4])], [(254, 4, [5])]])
    np.testing.assert_array_equal(read_tiff(data), samples)


REFUSED = {
    "two pages": ({"pages": [[]]}, "image_animated", "save each as a file of its own"),
    "ImageJ stack": (
        {"tags": [(270, 2, b"ImageJ=1.54f\nimages=12\nframes=12\n\0")]},
        "image_animated",
        "save each as a file of its own",
    ),
    "signed": ({"tags": [(339, 3, [2])]}, "image_unsupported", "unsigned 16 bits"),
    "float": ({"tags": [(339, 3, [3])]}, "image_unsupported", "unsigned 16 bits"),
    "32 bits": ({"tags": [(258, 3, [32])]}, "image_unsupported", "of 32 bits per sample"),
    "1 bit": ({"tags": [(258, 3, [1])]}, "image_unsupported", "to 8 or 16 bits"),
    "white is zero": ({"tags": [(262, 3, [0])]}, "image_unsupported", "to grey or RGB"),
    "palette": ({"tags": [(262, 3, [3])]}, "image_unsupported", "to grey or RGB"),
    "CMYK": ({"tags": [(262, 3, [5])]}, "image_unsupported", "to grey or RGB"),
    "JPEG within": ({"tags": [(259, 3, [7])]}, "image_unsupported", "use LZW"),
    "predictor 3": ({"tags": [(317, 3, [3])]}, "image_unsupported", "use LZW"),
    "no pixels": ({"tags": [(256, 3, [0])]}, "image_unreadable", "0 x 37 pixels"),
    "long": ({"tags": [(256, 4, [40_000])]}, "image_unreadable", "1 to 32,768 a side"),
    "bomb": ({"tags": [(256, 3, [9_000]), (257, 3, [9_000])]}, "image_too_large", "shrink it"),
    "missing strips": ({"tags": [(278, 3, [5])]}, "image_unreadable", "send the whole file"),
    "huge tiles": (
        {"tile": (64, 64), "tags": [(322, 4, [2**31]), (323, 4, [2**31])]},
        "image_unreadable",
        "export it again",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_agreed_way_to_pixels_is_refused(name: str, write_tiff: WriteTiff):
    """Each such file has a code, and a message that names the remedy."""
    options, code, remedy = REFUSED[name]
    found = refusal(write_tiff(noise(1), **options))
    assert found[0] == code
    assert remedy in found[1]


def test_colour_that_cannot_be_had_exactly_is_refused(write_tiff: WriteTiff):
    """Premultiplied or unspecified fourth channels, planes, and 16-bit grey with alpha."""
    for extra in (0, 1):
        data = write_tiff(noise(4), tags=[(338, 3, [extra])])
        assert "straight alpha" in refusal(data)[1]
    assert "in planes" in refusal(write_tiff(noise(3), tags=[(284, 3, [2])]))[1]
    assert "grey with alpha" in refusal(write_tiff(noise(2)))[1]
    big = b"II+\0" + write_tiff(noise(1))[4:]
    assert "save it as a classic TIFF" in refusal(big)[1]


def test_pages_in_a_ring_end(write_tiff: WriteTiff):
    """A directory that names itself as the next is refused, not followed for ever."""
    data = bytearray(write_tiff(noise(1), tags=[(254, 4, [1])]))
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    data[first + 2 + 12 * entries : first + 6 + 12 * entries] = data[4:8]
    assert refusal(bytes(data))[0] == "image_animated"


def test_foreign_entries_never_reach_the_decoder(write_tiff: WriteTiff):
    """A profile, a text and a private tag that point nowhere change nothing and warn of nothing."""
    samples = noise(3)
    data = write_tiff(
        samples, tags=[(34675, 4, [2**31] * 9), (700, 1, range(200)), (65000, 4, [7])]
    )
    np.testing.assert_array_equal(read_tiff(data), samples)


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "packbits"])
def test_truncated_files_give_no_other_picture(compression: str, write_tiff: WriteTiff):
    """Every beginning of a file is refused, or is the whole picture."""
    samples = noise(3, height=9, width=11)
    data = write_tiff(samples, compression=compression, rows=4)
    for size in range(4, len(data)):
        try:
            found = read_tiff(data[:size])
        except TiffRefused:
            continue
        np.testing.assert_array_equal(found, samples)


def test_damaged_files_raise_nothing_else(write_tiff: WriteTiff):
    """Whatever byte is changed, the outcome is a picture or a refusal."""
    rng = np.random.default_rng(0)
    files = [
        write_tiff(noise(channels, height=9, width=11), compression=compression)
        for channels in (1, 3)
        for compression in ("none", "lzw", "deflate", "packbits")
    ]
    refused = 0
    for _ in range(1500):
        data = bytearray(files[rng.integers(len(files))])
        for place in rng.integers(4, len(data), 3):
            data[place] = rng.integers(256)
        try:
            assert read_tiff(bytes(data)).dtype.kind == "u"
        except TiffRefused:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("level", [0, 1])
def test_a_png_of_samples_is_exact(level: int):
    """Grey and RGB, with and without alpha, of 8 and 16 bits: Pillow and the bundle read them."""
    for channels in (1, 2, 3, 4):
        samples = noise(channels, np.uint8)
        with Image.open(io.BytesIO(write_png(samples, level))) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)
        wide = noise(channels)
        colours = wide[:, :, : 1 if channels < 3 else 3]
        np.testing.assert_array_equal(wide_samples(write_png(wide, level)), colours)


def test_a_folder_holds_tiff_files_as_any_others(tmp_path: Path, write_tiff: WriteTiff):
    """.tif and .tiff in any case are images; they are read as PNG files of the same samples."""
    for name in ("a.tif", "b.TIFF", "c/d.Tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(write_tiff(noise(3)))
    (tmp_path / "e.tif").write_bytes(write_tiff(noise(1), pages=[[]]))
    source = open_source(tmp_path)
    assert list(source.keys) == ["a.tif", "b.TIFF", "c/d.Tif", "e.tif"]
    for i in range(3):
        np.testing.assert_array_equal(wide_samples(source.read(i)), noise(3))
    with pytest.raises(ImageError, match="several pictures") as caught:
        source.read(3)
    assert caught.value.code == "image_animated"


def test_other_files_are_sendable_as_they_are():
    """What is no TIFF is returned untouched, whatever it is."""
    for data in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II"):
        assert as_sendable(data) is data
