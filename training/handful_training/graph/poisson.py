"""Poisson learning: the few labels are sources and sinks of a flow on the graph.

    L u_c = sum over labels i of (1[y_i = c] - mean of that over the labels) delta_i

(Calder, Cook, Thorpe and Slepcev 2020, "Poisson learning: graph based semi-supervised learning at
very low label rates", eq. 3.3.) The equation has a solution on a component of the graph if its
sources and sinks balance there, so the mean is taken over the labels of the component.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.prior import (
    FLOOR,
    Prior,
    balancing,
    normalised,
    sample,
    shrunk_frequencies,
)
from handful_training.graph.solve import solve


def poisson(
    graph: PoolGraph,
    rows: NDArray[np.integer],
    target: NDArray[np.integer],
    classes: int,
    *,
    prior: Prior = None,
) -> NDArray[np.float32]:
    """Return p(class) of every node, float32 [N, K]; each row's sum is 1.

    Labelled nodes keep their label. In a component where no class has a label nodes get the
    labels' frequencies, in one where a single class has labels that class. u has no scale of its
    own: p = softmax(u / m), m being the median of the largest less the second largest u_c.

    Args:
        graph: of N nodes.
        rows: nodes that are labelled, [n], n >= 1.
        target: their classes, [n], in 0 ... K - 1.
        classes: K.
        prior: None: as the equation has it. "uniform": the classes are equally frequent.
    """
    component, present = _present(graph, rows, target, classes)
    potential = _potential(graph, component, rows, target, classes)
    potential[~present[component]] = -np.inf  # no class that has no label where the node is
    counts = np.bincount(target, minlength=classes)
    found = shrunk_frequencies(counts) * FLOOR + _softmax(potential)
    if prior == "uniform":
        known = counts > 0
        found[:, known] *= balancing(found[sample(graph.size)][:, known])
    found = normalised(found)
    found[rows] = np.eye(classes, dtype=np.float32)[target]
    return found


def poisson_out_of_fold(
    graph: PoolGraph,
    rows: NDArray[np.integer],
    target: NDArray[np.integer],
    classes: int,
    fold: NDArray[np.integer],
    *,
    prior: Prior = None,
) -> NDArray[np.float32]:
    """Return p(class) of labelled nodes, [R, n, K], each without the labels of its own fold.

    The sources' mean depends on which labels there are, so each repeat and fold is an equation of
    its own: R x folds x K columns.

    Args:
        graph: of N nodes.
        rows: nodes that are labelled, [n], all different.
        target: their classes, [n].
        classes: K.
        fold: of each label in each of R repeats, [R, n]. One below 0 is in no fold: such a label
            is never left out, and what is returned for its row is no prediction.
        prior: as for `poisson`.
    """
    found = np.empty((*fold.shape, classes), np.float32)
    for r, held_out in enumerate(fold):
        for f in np.unique(held_out):
            asked = held_out == f
            known = ~asked | (f < 0)
            every = poisson(graph, rows[known], target[known], classes, prior=prior)
            found[r, asked] = every[rows[asked]]
    return found


def _softmax(potential: NDArray[np.float32]) -> NDArray[np.floating]:
    """Return softmax(u / m), [N, K]; rows of -inf, where no class is possible, give zeros."""
    best = potential.max(axis=1, keepdims=True)
    below = potential - np.where(np.isfinite(best), best, 0)
    ranked = np.partition(below, -2, axis=1)
    margin = -ranked[:, -2][np.isfinite(ranked[:, -2])]
    scale = (np.median(margin) if len(margin) else 0) or 1
    found = np.exp(below / np.float32(scale))
    shares: NDArray[np.floating] = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-30)
    return shares


def _present(
    graph: PoolGraph, rows: NDArray[np.integer], target: NDArray[np.integer], classes: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return each node's component, [N], and which classes have labels in each component."""
    count, component = connected_components(graph.weights, directed=False)
    present = np.zeros((count, classes), np.bool_)
    present[component[rows], target] = True
    return component, present


def _potential(
    graph: PoolGraph,
    component: NDArray[np.int32],
    rows: NDArray[np.integer],
    target: NDArray[np.integer],
    classes: int,
) -> NDArray[np.float32]:
    """Return u, [N, K], of mean 0 on each component when nodes count by their degree."""
    source = np.eye(classes)[target]
    where = component[rows]
    total = np.zeros((component.max() + 1, classes))
    np.add.at(total, where, source)
    labels = np.bincount(where, minlength=len(total))
    source -= total[where] / labels[where, None]
    root = np.sqrt(np.where(graph.degree > 0, graph.degree, 1)).astype(np.float32)[:, None]
    right = np.zeros((graph.size, classes), np.float32)
    np.add.at(right, rows, source)
    right /= root  # L u = b is (I - S) (D^1/2 u) = D^-1/2 b
    parts = solve(
        graph,
        lambda start, stop: right[:, start:stop].copy(),
        classes,
        alpha=1.0,
        keep=lambda part: part / root,
    )
    found = np.hstack(parts)
    mean = np.zeros_like(total)
    np.add.at(mean, component, found * graph.degree[:, None])
    volume = np.bincount(component, weights=graph.degree, minlength=len(total))
    mean /= np.where(volume > 0, volume, 1)[:, None]
    return (found - mean[component]).astype(np.float32)
