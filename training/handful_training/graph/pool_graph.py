"""The pool's images as a graph: who is whose neighbour, and how near.

    w_ij = (v_ij + v_ji) / 2,   v_ij = exp(-4 d_ij^2 / d_i^2) for the k nearest j of i, else 0

d_i is the distance of i's k-th neighbour, so that dense and sparse regions are linked alike
(Zelnik-Manor and Perona 2004, "Self-tuning spectral clustering"; the factor 4 as Calder et al. 2020
have it). Two nodes are linked if either is a neighbour of the other: asking for both would leave a
quarter of the links.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.errors import BundleCorrupt
from handful_training.errors import TrainingError
from handful_training.graph.knn import nearest

NEIGHBOURS = 10
SHARPNESS = 4.0
_TINY = np.float32(1e-12)  # instead of a bandwidth of zero, where all neighbours are equal


class GraphDamaged(TrainingError):
    """The bytes are not those of a graph."""


class Walk(NamedTuple):
    """The normalised weights, with nodes that are linked close to each other.

    Products with many columns are four times as fast in this order: what they gather is in the
    processor's cache.
    """

    similarity: sparse.csr_array  # float32 [N, N], of places
    order: NDArray[np.int32]  # node at each place, [N]
    place: NDArray[np.int32]  # of each node, [N]


@dataclass(frozen=True, eq=False)
class PoolGraph:
    """An undirected graph with weights.

    Attributes:
        weights: symmetric, >= 0, diagonal 0; float32 [N, N] with int32 indices.
        order: of nodes that are linked close to each other, int32 [N]; None: found when needed.
    """

    weights: sparse.csr_array
    order: NDArray[np.int32] | None = None

    @property
    def size(self) -> int:
        """The number of nodes, N."""
        return int(self.weights.shape[0])

    @classmethod
    def build(cls, features: NDArray[np.float32], *, k: int = NEIGHBOURS, seed: int = 0) -> Self:
        """Link each row of `features` [N, d], N >= 1, with its `k` nearest.

        Args:
            features: finite; what distances are taken between.
            k: neighbours of each row; all others where there are fewer.
            seed: for `nearest`.
        """
        found = nearest(features, k, seed=seed)
        count, k = found.index.shape
        if k == 0:
            return cls(_csr(np.zeros(0), np.zeros((2, 0), np.int32), count))
        bandwidth = np.maximum(found.distance[:, -1:], _TINY)
        values = np.exp(-SHARPNESS * np.square(found.distance / bandwidth)) / 2
        rows = np.repeat(np.arange(count, dtype=np.int32), k)
        ends = np.stack([rows, found.index.ravel()])
        return cls(_csr(np.tile(values.ravel(), 2), np.hstack([ends, ends[::-1]]), count))

    def pack(self) -> bytes:
        """Return the graph as a plain .npz."""
        weights = self.weights
        return pack_arrays(
            {"start": weights.indptr, "neighbour": weights.indices, "weight": weights.data}
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote.

        Raises:
            GraphDamaged: it is no graph.
        """
        try:
            arrays = unpack_arrays(data, "the graph")
            parts = (arrays["weight"], arrays["neighbour"], arrays["start"])
            count = len(arrays["start"]) - 1
            weights = sparse.csr_array(parts, shape=(count, count))
            weights.check_format(full_check=True)
            if not (weights.data >= 0).all() or (weights != weights.T).nnz:
                raise ValueError("negative or one-sided weights")  # noqa: TRY301 - as the others
        except (BundleCorrupt, KeyError, ValueError) as error:
            remedy = "remove it, and it is built again"
            raise GraphDamaged(f"not a graph ({error}); {remedy}") from error
        return cls(weights)

    @cached_property
    def degree(self) -> NDArray[np.float32]:
        """The sum of each node's weights, [N]; 0 where it has no neighbour."""
        degree: NDArray[np.float32] = self.weights.sum(axis=1)
        return degree

    @cached_property
    def walk(self) -> Walk:
        """S = D^-1/2 W D^-1/2, in an order of nodes that solvers like."""
        order = self.order
        if order is None:
            order = reverse_cuthill_mckee(self.weights, symmetric_mode=True)
        place = np.empty_like(order)
        place[order] = np.arange(len(order), dtype=order.dtype)
        scale = 1 / np.sqrt(np.where(self.degree > 0, self.degree, 1))
        edges = self.weights.tocoo()
        values = edges.data * scale[edges.row] * scale[edges.col]
        ends = np.stack([place[edges.row], place[edges.col]])
        return Walk(_csr(values, ends, self.size), order, place)


def _csr(values: NDArray[np.floating], ends: NDArray[np.int32], count: int) -> sparse.csr_array:
    """Return float32 [count, count] with the sum of the `values` between each pair of `ends`."""
    matrix = sparse.coo_array((values.astype(np.float32), (ends[0], ends[1])), (count, count))
    found: sparse.csr_array = matrix.tocsr()
    found.sort_indices()
    return found
