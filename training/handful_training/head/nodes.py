"""The pool's graph with every labelled image in it.

A pool is bounded; of more images it is a draw, in which a labelled one need not be. Such images are
linked with their nearest nodes, as they would have been had they been drawn.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from handful_training.graph.pool_graph import NEIGHBOURS, SHARPNESS, PoolGraph
from handful_training.whitening import Whitening

_TINY = 1e-12
_BLOCK = 64  # rows compared with all nodes at a time: 15 MB for 60,000


class UnlabelledPool(Protocol):
    """What a head needs of the pool of images."""

    @property
    def embedding(self) -> NDArray[np.float32]:
        """[M, E], memory-mapped."""

    @property
    def features(self) -> NDArray[np.float32]:
        """W(embedding), [M, p]."""

    @property
    def whitening(self) -> Whitening:
        """W."""

    @property
    def graph(self) -> PoolGraph:
        """Of the M images."""


class Nodes(NamedTuple):
    """Labelled images as nodes of a graph."""

    graph: PoolGraph  # its first M nodes are the pool
    rows: NDArray[np.int64]  # node of each labelled image, [n], all different


def place(
    pool: UnlabelledPool, positions: NDArray[np.int64], features: NDArray[np.float32]
) -> Nodes:
    """Return the graph with all labelled images, and where they are.

    Args:
        pool: M images.
        positions: of the labelled images in the pool, [n]; -1 where one is not in it. A picture
            that has two labels is attached a second time.
        features: W of their embeddings, [n, p].
    """
    rows = positions.astype(np.int64)
    first = np.zeros(len(rows), bool)
    first[np.unique(rows, return_index=True)[1]] = True
    outside = np.flatnonzero((rows < 0) | ~first)
    if not len(outside):
        return Nodes(pool.graph, rows)
    size = pool.graph.size
    rows[outside] = size + np.arange(len(outside))
    return Nodes(PoolGraph(_attached(pool, features[outside])), rows)


def _attached(pool: UnlabelledPool, features: NDArray[np.float32]) -> sparse.csr_array:
    count, size = len(features), pool.graph.size
    k = min(NEIGHBOURS, size)
    values, columns = np.empty((count, k), np.float32), np.empty((count, k), np.int32)
    square = np.square(pool.features).sum(axis=1)
    for start in range(0, count, _BLOCK):
        part = features[start : start + _BLOCK]
        distance = square - 2 * part @ pool.features.T + np.square(part).sum(axis=1)[:, None]
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        found = np.maximum(np.take_along_axis(distance, near, axis=1), 0)
        # As in PoolGraph, where only one of two nodes has the other among its nearest.
        share = found / (found.max(1, keepdims=True) + _TINY)
        values[start : start + _BLOCK] = np.exp(-SHARPNESS * share) / 2
        columns[start : start + _BLOCK] = near
    ends = (np.repeat(np.arange(count, dtype=np.int32), k), columns.ravel())
    links = sparse.coo_array((values.ravel(), ends), (count, size))
    joined: sparse.csr_array = sparse.block_array(
        [[pool.graph.weights, links.T], [links, None]], format="csr", dtype=np.float32
    )
    joined.indices = joined.indices.astype(np.int32)
    joined.indptr = joined.indptr.astype(np.int32)
    joined.sort_indices()
    return joined
