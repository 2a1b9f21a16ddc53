"""A graph whose links count by how far their ends agree on a class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_training.graph import agreement
from handful_training.graph.agreement import LEAST, POWER, agreeing
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import spread


def some_graph(seed: int = 0, count: int = 60) -> PoolGraph:
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return PoolGraph.build(rows, k=5)


def some_probabilities(graph: PoolGraph, classes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 3.0), graph.size).astype(np.float32)


@given(st.integers(2, 7), st.integers(0, 99))
def test_weights_are_those_of_the_definition(classes: int, seed: int) -> None:
    """Each weight is multiplied by a power of its ends' Bhattacharyya coefficient, or by the
    least factor; so it never grows, and stays symmetric to the bit.
    """
    graph = some_graph(seed)
    said = some_probabilities(graph, classes, seed)
    before, after = graph.weights.toarray(), agreeing(graph, said).weights.toarray()
    coefficient = np.sqrt(said).astype(np.float64) @ np.sqrt(said).astype(np.float64).T
    factor = np.clip(coefficient**POWER, LEAST, 1)
    np.testing.assert_allclose(after, before * factor, rtol=1e-4)
    np.testing.assert_array_equal(after, after.T)
    assert (after <= before).all()


def test_where_all_agree_nothing_changes() -> None:
    """Nodes of which the same is said keep their weights, and the graph its walk."""
    graph = some_graph()
    same = agreeing(graph, np.full((graph.size, 3), 1 / 3, np.float32))
    np.testing.assert_allclose(same.weights.data, graph.weights.data, rtol=1e-4)
    difference = same.walk.similarity - graph.walk.similarity
    assert np.abs(difference.toarray()).max() < 1e-4


def test_no_link_is_cut() -> None:
    """A node that agrees with none of its neighbours still hears them: as before, in proportion."""
    graph = some_graph()
    said = np.tile(np.float32([1, 0]), (graph.size, 1))
    said[7] = 0, 1
    row, before = (g.weights.toarray()[7] for g in (agreeing(graph, said), graph))
    np.testing.assert_allclose(row, LEAST * before, rtol=1e-5)
    heard = spread(agreeing(graph, said), np.array([0, 1]), np.array([0, 1]), 2)
    assert np.isfinite(heard).all()


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links compared a few at a time get the weights that they get all at once."""
    graph = some_graph()
    said = some_probabilities(graph, 5)
    whole = agreeing(graph, said).weights.data
    monkeypatch.setattr(agreement, "_BLOCK", 35)
    np.testing.assert_array_equal(agreeing(graph, said).weights.data, whole)


def test_links_between_classes_lose() -> None:
    """Two classes that touch, and something that knows them: links between lose more than links
    within, so that one label each finds more of both.
    """
    rng = np.random.default_rng(3)
    target = np.arange(600) % 2
    rows = rng.normal(size=(600, 2)) + np.stack([3.0 * target, np.zeros(600)], 1)
    graph = PoolGraph.build(rows.astype(np.float32))
    one = 1 / (1 + np.exp(-3 * (rows[:, 0] - 1.5)))
    after = agreeing(graph, np.stack([1 - one, one], 1).astype(np.float32))
    between = target[:, None] != target
    left = after.weights.toarray() / np.maximum(graph.weights.toarray(), 1e-9)
    linked = graph.weights.toarray() > 0
    assert left[linked & ~between].mean() > left[linked & between].mean() + 0.1

    def found(which: PoolGraph) -> float:
        pairs = np.arange(40).reshape(20, 2)  # one of each class
        right = [spread(which, pair, target[pair], 2).argmax(1) == target for pair in pairs]
        return float(np.mean(right))

    assert found(after) > found(graph) + 0.01
