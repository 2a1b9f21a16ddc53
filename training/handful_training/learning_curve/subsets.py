"""Nested subsets of labels: each holds the smaller ones, and every class.

Classes are as frequent in each subset as among all labels, as far as one of each allows.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.head.logistic import stratified_folds

FOLDS = 5  # one of which a repeat leaves out: more than that would cut the curve short
POINTS = 6  # numbers of labels on a curve, at most
MOST = 2000  # labels in a subset: beyond, a curve says little of ten more


class Subsets(NamedTuple):
    """Which labels are in each subset, and which may be asked about.

    Attributes:
        sizes: labels in a subset, ascending, [S].
        inside: bool [R, S, n], R repeats.
        asked: labels whose class is to be predicted from the subset, bool [R, S, n]: those that
            are not in it.
    """

    sizes: tuple[int, ...]
    inside: NDArray[np.bool_]
    asked: NDArray[np.bool_]


def draw_subsets(
    target: NDArray[np.integer],
    *,
    repeats: int,
    hold_out: bool,
    seed: int,
    points: int = POINTS,
) -> Subsets:
    """Draw nested subsets of n labels of K classes.

    Args:
        target: index of each label's class, [n]; each of 0 ... K - 1 occurs.
        repeats: R, >= 2.
        hold_out: no subset holds all labels: each repeat leaves out one of five folds, so that
            over five repeats every label, except a class's only one, is asked about at every size.
        seed: decides which.
        points: sizes, at most.
    """
    classes, n = int(target.max()) + 1, len(target)
    rng = np.random.default_rng(seed)
    fold = np.full(n, -1)
    if hold_out:
        fold = stratified_folds(target.astype(np.int64), FOLDS, rng)
    left_out = [fold == r % FOLDS for r in range(repeats)]
    most = min(int((~out).sum()) for out in left_out)
    sizes = curve_sizes(classes, min(most, MOST), points)
    inside = np.zeros((repeats, len(sizes), n), np.bool_)
    for r in range(repeats):
        order = nested_order(target, np.flatnonzero(~left_out[r]), rng)
        for s, size in enumerate(sizes):
            inside[r, s, order[:size]] = True
    return Subsets(sizes, inside, ~inside)


def curve_sizes(classes: int, most: int, points: int = POINTS) -> tuple[int, ...]:
    """Return up to `points` sizes from one label per class to `most`, evenly on a log scale."""
    if most <= classes:
        return (most,)
    between = np.geomspace(classes, most, points)[:-1]
    whole = {classes * max(1, round(size / classes)) for size in between.tolist()}
    return (*sorted(size for size in whole if size < most), most)


def nested_order(
    target: NDArray[np.integer], rows: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return `rows` in an order of which every beginning is stratified.

    The j-th of a class's m rows has its place at (j + u) / m, u being uniform and the class's own;
    the first of each class come before all others.
    """
    shuffled = rng.permutation(rows)
    place = np.empty(len(shuffled))
    for k in np.unique(target[shuffled]).tolist():
        members = np.flatnonzero(target[shuffled] == k)
        rank = np.arange(len(members))
        place[members] = np.where(rank == 0, rng.random() - 1, (rank + rng.random()) / len(members))
    ordered: NDArray[np.int64] = shuffled[np.argsort(place, kind="stable")]
    return ordered


def repeats_for(count: int) -> int:
    """Return how often subsets of `count` labels are drawn: few labels leave most to chance."""
    return max(2, min(5, math.ceil(1500 / max(count, 1))))
