"""Closed pools are found closed, others are not, and what cannot be told is not assumed."""

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handful_training.symmetry import LIMIT, Symmetry, examine, pool_symmetry

COUNT = 1000
FONTS = [
    Path(mpl.get_data_path()) / "fonts/ttf" / f"{name}.ttf"
    for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")
]


def written(letters: str, count: int = COUNT) -> NDArray[np.uint8]:
    """Letters in five fonts, a little shifted and turned: [count, 24, 24, 1]."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 24, 24, 1), np.uint8)
    fonts = [[ImageFont.truetype(path, size) for size in range(15, 21)] for path in FONTS]
    for image in images:
        picture = Image.new("L", (24, 24))
        place = tuple(12 + rng.uniform(-1.5, 1.5, 2))
        font = fonts[rng.integers(len(FONTS))][rng.integers(6)]
        letter = letters[rng.integers(len(letters))]
        ImageDraw.Draw(picture).text(place, letter, fill=255, font=font, anchor="mm")
        image[..., 0] = np.asarray(picture.rotate(rng.uniform(-10, 10)))
    return images


def textures(*, lengthwise: bool, count: int = COUNT) -> NDArray[np.uint8]:
    """Filtered noise, of any direction or brushed along the rows: [count, 32, 32, 3]."""
    rng = np.random.default_rng(1)
    down, across = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")
    scale = rng.uniform(0.04, 0.16, (count, 1, 1))
    amount = np.exp(-(((np.hypot(down, across) - scale) / 0.04) ** 2))
    if lengthwise:
        amount = amount + 2 * np.exp(-((across / 0.03) ** 2) - (down / 0.3) ** 2)
    noise = np.fft.fft2(rng.standard_normal((count, 32, 32)))
    images = np.fft.ifft2(noise * amount).real
    images = 128 + 40 * images / images.std((1, 2), keepdims=True)
    return np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, 3)


def scenes(count: int = COUNT) -> NDArray[np.uint8]:
    """A bright half above a dark one, with discs anywhere: a photograph's symmetry, [.., 3]."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:32, :32]
    images = np.empty((count, 32, 32, 3), np.uint8)
    for image in images:
        light = np.where(rows < rng.uniform(10, 22), 180.0, 70.0) + rng.normal(0, 8, (32, 32))
        for _ in range(3):
            y, x = rng.uniform(0, 32, 2)
            light[np.hypot(rows - y, columns - x) < rng.uniform(2, 7)] = rng.uniform(0, 255)
        image[:] = light.clip(0, 255)[..., None]
    return images


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (written("0123456789"), Symmetry()),
        (written("bdpq"), Symmetry()),  # mirrored b is d, but serifs and slant give it away
        (written("abcdefghijklmnopqrstuvwxyz"), Symmetry()),
        (textures(lengthwise=False), Symmetry(True, True, True)),
        (textures(lengthwise=True), Symmetry(True, True, False)),
        (scenes(), Symmetry(True, False, False)),
    ],
    ids=["digits", "bdpq", "letters", "texture", "brushed", "scenes"],
)
def test_pools_are_judged_by_their_symmetry(images: NDArray[np.uint8], expected: Symmetry) -> None:
    """Writing has none, textures have all, brushed metal no quarter turn, scenes left and right."""
    assert pool_symmetry(images) == expected


def test_a_pool_closed_by_construction_gives_nothing_away() -> None:
    """Letters of which half are mirrored at random are told apart by chance alone."""
    images = written("FGJLR")
    mirrored = np.random.default_rng(3).random(len(images)) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    found = examine(images)
    assert abs(found["left_right"].told_apart - 0.5) < 3 * 0.5 / len(images) ** 0.5
    assert found["left_right"].closed
    assert found["upside_down"].told_apart > LIMIT


def test_few_images_are_not_taken_for_closed(caplog: pytest.LogCaptureFixture) -> None:
    """The limit falls with the number of images, and below 50 nobody looks."""
    images = textures(lengthwise=False)
    limits = [examine(images[:count])["left_right"].limit for count in (60, 200, 1000)]
    assert limits == sorted(limits)
    assert limits[0] < 0.5
    with caplog.at_level(logging.INFO):
        assert pool_symmetry(images[:49]) == Symmetry()
    assert "too few" in caplog.text


def test_the_same_pool_gives_the_same_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """The test is deterministic, also where it draws a sample, and its numbers are logged."""
    images = np.concatenate([scenes()] * 3)
    assert examine(images) == examine(images)
    with caplog.at_level(logging.INFO):
        pool_symmetry(images)
    assert "no upside down" in caplog.text
    assert "limit" in caplog.text


def test_oblong_images_are_not_asked_for_quarter_turns() -> None:
    """A quarter turn would change the shape: it stays off."""
    images = textures(lengthwise=False)[:, :24]
    assert "quarter_turn" not in examine(images)
    assert not pool_symmetry(images).quarter_turn


def test_images_without_structure_are_ties() -> None:
    """Constant images look the same however they are turned: half of them are told apart."""
    images = np.full((60, 16, 16, 1), 77, np.uint8)
    assert all(finding.told_apart == 0.5 for finding in examine(images).values())
