from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_training.errors import InputError
from handful_training.sources.image_spec import choose_spec, derive_spec
from handful_training.sources.source import Source, open_source

WriteIdx = Callable[[Path, NDArray[np.uint8]], Path]


def images(folder: Path, sizes: Sequence[tuple[int, int]], mode: str = "RGB") -> Source:
    """Return a source of PNGs of these (height, width)."""
    for i, (height, width) in enumerate(sizes):
        Image.new(mode, (width, height)).save(folder / f"{i:03d}.png")
    return open_source(folder)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)] * 9, (28, 28)),  # one size: that size
        ([(96, 64)] * 9, (96, 64)),
        ([(600, 600)] * 9, (64, 64)),  # too large to train on
        ([(8, 8)] * 9, (16, 16)),  # too small
        ([(30, 30), (34, 34), (50, 50)] * 3, (32, 32)),  # the median, to a multiple of 8
        ([(300, 600), (310, 620), (100, 200)] * 3, (32, 64)),  # one aspect is kept
        ([(100, 300), (300, 100), (200, 200)] * 3, (64, 64)),  # else a square
        ([(40, 20), (20, 40), (36, 36)] * 3, (40, 40)),
    ],
)
def test_the_size_follows_from_the_images(
    tmp_path: Path, sizes: list[tuple[int, int]], expected: tuple[int, int]
):
    """One common size is kept; else the median, a multiple of 8, no longer than 64."""
    spec = derive_spec(images(tmp_path, sizes))
    assert (spec.height, spec.width) == expected


def test_max_side_bounds_what_is_derived(tmp_path: Path):
    """On a machine with more power the longer side may be longer."""
    source = images(tmp_path, [(500, 500), (510, 510)])
    assert derive_spec(source, max_side=128).shape == (128, 128, 3)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_grey_only_if_all_are_grey(tmp_path: Path, mode: str, channels: int):
    """A single colour image makes all colour."""
    source = images(tmp_path, [(20, 20)] * 5, mode)
    assert derive_spec(source).channels == channels
    Image.new("RGB", (20, 20)).save(tmp_path / "zzz.png")
    assert derive_spec(open_source(tmp_path)).channels == 3


def test_an_idx_file_says_its_size(tmp_path: Path, write_idx: WriteIdx):
    """Pixels need no header: their shape is enough."""
    path = write_idx(tmp_path / "images.gz", np.zeros((500, 28, 20), np.uint8))
    assert derive_spec(open_source(path)).shape == (28, 20, 1)


def test_what_is_set_wins(tmp_path: Path):
    """Size and channels that are given are taken; one side alone brings the other by aspect."""
    source = images(tmp_path, [(40, 80)] * 5)
    assert derive_spec(source, height=32, width=48, channels=1).shape == (32, 48, 1)
    assert derive_spec(source, height=32).shape == (32, 64, 3)
    assert derive_spec(source, width=32).shape == (16, 32, 3)
    assert derive_spec(source, channels=1, resize="crop").resize == "crop"


def test_orientation_counts(tmp_path: Path):
    """A photo that is shown upright is measured upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert derive_spec(open_source(tmp_path)).shape == (80, 40, 3)


def test_the_reason_is_in_words(tmp_path: Path):
    """The user can read why this size."""
    source = images(tmp_path, [(100, 300), (300, 100)])
    _, reason = choose_spec(
        source, resize="fit", height=None, width=None, channels=None, max_side=64
    )
    assert "their aspect varies" in reason
    assert "at most 64" in reason
    assert "colour" in reason


def test_unreadable_images_are_passed_over(tmp_path: Path):
    """Some broken files decide nothing; if nothing else is there, the reasons are counted."""
    for i in range(9):
        (tmp_path / f"broken{i}.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 9 images looked at.*9 times image_unsupported"):
        derive_spec(open_source(tmp_path))
    assert derive_spec(images(tmp_path, [(20, 20)])).shape == (20, 20, 3)


@pytest.mark.parametrize("name", ["height", "width", "max_side"])
@pytest.mark.parametrize("side", [0, 15, 257])
def test_sizes_out_of_bounds_are_refused(tmp_path: Path, name: str, side: int):
    """The model takes 16 to 256 pixels a side."""
    source = images(tmp_path, [(20, 20)])
    with pytest.raises(InputError, match=f"{name} {side}: choose 16 to 256 pixels"):
        derive_spec(source, **{name: side})
