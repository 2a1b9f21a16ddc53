"""The graph: what its weights are, and that what was packed is what is unpacked."""

import numpy as np
import pytest
from scipy import sparse

from handful_bundle.arrays import pack_arrays
from handful_training.graph.pool_graph import GraphDamaged, PoolGraph


def dense(graph: PoolGraph) -> np.ndarray:
    return graph.weights.toarray()


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)


def test_weights_are_those_of_the_definition(rows: np.ndarray):
    """w is the mean of exp(-4 d² / d_k²) seen from both ends, 0 where a node is not among the k
    nearest of the other.
    """
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2).astype(np.float64)
    np.fill_diagonal(distance, np.inf)
    bandwidth = np.sort(distance, 1)[:, 5:6]
    seen = np.where(distance <= bandwidth, np.exp(-4 * (distance / bandwidth) ** 2), 0)
    np.testing.assert_allclose(dense(PoolGraph.build(rows, k=6)), (seen + seen.T) / 2, atol=1e-5)


def test_weights_are_symmetric_and_bounded(rows: np.ndarray):
    """Weights are exactly symmetric, in [0, 1], none joins a node to itself, and each node has at
    least k links.
    """
    weights = dense(PoolGraph.build(rows, k=7))
    np.testing.assert_array_equal(weights, weights.T)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert (weights.diagonal() == 0).all()
    assert ((weights > 0).sum(1) >= 7).all()


def test_the_scale_of_features_does_not_matter(rows: np.ndarray):
    """Features a thousand times as large give the same graph: the bandwidth is their own."""
    np.testing.assert_allclose(
        dense(PoolGraph.build(1000 * rows)), dense(PoolGraph.build(rows)), rtol=1e-4
    )


def test_the_order_of_rows_does_not_matter(rows: np.ndarray):
    """Permuted rows give the permuted graph."""
    order = np.random.default_rng(1).permutation(len(rows))
    expected = dense(PoolGraph.build(rows))[np.ix_(order, order)]
    np.testing.assert_allclose(dense(PoolGraph.build(rows[order])), expected, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_equal_rows_are_linked_fully(count: int):
    """Rows that are all alike have weights of 1/2 or 1, never NaN; a single one has no link."""
    weights = dense(PoolGraph.build(np.ones((count, 3), np.float32), k=5))
    assert set(np.unique(weights)) <= {0, 0.5, 1}
    assert ((weights > 0).sum(1) >= min(5, count - 1)).all()


def test_the_walk_is_the_normalised_graph(rows: np.ndarray):
    """Places are a permutation of the nodes; brought back, S is D^-1/2 W D^-1/2, its largest
    eigenvalue 1.
    """
    graph = PoolGraph.build(rows)
    walk = graph.walk
    np.testing.assert_array_equal(walk.order[walk.place], np.arange(80))
    found = walk.similarity.toarray()[np.ix_(walk.place, walk.place)]
    weights = dense(graph)
    degree = weights.sum(1)
    np.testing.assert_allclose(found, weights / np.sqrt(np.outer(degree, degree)), atol=1e-6)
    assert np.linalg.eigvalsh(found).max() == pytest.approx(1, abs=1e-5)


def test_unpacking_undoes_packing(rows: np.ndarray):
    """The same graph comes back, bit for bit, and packs to the same bytes."""
    graph = PoolGraph.build(rows)
    data = graph.pack()
    again = PoolGraph.unpack(data)
    np.testing.assert_array_equal(dense(again), dense(graph))
    assert again.size == 80
    assert again.pack() == data
    assert again.weights.dtype == np.float32


def damaged(graph: PoolGraph, what: str) -> bytes:
    start, neighbour, weight = (
        graph.weights.indptr.copy(), graph.weights.indices.copy(), graph.weights.data.copy()
    )  # fmt: skip
    if what == "a neighbour that is not there":
        neighbour[3] = 80
    elif what == "rows that overlap":
        start[4] = start[6]
    elif what == "weights missing":
        weight = weight[:-1]
    elif what == "negative":
        weight[0] = -1
    elif what == "not a number":
        weight[0] = np.nan
    elif what == "one-sided":
        weight[0] *= 2
    elif what == "no weights":
        return pack_arrays({"start": start, "neighbour": neighbour})
    return pack_arrays({"start": start, "neighbour": neighbour, "weight": weight})


@pytest.mark.parametrize(
    "what",
    [
        "a neighbour that is not there",
        "rows that overlap",
        "weights missing",
        "negative",
        "not a number",
        "one-sided",
        "no weights",
    ],
)
def test_what_is_no_graph_is_refused(rows: np.ndarray, what: str):
    """Arrays that are not those of an undirected graph are an error that says the remedy."""
    with pytest.raises(GraphDamaged, match="built again"):
        PoolGraph.unpack(damaged(PoolGraph.build(rows), what))


def test_other_bytes_are_refused():
    """What is no archive at all is refused just so, and a whole graph is not."""
    with pytest.raises(GraphDamaged):
        PoolGraph.unpack(b"no archive")
    whole = PoolGraph(sparse.csr_array(np.array([[0, 1], [1, 0]], np.float32)))
    assert PoolGraph.unpack(whole.pack()).size == 2
