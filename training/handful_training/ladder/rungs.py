"""The ways to classify: what is near in pixels, a linear classifier, a graph of all images.

Each predicts rows from labelled rows of the same arrays, in two forms. `predict` takes all labels
and answers for other rows. `out_of_fold` answers for the labelled rows themselves, each without
the labels of its own fold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_training.baseline import C as PIXEL_C
from handful_training.baseline import shrink
from handful_training.config import HeadConfig
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import spread, spread_out_of_fold
from handful_training.head.linear import Logistic, Standardised
from handful_training.head.selection import select
from handful_training.ladder.known import Known

NEIGHBOURS = 5  # that vote, where pixels are compared
CHUNK_BYTES = 32 * 2**20  # of float32 pixels at a time
TINY = 1e-7  # of a squared distance; keeps an image found again from an infinite weight

Rows = NDArray[np.int64]
Probabilities = NDArray[np.float32]


class Rung(Protocol):
    """A way to classify."""

    def predict(self, known: Known, rows: Rows) -> Probabilities:
        """Return p(class) of `rows` [m], by all that is known: [m, K]."""
        ...

    def out_of_fold(self, known: Known, fold: NDArray[np.int64]) -> Probabilities:
        """Return p(class) [n, K] of the labelled rows, without their folds; mean over repeats.

        Args:
            known: labels.
            fold: of each label in each repeat, [R, n].
        """
        ...


def each_fold(
    known: Known, fold: NDArray[np.int64], predict: Callable[[Known, Rows], NDArray[np.floating]]
) -> Probabilities:
    """Fit once per fold and repeat; return the mean over repeats, [n, K]."""
    total = np.zeros((len(known), known.classes))
    for repeat in fold:
        for held_out in (repeat == f for f in np.unique(repeat)):
            total[held_out] += predict(known.take(~held_out), known.rows[held_out])
    return (total / len(fold)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The five nearest labelled images in pixels vote, each by the inverse of its distance.

    One vote more, spread over all classes, keeps a lone neighbour from being certain. Pixels are
    averaged down to a side of 32, as for the other controls.

    Attributes:
        images: uint8 [N, H, W, C]; a memory map will do.
        place: which of them row i of the other rungs' arrays is, [M]; None: image i.
    """

    images: NDArray[np.uint8]
    place: Rows | None = None

    def predict(self, known: Known, rows: Rows) -> Probabilities:
        """Return p(class) of `rows`, [m, K]."""
        reference = self._pixels(known.rows)
        found = np.empty((len(rows), known.classes), np.float32)
        step = max(1, CHUNK_BYTES // (4 * max(reference.shape[1], len(known))))
        for start in range(0, len(rows), step):
            part = self._pixels(rows[start : start + step])
            found[start : start + len(part)] = _vote(_squares(part, reference), known)
        return found

    def out_of_fold(self, known: Known, fold: NDArray[np.int64]) -> Probabilities:
        """Return p(class) of the labelled rows, [n, K]."""
        pixels = self._pixels(known.rows)
        squares = _squares(pixels, pixels)
        place = {row: i for i, row in enumerate(known.rows.tolist())}

        def predict(part: Known, rows: Rows) -> Probabilities:
            at = [np.array([place[row] for row in some.tolist()]) for some in (rows, part.rows)]
            return _vote(squares[np.ix_(*at)], part)

        return each_fold(known, fold, predict)

    def _pixels(self, rows: Rows) -> NDArray[np.float32]:
        at = rows if self.place is None else self.place[rows]
        step = max(1, CHUNK_BYTES // (4 * self.images[:1].size))
        parts = [shrink(self.images[at[start : start + step]]) for start in range(0, len(at), step)]
        return np.concatenate(parts).reshape(len(rows), -1)


def _squares(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances [m, n] of the rows of `a` and `b`."""
    squares = np.square(a).sum(1)[:, None] - 2 * (a @ b.T) + np.square(b).sum(1)
    found: NDArray[np.float32] = np.maximum(squares, 0).astype(np.float32)
    return found


def _vote(squares: NDArray[np.float32], known: Known) -> Probabilities:
    """Return p(class) [m, K] by the nearest of `known`, at squared distances [m, n]."""
    count = min(NEIGHBOURS, len(known))
    near = np.argpartition(squares, count - 1, axis=1)[:, :count]
    weight = 1 / np.sqrt(np.take_along_axis(squares, near, 1).astype(np.float64) + TINY)
    weight *= count / weight.sum(axis=1, keepdims=True)
    votes = np.full((len(squares), known.classes), 1 / known.classes)
    np.add.at(votes, (np.arange(len(squares))[:, None], known.target[near]), weight)
    return (votes / (count + 1)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Linear:
    """Multinomial logistic regression with L2.

    Attributes:
        features: [N, d], of which only the rows asked for are read.
        C: inverse regularisation strength; None: chosen by cross-validation among the labels
            given, on features centred and scaled by their RMS deviation, as the head does it.
    """

    features: NDArray[np.floating]
    C: float | None = PIXEL_C

    def predict(self, known: Known, rows: Rows) -> Probabilities:
        """Return p(class) of `rows`, [m, K]."""
        inside = self.features[known.rows].astype(np.float64)
        outside = self.features[rows].astype(np.float64)
        prior: Literal["estimated", "uniform"] = known.prior or "estimated"
        if self.C is not None:
            fitted = Logistic(self.C, tol=1e-4)(inside, known.target, known.classes, prior)
        else:
            centred = Standardised.of(inside)
            config = HeadConfig(repeats=1, class_prior=prior)
            C = select(centred.rows, known.target, config, seed=0).C
            family = Logistic(C, tol=1e-4)
            fitted = centred.unfold(family(centred.rows, known.target, known.classes, prior))
        found: NDArray[np.float64] = softmax(fitted.logits(outside), axis=1)
        return found.astype(np.float32)

    def out_of_fold(self, known: Known, fold: NDArray[np.int64]) -> Probabilities:
        """Return p(class) of the labelled rows, [n, K]; C too is chosen without the fold."""
        return each_fold(known, fold, self.predict)


@dataclass(frozen=True, eq=False)
class Graph:
    """Labels spread over the graph of all images. Transductive: the graph has the rows asked for.

    Attributes:
        graph: whose node i is row i.
    """

    graph: PoolGraph

    def predict(self, known: Known, rows: Rows) -> Probabilities:
        """Return p(class) of `rows`, [m, K]."""
        every = spread(self.graph, known.rows, known.target, known.classes, prior=known.prior)
        found: Probabilities = every[rows]
        return found

    def out_of_fold(self, known: Known, fold: NDArray[np.int64]) -> Probabilities:
        """Return p(class) of the labelled rows, [n, K]."""
        repeats = spread_out_of_fold(
            self.graph, known.rows, known.target, known.classes, fold, prior=known.prior
        )
        mean: Probabilities = repeats.mean(axis=0).astype(np.float32)
        return mean
