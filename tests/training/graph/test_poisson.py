"""Poisson learning: the equation's own solution, component by component."""

import numpy as np
import pytest
from scipy import sparse

from handful_training.graph import solve as solver
from handful_training.graph.poisson import poisson, poisson_out_of_fold
from handful_training.graph.pool_graph import PoolGraph

K = 3


def blobs(count: int = 300, seed: int = 0) -> tuple[PoolGraph, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, K, count)
    rows = np.eye(K, 5)[kind] + 0.4 * rng.normal(size=(count, 5))
    return PoolGraph.build(rows.astype(np.float32)), kind


def labelled(kind: np.ndarray, per_class: int) -> np.ndarray:
    return np.concatenate([np.flatnonzero(kind == c)[:per_class] for c in range(K)])


def apart(*graphs: PoolGraph) -> PoolGraph:
    joined = sparse.block_diag([graph.weights for graph in graphs], format="csr")
    joined.indices, joined.indptr = joined.indices.astype(np.int32), joined.indptr.astype(np.int32)
    return PoolGraph(sparse.csr_array(joined))


def test_it_is_the_solution_of_the_equation(monkeypatch: pytest.MonkeyPatch):
    """Log-odds between classes are differences of the dense solution of L u = b, on one scale."""
    monkeypatch.setattr(solver, "ACCURACY", 1e-6)
    graph, kind = blobs()
    rows = labelled(kind, 2)
    weights = graph.weights.toarray().astype(np.float64)
    source = np.zeros((300, K))
    source[rows] = np.eye(K)[kind[rows]] - 1 / K
    potential = np.linalg.pinv(np.diag(weights.sum(1)) - weights) @ source
    degree = weights.sum(1, keepdims=True)
    potential -= (degree * potential).sum(0) / degree.sum()
    found = poisson(graph, rows, kind[rows], K)
    free = np.setdiff1d(np.arange(300), rows)
    # the floor under every probability bends the odds of nodes that are nearly certain
    unsure = free[found[free].min(1) > 0.05]
    odds = np.log(found[unsure, :1] / found[unsure, 1:])
    expected = (potential[:, :1] - potential[:, 1:])[unsure]
    assert len(unsure) > 30
    assert np.corrcoef(odds.ravel(), expected.ravel())[0, 1] > 0.999
    np.testing.assert_array_equal(found[free].argmax(1), potential[free].argmax(1))


@pytest.mark.parametrize("prior", [None, "uniform"])
def test_rows_are_probabilities_and_labels_are_kept(prior):
    """Rows are finite and sum to 1, labelled ones are their label, most others are right."""
    graph, kind = blobs()
    rows = labelled(kind, 3)
    found = poisson(graph, rows, kind[rows], K, prior=prior)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[rows], np.eye(K, dtype=np.float32)[kind[rows]])
    assert (found.argmax(1) == kind).mean() > 0.85


def test_components_are_solved_by_themselves():
    """A component with labels of one class is that class, one without labels gets what the labels'
    frequencies say, a component's answer does not depend on the labels of another.
    """
    graph, kind = blobs()
    both = apart(graph, blobs(40, 1)[0], blobs(30, 2)[0])
    rows = labelled(kind, 3)
    alone = poisson(both, rows, kind[rows], K)
    np.testing.assert_allclose(alone[300:], 1 / K, atol=1e-5)
    found = poisson(both, np.append(rows, 305), np.append(kind[rows], 1), K)
    assert (found[300:340, 1] > 0.99).all()
    np.testing.assert_array_equal(found[:300].argmax(1), alone[:300].argmax(1))


def test_a_uniform_prior_makes_masses_equal():
    """Asked for, every class has the same mass over the nodes."""
    graph, kind = blobs(1500)
    rows = np.concatenate([np.flatnonzero(kind == 0)[:20], labelled(kind, 2)[2:]])
    found = poisson(graph, rows, kind[rows], K, prior="uniform")
    np.testing.assert_allclose(found.mean(0), 1 / K, atol=0.02)


@pytest.mark.parametrize("prior", [None, "uniform"])
def test_out_of_fold_is_without_the_fold(prior):
    """Each label's row is what `poisson` says without its fold; who is in no fold is never left
    out.
    """
    graph, kind = blobs()
    rows = labelled(kind, 4)
    fold = np.stack([np.arange(len(rows)) % 2, np.where(np.arange(len(rows)) % 4, -1, 0)])
    found = poisson_out_of_fold(graph, rows, kind[rows], K, fold, prior=prior)
    for r, f in [(0, 0), (0, 1), (1, 0)]:
        out = fold[r] == f
        alone = poisson(graph, rows[~out], kind[rows][~out], K, prior=prior)
        np.testing.assert_allclose(found[r, out], alone[rows[out]], atol=1e-6)


def test_one_class_is_that_class_everywhere():
    """With labels of one class only there is nothing to tell apart."""
    graph, _ = blobs()
    found = poisson(graph, np.arange(4), np.full(4, 2), K)
    assert (found[:, 2] > 0.99).all()
