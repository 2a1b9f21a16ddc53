"""Images that a small network can learn something from, in seconds."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.config import Config, load_config


def draw_shapes(count: int, size: int = 16, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray]:
    """Return grey images [count, size, size, 1] of bars and discs, and which of the two it is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    kind = rng.integers(0, 2, count)
    images = np.zeros((count, size, size, 1), np.uint8)
    for i in range(count):
        y, x = rng.uniform(0.35 * size, 0.65 * size, 2)
        disc = np.hypot(rows - y, columns - x) < 0.25 * size
        bar = np.abs(rows - y) < 0.12 * size
        images[i, ..., 0] = np.where(disc if kind[i] else bar, rng.integers(150, 255), 10)
    return images, kind


@pytest.fixture(scope="session")
def shapes() -> tuple[NDArray[np.uint8], NDArray]:
    return draw_shapes(400)


@pytest.fixture(scope="session")
def grey() -> ImageSpec:
    return ImageSpec(height=16, width=16, channels=1)


@pytest.fixture(scope="session")
def small() -> Config:
    """A network and batches small enough for tests."""
    return load_config(
        None,
        [
            "model.width=8",
            "model.embedding_dim=32",
            "model.latent_dim=6",
            "objective.projection_dim=16",
            "optimiser.batch_size=64",
            "optimiser.held_out=20",
        ],
    )


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Train with one thread: another number rounds otherwise, and waits where cores are busy."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
    yield
    os.sched_setaffinity(0, before)
