"""Shuffled batches of pixels, each with the pixels that its second view is drawn from."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handful_training.config import Config
from handful_training.draws import Part
from handful_training.neighbours import pixel_neighbours
from handful_training.sizing import default_batch_size


def find_neighbours(
    images: NDArray[np.uint8], rows: NDArray[np.int64], config: Config, seed: int
) -> NDArray[np.int32] | None:
    """Return what second views may be drawn from, [R, count], where the configuration asks for it.

    Args:
        images: [N, H, W, C]; may be a memory map.
        rows: which of them are drawn, [R].
        config: how many neighbours.
        seed: of the search.
    """
    count = min(config.objective.neighbours, len(rows) - 1)
    wanted = config.objective.invariance_weight > 0 and config.objective.neighbour_probability > 0
    if not wanted or count < 1:
        return None
    reach = config.objective.neighbour_reach
    return pixel_neighbours(images, rows, count, reach=reach, seed=seed)


class Batches:
    """Draws batches from rows of an array on disk. The same seed gives the same batches."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.int64],
        config: Config,
        seed: int,
        neighbours: NDArray[np.int32] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            images: [N, H, W, C]; may be a memory map.
            rows: which of them to draw, [R].
            config: batch size, and how often second views show a neighbour.
            seed: of the order and of the second views.
            neighbours: of each row, rows of `images`, [R, count]; None: second views of itself.
        """
        self._images = images
        self._rows = rows
        self._seed = seed
        self._probability = config.objective.neighbour_probability
        self._neighbours = neighbours
        self.size = min(config.optimiser.batch_size or default_batch_size(len(rows)), len(rows))
        self.per_epoch = len(rows) // self.size

    def epoch(
        self, number: int, *, skip: int = 0, part: Part | None = None
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield the batches of one epoch, [B, H, W, C] each; a short last batch is left out.

        Row by row, the second array shows the same image as the first or one of its neighbours.

        Args:
            number: of the epoch, from 0.
            skip: batches that were drawn already; they are not read again.
            part: which rows of each batch to read, all unless given.
        """
        rows = slice(None) if part is None else part.rows
        rng = np.random.default_rng((self._seed, number))
        order = rng.permutation(len(self._rows))
        for batch in range(self.per_epoch):
            start = batch * self.size
            # In file order: the pack is on disk.
            places = np.sort(order[start : start + self.size])
            first = second = self._rows[places]
            if self._neighbours is not None:
                choice = rng.integers(self._neighbours.shape[1], size=len(places))
                swap = rng.random(len(places)) < self._probability
                second = np.where(swap, self._neighbours[places, choice], first)
            if batch < skip:
                continue
            pixels = self._images[first[rows]]
            yield pixels, pixels if self._neighbours is None else self._images[second[rows]]
