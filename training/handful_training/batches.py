"""Shuffled batches of pixels, each with the pixels that its second view is drawn from."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handful_training.config import Config
from handful_training.neighbours import pixel_neighbours


class Batches:
    """Draws batches from rows of an array on disk. The same seed gives the same batches."""

    def __init__(
        self, images: NDArray[np.uint8], rows: NDArray[np.int64], config: Config, seed: int
    ) -> None:
        """Search the neighbours, where the configuration asks for them.

        Args:
            images: [N, H, W, C]; may be a memory map.
            rows: which of them to draw.
            config: batch size and what second views are drawn from.
            seed: of the order and of the second views.
        """
        self._images = images
        self._rows = rows
        self._size = min(config.optimiser.batch_size, len(rows))
        self._seed = seed
        self._probability = config.objective.neighbour_probability
        self._neighbours: NDArray[np.int32] | None = None
        self.per_epoch = len(rows) // self._size
        count = min(config.objective.neighbours, len(rows) - 1)
        if config.objective.invariance_weight > 0 and count > 0 and self._probability > 0:
            self._neighbours = pixel_neighbours(images, rows, count, seed=seed)

    def epoch(self, number: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield the batches of one epoch, [B, H, W, C] each; a short last batch is left out.

        Row by row, the second array shows the same image as the first or one of its neighbours.
        """
        rng = np.random.default_rng((self._seed, number))
        order = rng.permutation(len(self._rows))
        for start in range(0, self.per_epoch * self._size, self._size):
            places = np.sort(
                order[start : start + self._size]
            )  # in file order: the pack is on disk
            first = self._images[self._rows[places]]
            if self._neighbours is None:
                yield first, first
                continue
            choice = rng.integers(self._neighbours.shape[1], size=len(places))
            swap = rng.random(len(places)) < self._probability
            partner = np.where(swap, self._neighbours[places, choice], self._rows[places])
            yield first, self._images[partner]
