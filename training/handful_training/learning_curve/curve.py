"""Accuracy at each number of labels, with intervals, from which predictions were right.

An interval is 95 %, and the wider of two. One is Wilson's, of as many images as were asked about:
it stands when all were right. The other resamples images and repeats, both ("The pigeonhole
bootstrap", Owen 2007, Annals of Applied Statistics 1(2)), so it knows as well how the draw of
labels matters. What neither knows: all subsets come from the same labels, and near all of them they
are nearly the same subset, so on the right-hand side of a curve the luck of having just these
labels does not show.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.metrics import wilson_interval

DRAWS = 400  # of the bootstrap
TAILS = (0.025, 0.975)


class Point(NamedTuple):
    """One point of a curve."""

    labels: int
    accuracy: float  # mean over repeats, each image asked about counting once in each
    low: float
    high: float
    spread: float  # standard deviation between repeats


@dataclass(frozen=True, eq=False)
class Curve:
    """How one method fares by the number of labels.

    Attributes:
        key: short name, as in JSON.
        title: for people.
        sizes: labels in a subset, ascending, [S].
        right: which images it was right on, bool [R, S, q].
        asked: which it was asked about, bool [R, S, q]; each size has at least one.
    """

    key: str
    title: str
    sizes: tuple[int, ...]
    right: NDArray[np.bool_]
    asked: NDArray[np.bool_]

    @property
    def images(self) -> int:
        """How many different images were asked about at the largest size."""
        return int(self.asked[:, -1].any(axis=0).sum())

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy at each size, [S]."""
        accuracy: NDArray[np.float64] = self.right.sum((0, 2)) / self.asked.sum((0, 2))
        return accuracy

    @cached_property
    def resampled(self) -> NDArray[np.float64]:
        """Accuracy at each size with images and repeats drawn anew, [DRAWS, S]; always the same."""
        repeats, sizes, count = self.right.shape
        rng = np.random.default_rng(0)
        images = rng.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float32)
        times = rng.multinomial(repeats, np.full(repeats, 1 / repeats), DRAWS).astype(np.float32)
        hits, asked = (
            np.einsum(
                "br,brs->bs",
                times,
                (images @ each.reshape(-1, count).T.astype(np.float32)).reshape(-1, repeats, sizes),
            ).astype(np.float64)
            for each in (self.right, self.asked)
        )
        # A draw that missed every image of a size says nothing of it.
        return np.where(asked > 0, hits / np.maximum(asked, 1), self.accuracy)

    def points(self) -> list[Point]:
        """Return the curve."""
        low, high = np.quantile(self.resampled, TAILS, axis=0)
        hits, asked = self.right.sum(2), self.asked.sum(2)
        spread = (hits / np.maximum(asked, 1)).std(axis=0, ddof=1)
        found = []
        for s, size in enumerate(self.sizes):
            accuracy = float(self.accuracy[s])
            distinct = int(self.asked[:, s].any(axis=0).sum())
            wilson = wilson_interval(round(accuracy * distinct), distinct)
            found.append(
                Point(
                    size,
                    accuracy,
                    min(accuracy, float(low[s]), wilson[0]),
                    max(accuracy, float(high[s]), wilson[1]),
                    float(spread[s]),
                )
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain values."""
        points = [
            {
                "labels": point.labels,
                "accuracy": point.accuracy,
                "accuracy_ci": [point.low, point.high],
                "spread": point.spread,
            }
            for point in self.points()
        ]
        return {"key": self.key, "title": self.title, "points": points}
