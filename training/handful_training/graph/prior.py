"""From scores to probabilities: how frequent the classes are among the nodes.

A class's scores divided by their mean are a density over the nodes, d_ic. Labels say little of how
frequent a class is: who labels ten images of each class has not seen the classes equally often. So

    p(c | i)  is proportional to  w_c d_ic,

with weights w that are the classes' prior. It is estimated as a mixture's weights are, by
expectation maximisation on the nodes (Saerens et al. 2002, "Adjusting the outputs of a classifier
to new a priori probabilities"), held back by a Dirichlet prior that counts 0.1 + 2 K / n times as
much as all nodes: the densities that few labels give overlap too much for more. Its centre is the
labels' frequency, shrunk to uniform by as much as its distance from uniform may be chance (Hausser
and Strimmer 2009, "Entropy inference and the James-Stein estimator", eq. 6): wholly for ten labels
of each class, much for 100 random ones of 10 equally frequent classes, hardly where one is rare.

What reaches every node alike says nothing of any, but makes densities look flat: beside it, a few
labels more by chance would give their class half of all nodes. So most of it is taken away first
(docs/benchmarks.md, "The classes' prior"). Where it comes from: Calder et al. 2020, "Poisson
learning", on label propagation at very low label rates.

A uniform prior needs none of that, since its weights undo whatever lifts a class everywhere. It
asks for more: weights with which all classes have the same mass (Sinkhorn's scaling; class mass
normalisation is its first step, Zhu, Ghahramani and Lafferty 2003).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Prior = Literal["uniform"] | None

SAMPLE = 5_000  # nodes that the weights are found on
STRENGTH, DOUBT = 0.1, 2.0  # of the Dirichlet prior: with infinitely many labels, and times K / n
COMMON, LOW = 0.8, 0.05  # share that is taken away of a density that all but a few nodes exceed
FLOOR = np.float32(1e-3)  # of the mean density: a node that no label reaches gets the prior
_STEPS = 100
_ENOUGH = 1e-4  # change of a weight, relative, that ends the search


class Scores(NamedTuple):
    """What labels say of the nodes, [..., K], before anything is known of the classes' prior."""

    sampled: NDArray[np.float32]  # of the nodes `sample(N)`, [s, K]
    mean: NDArray[np.float64]  # over all nodes, [K]
    counts: NDArray[np.integer]  # labels of each class, [K]


def sample(size: int) -> NDArray[np.int64]:
    """Return the nodes that stand for all `size`."""
    return np.linspace(0, size - 1, min(size, SAMPLE)).astype(np.int64)


def posterior(score: NDArray[np.float32], scores: Scores, prior: Prior) -> NDArray[np.float32]:
    """Return p(class), [m, K], of nodes with this `score` [m, K]; each row's sum is 1.

    A class without labels gets what the floor leaves to it.
    """
    known = scores.counts > 0
    weights = shrunk_frequencies(scores.counts)
    sampled = _density(scores.sampled, scores.mean)
    found = _density(score, scores.mean)
    if prior == "uniform":
        weights = np.full(len(known), 1 / len(known))
        weights[known] *= balancing(sampled[:, known] + FLOOR)
    else:
        common = np.float32(COMMON) * np.quantile(sampled, LOW, axis=0)
        sampled, found = _above(sampled, common), _above(found, common)
        share = weights[known].sum()
        strength = STRENGTH + DOUBT * known.sum() / scores.counts.sum()
        weights[known] = share * _estimated(
            sampled[:, known] + FLOOR, weights[known] / share, strength
        )
    return normalised((found + FLOOR) * weights)


def normalised(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return `values` [m, K] > 0 divided by their rows' sums, float32."""
    shares: NDArray[np.float32] = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def shrunk_frequencies(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the classes' frequencies [K] by the labels alone, shrunk to uniform; all > 0."""
    classes, n = len(counts), int(counts.sum())
    frequency = (counts + 1 / classes) / (n + 1)
    away = np.square(frequency - 1 / classes).sum()
    chance = (1 - np.square(frequency).sum()) / max(1, n - 1)  # variance of that distance
    share = 1.0 if away <= chance else chance / away
    shrunk: NDArray[np.float64] = share / classes + (1 - share) * frequency
    return shrunk


def _density(score: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    scale = np.where(mean > 0, 1 / np.where(mean > 0, mean, 1), 0).astype(np.float32)
    # Solvers leave a little below zero where the truth is a little above.
    density: NDArray[np.float32] = np.maximum(score * scale, 0)
    return density


def _above(density: NDArray[np.float32], common: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `density` [m, K] less `common` [K] < 1, of the same mean."""
    left: NDArray[np.float32] = np.maximum(density - common, 0) / (1 - common)
    return left


def _estimated(
    density: NDArray[np.float32], centre: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    weights = centre
    for _ in range(_STEPS):
        share = _mass(density, weights)
        before, weights = weights, (share + strength * centre) / (1 + strength)
        if (np.abs(weights - before) <= _ENOUGH * before).all():
            break
    return weights


def balancing(density: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return weights [K], of mean 1, that give all columns of `density` [N, K] > 0 one mass."""
    classes = density.shape[1]
    weights = np.ones(classes)
    for _ in range(_STEPS):
        factor = 1 / (classes * _mass(density, weights))
        weights *= factor
        weights /= weights.mean()
        if (np.abs(factor - 1) <= _ENOUGH).all():
            break
    return weights


def _mass(density: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's share of all nodes, [K]."""
    total = density @ weights.astype(np.float32)
    mass: NDArray[np.float64] = weights * ((1 / total) @ density) / len(density)
    return mass
