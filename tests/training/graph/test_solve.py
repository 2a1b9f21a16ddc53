"""Linear systems on the graph: what conjugate gradients find is what dense algebra finds."""

import numpy as np
import pytest

from handful_training.graph import solve as solver
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.solve import solve


@pytest.fixture(scope="module")
def graph() -> PoolGraph:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 6))[rng.integers(0, 8, 250)] + 0.4 * rng.normal(size=(250, 6))
    return PoolGraph.build(rows.astype(np.float32))


def inverse(graph: PoolGraph, alpha: float) -> np.ndarray:
    """Return (I - alpha S)^-1 by dense algebra in float64."""
    weights = graph.weights.toarray().astype(np.float64)
    degree = weights.sum(1)
    return np.linalg.inv(np.eye(len(weights)) - alpha * weights / np.sqrt(np.outer(degree, degree)))


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("count", [1, solver.COLUMNS, 2 * solver.COLUMNS + 3])
def test_it_is_the_dense_solution(graph: PoolGraph, alpha: float, count: int):
    """Every column of the solution is within the promised error of (I - alpha S)^-1 B, in the order
    of the columns however they were divided.
    """
    right = (np.random.default_rng(1).random((250, count)) < 0.05).astype(np.float32)
    right[0] = 1
    parts = solve(
        graph, lambda start, stop: right[:, start:stop].copy(), count, alpha=alpha, keep=np.array
    )
    exact = inverse(graph, alpha) @ right
    error = np.sqrt(np.square(np.hstack(parts) - exact).mean(0))
    promised = solver.ACCURACY * right.mean(0) / (1 - alpha)
    assert (error <= promised).all()


def test_more_accuracy_comes_closer(graph: PoolGraph, monkeypatch: pytest.MonkeyPatch):
    """The error follows the accuracy that is asked for, down to the rounding of float32."""
    monkeypatch.setattr(solver, "ACCURACY", 1e-5)
    right = np.eye(250, 3, dtype=np.float32)
    parts = solve(graph, lambda a, b: right[:, a:b].copy(), 3, alpha=0.99, keep=np.array)
    found = np.hstack(parts)
    np.testing.assert_allclose(found, inverse(graph, 0.99)[:, :3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("alpha", [0, -0.1, 1.01])
def test_another_alpha_is_refused(graph: PoolGraph, alpha: float):
    """Outside of (0, 1] the matrix is not that of the method."""
    with pytest.raises(ValueError, match="alpha"):
        solve(graph, lambda *_: np.zeros((250, 1), np.float32), 1, alpha=alpha, keep=np.array)


def test_columns_of_zeros_stay_zero(graph: PoolGraph):
    """A column without any source has the solution 0, beside one that has sources."""
    right = np.zeros((250, 2), np.float32)
    right[5, 1] = 1
    parts = solve(graph, lambda a, b: right[:, a:b].copy(), 2, alpha=0.99, keep=np.array)
    found = np.hstack(parts)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] != 0).any()


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 10, 50, 64, 1000])
def test_workers_share_the_columns_evenly(count: int, workers: int):
    """No part is larger than fits the cache, and no worker gets more than one part's columns above
    its share.
    """
    width = solver._width(count, workers)
    assert 1 <= width <= solver.COLUMNS
    parts = -(-count // width)
    assert -(-parts // workers) * width <= count / workers + width
    if count >= workers:
        assert parts >= workers or width == 1
