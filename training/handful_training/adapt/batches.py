"""Which images a step of the adaptation sees: a function of seed, epoch and step alone."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNLABELLED, _LABELLED = 3, 4  # tell these uses of the seed from others


class Batch(NamedTuple):
    """Rows of one step."""

    unlabelled: NDArray[np.int64]  # places among the unlabelled images, ascending, [B]
    labelled: NDArray[np.int64]  # places among the labelled images, [L]


class Sampler:
    """Draws batches. Unlabelled images once an epoch; labelled ones far more often."""

    def __init__(
        self, unlabelled: int, labelled: int, batch_size: int, labelled_size: int, seed: int
    ) -> None:
        self._unlabelled, self._labelled, self._seed = unlabelled, labelled, seed
        self.size = min(batch_size, unlabelled)
        self._labelled_size = labelled_size
        self.per_epoch = unlabelled // self.size

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, from 0, but the first `skip` and a short last."""
        order = np.random.default_rng((self._seed, number, _UNLABELLED)).permutation(
            self._unlabelled
        )
        for batch in range(skip, self.per_epoch):
            part = np.sort(order[batch * self.size : (batch + 1) * self.size])
            yield Batch(part, self._oversampled(number * self.per_epoch + batch))

    def _oversampled(self, step: int) -> NDArray[np.int64]:
        """Return the step's labelled places: each as often as any other, give or take one."""
        first = step * self._labelled_size
        turn, start = divmod(first, self._labelled)
        turns = -(-(start + self._labelled_size) // self._labelled)
        drawn = [
            np.random.default_rng((self._seed, turn + i, _LABELLED)).permutation(self._labelled)
            for i in range(turns)
        ]
        return np.concatenate(drawn)[start : start + self._labelled_size]
