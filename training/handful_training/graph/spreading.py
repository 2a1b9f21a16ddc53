"""Label spreading: labels flow along the graph until it is at rest.

    F = (I - alpha S)^-1 Y    (Zhou et al. 2004, "Learning with local and global consistency")

Column c of F says how often a walk comes by that starts at the labels of class c and goes on with
probability alpha at each step. How often is made a probability by `graph/prior.py`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.prior import Prior, Scores, posterior, sample
from handful_training.graph.solve import solve

FEW, FORGOTTEN = 10, 0.01  # labels per class at most, and 1 - alpha with them


def alpha_for(labels: int, classes: int) -> float:
    """Return alpha for a number of labels: 0.99 for up to ten per class, less with more.

    With few labels only long walks reach one. With many, a long walk passes by near ones and
    comes to distant ones that say less: 1 - alpha grows with the square root of their number.
    Found on clothes and photographs, with pools of 10,000 and of 60,000 images
    (docs/benchmarks.md, "The graph").
    """
    return 1 - min(0.1, FORGOTTEN * math.sqrt(max(1.0, labels / (FEW * classes))))


def spread(
    graph: PoolGraph,
    rows: NDArray[np.integer],
    target: NDArray[np.integer],
    classes: int,
    *,
    alpha: float | None = None,
    prior: Prior = None,
) -> NDArray[np.float32]:
    """Return p(class) of every node, float32 [N, K]; each row's sum is 1.

    Labelled nodes keep their label. Where no label can reach a node, it gets the classes' prior.
    60,000 nodes and 10 classes take 0.4 seconds of one core; 200 classes twenty times that.

    Args:
        graph: of N nodes.
        rows: nodes that are labelled, [n], n >= 1.
        target: their classes, [n], in 0 ... K - 1.
        classes: K.
        alpha: share of what a node hears from its neighbours, in (0, 1); None: `alpha_for` the
            labels.
        prior: None: how frequent the classes are among the nodes is estimated. "uniform": they are
            equally frequent, which is much to assume of images that nobody has sorted.
    """
    parts = solve(
        graph,
        lambda start, stop: _right(graph.size, rows, target, start, stop),
        classes,
        alpha=alpha_for(len(rows), classes) if alpha is None else alpha,
        keep=lambda part: part,
    )
    score = np.hstack(parts)
    scores = Scores(
        score[sample(graph.size)],
        score.mean(axis=0, dtype=np.float64),
        np.bincount(target, minlength=classes),
    )
    found = posterior(score, scores, prior)
    found[rows] = np.eye(classes, dtype=np.float32)[target]
    return found


def spread_out_of_fold(
    graph: PoolGraph,
    rows: NDArray[np.integer],
    target: NDArray[np.integer],
    classes: int,
    fold: NDArray[np.integer],
    *,
    alpha: float | None = None,
    prior: Prior = None,
) -> NDArray[np.float32]:
    """Return p(class) of labelled nodes, [R, n, K], each without the labels of its own fold.

    It is what `spread` gives the node when the fold's labels are left out. F is linear in Y, so
    the labels of one class and fold are solved for once, and F without them is F less their part:
    min(n, folds x K) columns for one repeat, 30 ms of one core each over 60,000 nodes.

    Args:
        graph: of N nodes.
        rows: nodes that are labelled, [n], all different.
        target: their classes, [n].
        classes: K.
        fold: of each label in each of R repeats, [R, n]. One below 0 is in no fold: such a label
            is never left out, and what is returned for its row is no prediction.
        alpha: as for `spread`, of all labels: a fold less changes hardly anything.
        prior: as for `spread`; estimated from the labels that are left.
    """
    if alpha is None:
        alpha = alpha_for(len(rows), classes)
    jointly = _teams(target, fold)
    one_by_one = [_teams(target, fold[[r]]) for r in range(len(fold))]
    if len(jointly.target) <= sum(len(teams.target) for teams in one_by_one):
        return _out_of_fold(graph, rows, classes, jointly, fold, alpha, prior)
    repeats = [
        _out_of_fold(graph, rows, classes, teams, fold[[r]], alpha, prior)
        for r, teams in enumerate(one_by_one)
    ]
    return np.concatenate(repeats)


class _Teams(NamedTuple):
    """Labels of one class that are always left out together: m teams."""

    of: NDArray[np.int64]  # team of each label, [n]
    target: NDArray[np.integer]  # class of each team, [m]
    fold: NDArray[np.integer]  # of each team in each repeat, [R, m]
    size: NDArray[np.int64]  # labels in each team, [m]


def _teams(target: NDArray[np.integer], fold: NDArray[np.integer]) -> _Teams:
    kinds, of, size = np.unique(
        np.vstack([target, fold]), axis=1, return_inverse=True, return_counts=True
    )
    return _Teams(of, kinds[0], kinds[1:], size)


def _out_of_fold(
    graph: PoolGraph,
    rows: NDArray[np.integer],
    classes: int,
    teams: _Teams,
    fold: NDArray[np.integer],
    alpha: float,
    prior: Prior,
) -> NDArray[np.float32]:
    shown = sample(graph.size)
    parts = solve(
        graph,
        lambda start, stop: _right(graph.size, rows, teams.of, start, stop),
        len(teams.target),
        alpha=alpha,
        keep=lambda part: (part[rows], part[shown], part.mean(axis=0, dtype=np.float64)),
    )
    score, sampled, mean = (np.concatenate(kept, axis=-1) for kept in zip(*parts, strict=True))
    found = np.empty((*fold.shape, classes), np.float32)
    for r, held_out in enumerate(fold):
        for f in np.unique(held_out):
            left = np.eye(classes, dtype=np.float32)[teams.target]
            left[(teams.fold[r] == f) & (f >= 0)] = 0
            scores = Scores(sampled @ left, mean @ left, (teams.size @ left).astype(np.int64))
            asked = held_out == f
            found[r, asked] = posterior(score[asked] @ left, scores, prior)
    return found


def _right(
    size: int, rows: NDArray[np.integer], column: NDArray[np.integer], start: int, stop: int
) -> NDArray[np.float32]:
    """Return columns start ... stop - 1 of the matrix with a one at each (rows, column)."""
    right = np.zeros((size, stop - start), np.float32)
    inside = (start <= column) & (column < stop)
    np.add.at(right, (rows[inside], column[inside] - start), 1)
    return right
