"""What the pool's graph says of labelled images, and of the whole pool.

Few columns are solved for: each takes 35 ms of one core where the pool has 60,000 images.
"""

import numpy as np
from numpy.typing import NDArray

from handful_training.config import HeadConfig
from handful_training.graph.learners import GRAPH_LEARNERS
from handful_training.graph.prior import Prior
from handful_training.head.nodes import Nodes, UnlabelledPool
from handful_training.head.onnx_graph import Term
from handful_training.head.selection import cross_folds
from handful_training.head.stacking import FLOOR, graph_logits

MIN_UNLABELLED = 100  # fewer images say little of how the classes lie
COLUMNS = 64  # of cross-validation beyond its first repeat
_CHUNK = 8192  # rows of the pool whose embeddings are read at a time


def usable(pool: UnlabelledPool | None, labelled: int) -> bool:
    """Return whether most images are unlabelled, and enough to learn from."""
    if pool is None:
        return False
    images, width = pool.features.shape
    return bool(width > 0 and images - labelled >= max(MIN_UNLABELLED, labelled))


def out_of_fold(
    nodes: Nodes, target: NDArray[np.int64], config: HeadConfig, *, seed: int
) -> NDArray[np.float64]:
    """Return log p(class) of the labelled images, [R, n, K], each without its fold's labels.

    The folds are those of the linear classifiers; the repeats the first R of theirs, as many as
    are cheap.
    """
    fold = cross_folds(target, config, seed)
    classes = int(target.max()) + 1
    if len(target) > COLUMNS or config.graph == "poisson":  # which solves for each fold and class
        fold = fold[: max(1, COLUMNS // (classes * (int(fold.max()) + 1)))]
    prior = _prior(config)
    learner = GRAPH_LEARNERS[config.graph]
    found = learner.out_of_fold(nodes.graph, nodes.rows, target, classes, fold, prior=prior)
    return graph_logits(found)


def pool_logits(
    nodes: Nodes, target: NDArray[np.int64], size: int, config: HeadConfig
) -> NDArray[np.float32]:
    """Return log p(class) of the pool's images, [M, K]."""
    prior = _prior(config)
    classes = int(target.max()) + 1
    learner = GRAPH_LEARNERS[config.graph]
    found = learner.learn(nodes.graph, nodes.rows, target, classes, prior=prior)[:size]
    return np.log(np.maximum(found, FLOOR))


def term_logits(pool: UnlabelledPool, term: Term) -> NDArray[np.float32]:
    """Return the logits that a linear term gives the pool's images, [M, K]."""
    rows = pool.embedding if term.view == "embedding" else pool.features
    starts = range(0, len(rows), _CHUNK)
    return np.concatenate([term(rows[s : s + _CHUNK]).astype(np.float32) for s in starts])


def _prior(config: HeadConfig) -> Prior:
    return None if config.class_prior == "estimated" else "uniform"
