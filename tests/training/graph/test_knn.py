"""Nearest others: those of brute force, whatever the number, the blocks and the duplicates."""

import numpy as np
import pytest

from handful_training.graph import knn
from handful_training.graph.knn import nearest


def distances(rows: np.ndarray) -> np.ndarray:
    """Return all distances in float64, infinite from a row to itself."""
    rows = rows.astype(np.float64)
    found = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(2))
    np.fill_diagonal(found, np.inf)
    return found


def blobs(count: int, width: int = 64, seed: int = 0) -> np.ndarray:
    """Rows of norm 1 around twenty directions."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20, width))[rng.integers(0, 20, count)]
    rows = rows + 0.5 * rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("count", "k"), [(2, 1), (31, 3), (64, 10), (65, 40), (700, 10)])
def test_they_equal_those_of_brute_force(count: int, k: int, monkeypatch: pytest.MonkeyPatch):
    """Every neighbour and distance is that of brute force, nearest first, also where a block ends
    before the rows do.
    """
    monkeypatch.setattr(knn, "_BLOCK_BYTES", 4 * 768 * 100)
    rows = blobs(count)
    found = nearest(rows, k)
    exact = distances(rows)
    np.testing.assert_array_equal(found.index, exact.argsort(1)[:, :k])
    np.testing.assert_allclose(found.distance, np.sort(exact, 1)[:, :k], rtol=1e-5)
    assert found.index.dtype == np.int32
    assert found.distance.dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_have_all_others(count: int):
    """With fewer others than asked for, each row gets all of them."""
    found = nearest(blobs(count), 10)
    assert found.index.shape == found.distance.shape == (count, count - 1)
    for i, row in enumerate(found.index.tolist()):
        assert sorted([i, *row]) == list(range(count))


def test_a_row_is_never_its_own_neighbour():
    """Equal rows are each other's neighbours at distance 0, and no row is its own, even where it
    has more equals than are asked for.
    """
    rows = blobs(3).repeat(40, axis=0)
    found = nearest(rows, 10)
    assert (found.index != np.arange(120)[:, None]).all()
    assert (found.index // 40 == np.arange(120)[:, None] // 40).all()
    assert (found.distance == 0).all()
    assert all(len(set(row)) == 10 for row in found.index.tolist())


def test_rows_that_are_all_alike_have_neighbours():
    """Whitened images that are all alike have no feature left, and still some neighbours."""
    found = nearest(np.zeros((50, 0), np.float32), 4)
    assert (found.distance == 0).all()
    assert (found.index != np.arange(50)[:, None]).all()


def test_near_rows_far_from_the_origin_are_told_apart():
    """Small distances between large values are right: rounding does not order the neighbours."""
    line = np.cumsum(1 + np.arange(50))[:, None] * 1e-3
    rows = (1000 + np.hstack([line, np.zeros_like(line)])).astype(np.float32)
    found = nearest(rows, 2)
    np.testing.assert_allclose(found.distance, np.sort(distances(rows), 1)[:, :2], rtol=1e-3)


def test_the_order_of_rows_does_not_matter():
    """Permuted rows have the same neighbours, permuted."""
    rows = blobs(300)
    order = np.random.default_rng(1).permutation(300)
    found, permuted = nearest(rows, 5), nearest(rows[order], 5)
    np.testing.assert_array_equal(order[permuted.index], found.index[order])


def test_large_sets_ask_a_part_of_the_rows(monkeypatch: pytest.MonkeyPatch):
    """Beyond the limit neighbours are the exact ones among as many rows as it says; the seed draws
    them.
    """
    monkeypatch.setattr(knn, "MAX_CANDIDATES", 200)
    rows = blobs(500)
    found = nearest(rows, 5, seed=3)
    asked = np.unique(found.index)
    assert len(asked) <= 200
    drawn = np.sort(np.random.default_rng(3).choice(500, 200, replace=False))
    exact = drawn[distances(rows)[:, drawn].argsort(1)[:, :5]]
    np.testing.assert_array_equal(found.index, exact)
    assert not np.array_equal(np.unique(nearest(rows, 5, seed=4).index), asked)
