"""A graph whose links count by how far their ends agree on a class.

    w'_ij = w_ij max(b_ij^64, 0.01),   b_ij = sum over classes k of sqrt(p_ik p_jk)

b, the Bhattacharyya coefficient, is 1 where both ends say the same and 0 where they exclude each
other. Neighbours in an embedding that knew no classes need not be of one; what a classifier says of
both tells some that are from some that are not. Label propagation that takes labels back into its
graph: Wang, Tu & Tsotsos 2013, "Dynamic Label Propagation for Semi-supervised Multi-class
Multi-label Classification" (ICCV).

p must come from something that sees more than the graph does, as a student does which is fitted
across it: a graph that is given its own answers grows sure of its errors (docs/benchmarks.md, "A
second round").
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from handful_training.graph.pool_graph import PoolGraph

POWER = 64
# No link is cut: a node that agrees with none of its neighbours hears them as it did before.
LEAST = 0.01
_BLOCK = 2**22  # numbers that are compared at a time


def agreeing(graph: PoolGraph, probabilities: NDArray[np.float32]) -> PoolGraph:
    """Return `graph` with each weight times what its ends' agreement leaves of it.

    Args:
        graph: of N nodes.
        probabilities: p(class) of each node, [N, K].
    """
    weights = graph.weights
    root = np.sqrt(probabilities, dtype=np.float32)
    ends = np.repeat(np.arange(graph.size, dtype=np.int32), np.diff(weights.indptr))
    agreement = np.empty(weights.nnz, np.float32)
    step = max(1, _BLOCK // root.shape[1])
    for start in range(0, weights.nnz, step):
        part = slice(start, start + step)
        np.einsum("ij,ij->i", root[ends[part]], root[weights.indices[part]], out=agreement[part])
    values = weights.data * np.clip(agreement**POWER, LEAST, 1)
    parts = (values, weights.indices, weights.indptr)
    return PoolGraph(sparse.csr_array(parts, shape=weights.shape), graph.walk.order)
