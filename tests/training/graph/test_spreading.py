"""Label spreading: what closed forms, symmetries and leaving labels out really say."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from handful_training.graph import solve as solver
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import alpha_for, spread, spread_out_of_fold

K = 4


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solve as well as float32 can."""
    monkeypatch.setattr(solver, "ACCURACY", 1e-6)


def blobs(count: int = 400, noise: float = 0.5, seed: int = 0) -> tuple[PoolGraph, np.ndarray]:
    """The graph of rows around four points, and which one."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, K, count)
    rows = np.eye(K, 6)[kind] + noise * rng.normal(size=(count, 6))
    return PoolGraph.build(rows.astype(np.float32)), kind


def labelled(kind: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(kind == c), per_class, replace=False) for c in range(K)]
    )


def block_diagonal(*graphs: PoolGraph) -> PoolGraph:
    joined = sparse.block_diag([graph.weights for graph in graphs], format="csr")
    joined.indices, joined.indptr = joined.indices.astype(np.int32), joined.indptr.astype(np.int32)
    return PoolGraph(sparse.csr_array(joined))


@pytest.mark.parametrize("alpha", [0.5, 0.99])
def test_odds_are_those_of_the_closed_form(exact: None, alpha: float):
    """With as many labels in each class, odds between classes are those of (I - alpha S)^-1 Y but
    for one factor per pair of classes, the same at every node. Where the prior is estimated, four
    fifths of what 95 % of the nodes have of a class are taken from it before.
    """
    graph, kind = blobs()
    rows = labelled(kind, 3)
    weights = graph.weights.toarray().astype(np.float64)
    degree = weights.sum(1)
    similarity = weights / np.sqrt(np.outer(degree, degree))
    score = (
        np.linalg.solve(np.eye(400) - alpha * similarity, np.eye(400)[:, rows])
        @ np.eye(K)[kind[rows]]
    )
    whole = score / score.mean(0)
    common = 0.8 * np.quantile(whole, 0.05, axis=0)
    above = np.maximum(whole - common, 0) / (1 - common)
    for prior, density in ((None, above + 1e-3), ("uniform", whole + 1e-3)):
        found = spread(graph, rows, kind[rows], K, alpha=alpha, prior=prior)
        free = np.setdiff1d(np.arange(400), rows)
        factor = (found / density)[free]
        factor /= factor[:, :1]
        np.testing.assert_allclose(factor, factor[:1].repeat(len(free), 0), rtol=1e-2)


def test_walks_get_shorter_with_more_labels():
    """Alpha is 0.99 for up to ten labels a class, falls with more, whatever the number of classes,
    and stays at 0.9 or above; it is what `spread` takes unless told.
    """
    counts = [1, 10, 100, 101, 400, 1_000, 10_000, 10**6]
    found = [alpha_for(count, 10) for count in counts]
    assert found[:3] == [0.99] * 3
    assert all(a > b for a, b in pairwise(found[2:7]))
    assert found[6:] == [0.9, 0.9]
    assert [alpha_for(count * 7, 70) for count in counts] == found
    graph, kind = blobs()
    rows = labelled(kind, 40)
    told = spread(graph, rows, kind[rows], K, alpha=0.98)
    np.testing.assert_array_equal(spread(graph, rows, kind[rows], K), told)


def test_labels_are_kept_and_spread_to_what_is_alike():
    """Labelled nodes keep their label; with three labels a class nearly all nodes are right."""
    graph, kind = blobs(noise=0.2)
    rows = labelled(kind, 3)
    found = spread(graph, rows, kind[rows], K)
    np.testing.assert_array_equal(found[rows], np.eye(K, dtype=np.float32)[kind[rows]])
    assert (found.argmax(1) == kind).mean() > 0.97
    assert found.dtype == np.float32


@pytest.mark.parametrize("prior", [None, "uniform"])
def test_rows_are_probabilities(prior):
    """Every row is finite, not negative and sums to 1, whatever the labels: one of each class, one
    class only, a class with one label beside many, every node labelled.
    """
    graph, kind = blobs()
    every = np.arange(400)
    one_class = every[kind == 2][:5]
    lopsided = np.concatenate([every[kind == 0][:40], every[kind == 1][:1]])
    for rows in (labelled(kind, 1), one_class, lopsided, every):
        found = spread(graph, rows, kind[rows], K, prior=prior)
        assert np.isfinite(found).all()
        assert found.min() >= 0
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_the_order_of_nodes_does_not_matter(exact: None):
    """Permuted features and labels give permuted probabilities."""
    rng = np.random.default_rng(2)
    kind = rng.integers(0, K, 300)
    features = (np.eye(K, 6)[kind] + 0.5 * rng.normal(size=(300, 6))).astype(np.float32)
    order = rng.permutation(300)
    place = np.argsort(order)
    rows = labelled(kind, 2)
    found = spread(PoolGraph.build(features), rows, kind[rows], K)
    permuted = spread(PoolGraph.build(features[order]), place[rows], kind[rows], K)
    np.testing.assert_allclose(permuted, found[order], atol=2e-4)


def test_the_order_of_labels_and_classes_does_not_matter(exact: None):
    """Labels given in another order change nothing; renamed classes are renamed in the answer."""
    graph, kind = blobs()
    rows = labelled(kind, 3)
    found = spread(graph, rows, kind[rows], K)
    np.testing.assert_allclose(spread(graph, rows[::-1], kind[rows[::-1]], K), found, atol=1e-5)
    renamed = spread(graph, rows, (kind[rows] + 1) % K, K)
    np.testing.assert_allclose(np.roll(renamed, -1, axis=1), found, atol=1e-5)


@pytest.mark.parametrize("prior", [None, "uniform"])
def test_what_no_label_reaches_gets_the_prior(prior):
    """In a component without labels all nodes have one and the same answer: for balanced labels
    close to uniform, for one-sided ones on the side of the frequent class.
    """
    graph, kind = blobs()
    both = block_diagonal(graph, blobs(50, seed=1)[0])
    rows = labelled(kind, 5)
    found = spread(both, rows, kind[rows], K, prior=prior)[400:]
    np.testing.assert_allclose(found, found[:1].repeat(50, 0), atol=1e-6)
    np.testing.assert_allclose(found[0], 0.25, atol=0.1)
    if prior is None:
        rows = np.concatenate([np.flatnonzero(kind == 0)[:60], np.flatnonzero(kind == 1)[:3]])
        assert spread(both, rows, kind[rows], 2)[-1].argmax() == 0


def test_a_single_node_is_its_label():
    """A pool of one node, and nodes without any neighbour, are no trouble."""
    lonely = PoolGraph.build(np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(spread(lonely, np.array([0]), np.array([1]), 2), [[0, 1]])
    apart = block_diagonal(lonely, lonely, blobs(60)[0])
    found = spread(apart, np.array([0, 5]), np.array([1, 0]), 2)
    assert np.isfinite(found).all()
    assert found[2:].argmax(1).tolist() == [0] * 60


def test_a_uniform_prior_makes_masses_equal():
    """With one class labelled ten times as often, a uniform prior still gives all classes the same
    mass among the unlabelled, which the estimated one does not.
    """
    graph, kind = blobs(2000)
    often, rare = np.flatnonzero(kind == 0)[:40], labelled(kind, 4)[4:]
    rows = np.concatenate([often, rare])
    free = np.setdiff1d(np.arange(2000), rows)
    uniform = spread(graph, rows, kind[rows], K, prior="uniform")[free].mean(0)
    estimated = spread(graph, rows, kind[rows], K)[free].mean(0)
    np.testing.assert_allclose(uniform, 0.25, atol=0.01)
    assert estimated[0] > 0.3


FOLDS = {
    "three folds": lambda n: np.stack(
        [np.random.default_rng(r).permutation(n) % 3 for r in (0, 1)]
    ),
    "one label at a time": lambda n: np.arange(n)[None],
    "many repeats": lambda n: np.stack(
        [np.random.default_rng(r).permutation(n) % 2 for r in range(9)]
    ),
}


@pytest.mark.parametrize("prior", [None, "uniform"])
@pytest.mark.parametrize("folds", FOLDS)
def test_out_of_fold_is_leaving_labels_out(exact: None, folds: str, prior):
    """Each labelled node's prediction is what spreading without its fold's labels gives it, for
    every repeat.
    """
    graph, kind = blobs()
    rows = labelled(kind, 5)
    fold = FOLDS[folds](len(rows))
    found = spread_out_of_fold(graph, rows, kind[rows], K, fold, prior=prior)
    assert found.shape == (len(fold), len(rows), K)
    pairs = {(r, int(f)) for r, repeat in enumerate(fold) for f in repeat[:4]}
    for r, f in pairs:
        out = fold[r] == f
        again = spread(graph, rows[~out], kind[rows[~out]], K, prior=prior)
        np.testing.assert_allclose(found[r, out], again[rows[out]], atol=2e-3)


def test_the_cheaper_way_is_taken(monkeypatch: pytest.MonkeyPatch):
    """Two repeats of two folds are solved for by fold and class, nine by label: both ways give the
    same for the repeats that they share, and neither solves for more columns than there are labels.
    """
    columns: list[int] = []
    real = solver.solve

    def counted(graph, right, count, **options):
        columns.append(count)
        return real(graph, right, count, **options)

    monkeypatch.setattr("handful_training.graph.spreading.solve", counted)
    graph, kind = blobs()
    rows = labelled(kind, 20)
    fold = FOLDS["many repeats"](len(rows))
    many = spread_out_of_fold(graph, rows, kind[rows], K, fold)
    assert sum(columns) <= min(len(rows), 9 * 2 * K)
    columns.clear()
    one = spread_out_of_fold(graph, rows, kind[rows], K, fold[:1])
    assert columns == [2 * K]
    np.testing.assert_allclose(one[0], many[0], atol=2e-2)


def test_a_label_in_no_fold_is_never_left_out(exact: None):
    """The only label of a class, whose fold is -1, teaches all others."""
    graph, kind = blobs()
    rows = np.concatenate([labelled(kind, 4)[:12], np.flatnonzero(kind == 3)[:1]])
    fold = np.append(np.arange(12) % 2, -1)[None]
    found = spread_out_of_fold(graph, rows, kind[rows], K, fold)
    out = fold[0] == 0
    again = spread(graph, rows[~out], kind[rows[~out]], K)
    np.testing.assert_allclose(found[0, out], again[rows[out]], atol=2e-3)
    assert np.isfinite(found).all()
    assert found[0, -1].argmax() == 3


def test_a_class_that_is_left_out_wholly_is_possible_still():
    """Where all labels of a class are in one fold, its rows get a little of it, not 0."""
    graph, kind = blobs()
    rows = labelled(kind, 3)
    found = spread_out_of_fold(graph, rows, kind[rows], K, kind[rows][None])
    own = found[0, np.arange(12), kind[rows]]
    assert (own > 0).all()
    assert (own < 0.05).all()
