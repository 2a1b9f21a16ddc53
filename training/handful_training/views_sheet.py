"""A sheet of augmented views, for the eyes of somebody who knows the images.

The invariance term teaches that all pictures of a row show the same thing. Whoever disagrees with
a row should change the augmentation, best before the training has gone on for hours.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handful_training.augment import Augment
from handful_training.config import AugmentConfig
from handful_training.plots import strips

ROWS = 8
VIEWS = 6
NEIGHBOURS = 3


def draw_views(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    config: AugmentConfig,
    path: Path,
    *,
    neighbours: NDArray[np.int32] | None = None,
    seed: int = 0,
) -> None:
    """Draw a row for each of some images: itself, views, and neighbours where they are positives.

    Args:
        images: [N, H, W, C]; may be a memory map.
        rows: which of them are trained on, [R], R >= 1.
        config: of the views.
        path: where the PNG goes.
        neighbours: of each of `rows`, rows of `images`, [R, count]; None: they are not used.
        seed: of the views.
    """
    places = np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(np.int64)
    pictures = views(images[rows[places]], config, VIEWS, seed=seed)
    columns = ["image", *(f"view {i + 1}" for i in range(VIEWS))]
    subtitle = f"preset {config.preset}: the training takes each row for pictures of one thing"
    if neighbours is not None:
        shown = neighbours[places, :NEIGHBOURS]
        beside = images[shown.reshape(-1)].reshape(*shown.shape, *images.shape[1:])
        pictures = np.concatenate([pictures, beside], 1)
        subtitle += "; near: neighbours as second views"
        columns += [f"near {i + 1}" for i in range(shown.shape[1])]
    strips(
        pictures,
        path,
        title="Augmented views",
        subtitle=subtitle,
        names=[""] * len(pictures),
        columns=columns,
    )


def views(
    images: NDArray[np.uint8], config: AugmentConfig, count: int, *, seed: int = 0
) -> NDArray[np.uint8]:
    """Return images [n, H, W, C], each beside `count` of its views: uint8 [n, 1 + count, H, W, C].

    The first of each row is the image itself, unchanged.
    """
    augment, generator = Augment(config), torch.Generator().manual_seed(seed)
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    drawn = torch.stack([augment(unit, generator) for _ in range(count)], 1)
    pixels = drawn.mul(255).round_().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
    return np.concatenate([images[:, None], pixels], 1)
