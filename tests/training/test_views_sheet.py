"""The sheet shows the images, their views and the neighbours that the training uses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.manifest import ImageSpec
from handful_training.config import AugmentConfig, Config
from handful_training.pretrain import Budget, Watcher, held_out_rows, pretrain
from handful_training.views_sheet import draw_views, views


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_column_is_the_images(channels: int) -> None:
    """Bit for bit; the views beside it have their shape, differ, and are drawn by the seed."""
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 20, channels), np.uint8)
    found = views(images, AugmentConfig(), 4)
    assert found.shape == (5, 5, 16, 20, channels)
    assert found.dtype == np.uint8
    assert np.array_equal(found[:, 0], images)
    assert all((found[:, i] != images).any() for i in range(1, 5))
    assert np.array_equal(found, views(images, AugmentConfig(), 4))
    assert not np.array_equal(found, views(images, AugmentConfig(), 4, seed=1))


def test_without_augmentation_all_columns_are_the_images() -> None:
    """The preset `none` teaches nothing, and the sheet shows that."""
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    found = views(images, AugmentConfig(preset="none"), 2)
    assert np.array_equal(found, np.repeat(images[:, None], 3, 1))


def test_neighbours_stand_beside_the_views(tmp_path: Path) -> None:
    """With neighbours the sheet is wider, and they are pictures of it: white ones brighten it."""
    images = np.zeros((40, 16, 16, 1), np.uint8)
    images[20:] = 255
    rows, config = np.arange(20), AugmentConfig(preset="none")
    draw_views(images, rows, config, tmp_path / "alone.png")
    white = np.full((20, 5), 30, np.int32)
    draw_views(images, rows, config, tmp_path / "white.png", neighbours=white)
    draw_views(images, rows, config, tmp_path / "black.png", neighbours=white - 30)
    alone, bright, dark = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        for name in ("alone", "white", "black")
    )
    assert bright.shape == dark.shape
    assert bright.mean() > dark.mean() + 10
    assert bright.shape != alone.shape


def test_few_rows_are_all_shown(tmp_path: Path) -> None:
    """One training image makes a sheet of one row."""
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    draw_views(images, np.array([2]), AugmentConfig(), tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.format == "PNG"


def test_a_watcher_is_told_before_the_first_step(
    shapes: tuple[NDArray[np.uint8], Any], grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """It hears which rows are trained on and the very neighbours, once, before any epoch."""

    class Notes(Watcher):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def begun(self, rows: NDArray[np.int64], neighbours: NDArray[np.int32] | None) -> None:
            self.heard.append("begun")
            assert neighbours is not None
            assert len(neighbours) == len(rows)
            assert not np.isin(held_out_rows(400, 20), rows).any()
            assert np.isin(neighbours, rows).all()

        def epoch(self, row: Any) -> None:
            self.heard.append(f"epoch {row.epoch}")

        def pace(self, epochs: float) -> None:
            self.heard.append("pace")
            assert epochs == pytest.approx(4)

    notes = Notes()
    pretrain(shapes[0], grey, small, Budget(4, 3600.0), tmp_path, device="cpu", watcher=notes)
    assert [word for word in notes.heard if word != "pace"] == [
        "begun", "epoch 1", "epoch 2", "epoch 3", "epoch 4"
    ]  # fmt: skip
    assert notes.heard.count("pace") == 1
