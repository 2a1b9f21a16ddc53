"""Neighbours in pixel PCA: nearest first, and the image itself only where they are too far."""

import numpy as np
import pytest

from handful_training import neighbours
from handful_training.neighbours import pixel_neighbours


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images around five prototypes."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 5, count)
    prototypes = rng.integers(0, 256, (5, 12, 12, 1))
    noisy = prototypes[kind] + rng.normal(0, 8, (count, 12, 12, 1))
    return noisy.clip(0, 255).astype(np.uint8), kind


def test_they_equal_the_exact_ones() -> None:
    """With fewer images than components lose nothing, they are those of brute force."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
    flat = images.reshape(40, -1).astype(float)
    distance = ((flat[:, None] - flat[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    expected = distance.argsort(1)[:, :3]
    np.testing.assert_array_equal(pixel_neighbours(images, np.arange(40), 3), expected)


def test_rows_that_take_no_part_are_nobodys_neighbours() -> None:
    """Held-out images are neither asked nor answered with."""
    images, kind = clusters(300)
    rows = np.flatnonzero(np.arange(300) % 3 > 0)
    found = pixel_neighbours(images, rows, 5)
    assert found.shape == (len(rows), 5)
    assert set(found.ravel()) <= set(rows.tolist())
    assert (found != rows[:, None]).all()
    assert (kind[found] == kind[rows][:, None]).mean() > 0.95


def test_duplicates_do_not_become_their_own_neighbours() -> None:
    """Among equal images an image's neighbours are the others."""
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8), 20, 0)
    found = pixel_neighbours(images, np.arange(40), 4)
    assert (found != np.arange(40)[:, None]).all()
    assert (found // 20 == np.arange(40)[:, None] // 20).all()


def test_large_sets_ask_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit neighbours come from a random part, and still show the same thing."""
    monkeypatch.setattr(neighbours, "MAX_CANDIDATES", 100)
    images, kind = clusters(400)
    found = pixel_neighbours(images, np.arange(400), 5)
    assert len(np.unique(found)) <= 100
    assert (found != np.arange(400)[:, None]).all()
    assert (kind[found] == kind[:, None]).mean() > 0.95


def test_large_images_are_averaged_down() -> None:
    """Neighbours of 64 px images are those of their 32 px averages."""
    images = clusters(60)[0][:, :8, :8]
    large = images.repeat(8, 1).repeat(8, 2)
    small = images.repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(
        pixel_neighbours(large, np.arange(60), 1), pixel_neighbours(small, np.arange(60), 1)
    )


def test_far_neighbours_are_not_taken() -> None:
    """What lies beyond the reach, a share of the median distance to others, is replaced by the
    image itself, whatever the unit of the pixels; what lies within stays.
    """
    rng = np.random.default_rng(0)
    images, kind = clusters(300)
    images[:30] = rng.integers(0, 256, (30, 12, 12, 1))  # like nothing else
    everything = pixel_neighbours(images, np.arange(300), 5)
    near = pixel_neighbours(images, np.arange(300), 5, reach=0.5)
    alone = np.arange(300)[:, None] == near
    assert alone[:30].all()
    assert not alone[30:].any()
    np.testing.assert_array_equal(near[30:], everything[30:])
    assert (kind[near[30:]] == kind[30:, None]).all()
    paler = pixel_neighbours((images // 2).astype(np.uint8), np.arange(300), 5, reach=0.5)
    np.testing.assert_array_equal(paler == np.arange(300)[:, None], alone)
