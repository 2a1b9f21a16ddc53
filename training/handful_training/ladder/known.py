"""What is known when a rung is tried: which rows are labelled, and with what."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from handful_training.head.logistic import stratified_folds

Prior = Literal["uniform"] | None

FOLDS = 5
ENOUGH_ROWS = 500  # repeats average out how the folds fell, which only few labels suffer from
MAX_REPEATS = 3


@dataclass(frozen=True, eq=False)
class Known:
    """Labelled rows.

    Attributes:
        rows: which rows of a rung's arrays are labelled, int64 [n].
        target: their classes, int64 [n]; each of 0 ... classes - 1 occurs.
        classes: K.
        prior: "uniform" where all classes are known to be equally frequent; None where that is not
            known, and how frequent they are is estimated.
    """

    rows: NDArray[np.int64]
    target: NDArray[np.int64]
    classes: int
    prior: Prior = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the labels where `chosen` [n] is true."""
        return replace(self, rows=self.rows[chosen], target=self.target[chosen])

    def can_be_held_out(self) -> bool:
        """Return whether each class has two labels, so that one can be missed."""
        return int(np.bincount(self.target, minlength=self.classes).min()) >= 2

    def folds(self, seed: int) -> NDArray[np.int64]:
        """Return the fold of each label in each repeat, [R, n]; the same for all rungs.

        Every class is in every fold: at most as many folds as the smallest class has labels.

        Raises:
            ValueError: a class has a single label, which cannot be held out.
        """
        smallest = int(np.bincount(self.target, minlength=self.classes).min())
        if smallest < 2:
            raise ValueError(f"a class has {smallest} labels; two are needed to hold one out")
        rng = np.random.default_rng(seed)
        repeats = min(MAX_REPEATS, math.ceil(ENOUGH_ROWS / len(self)))
        count = min(FOLDS, smallest)
        return np.stack([stratified_folds(self.target, count, rng) for _ in range(repeats)])
