"""Paths and planes through latent space: their laws."""

import numpy as np
import pytest

from handful_training.explore.path import path
from handful_training.explore.plane import plane_of_three, principal_plane
from handful_training.explore.pool import MAX_POOL, choose_rows

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 12)).astype(np.float32)


@pytest.mark.parametrize(("first", "second"), [(A, B), (A, 5 * B), (A, 2 * A), (A, -A), (A, 0 * B)])
def test_a_path_joins_its_ends(first, second):
    """A path begins and ends exactly at the two latents, and back is the same way reversed, also
    where there is no arc.
    """
    found = path(first, second, 9)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[[0, -1]], [first, second])
    np.testing.assert_allclose(path(second, first, 9)[::-1], found, atol=1e-6)


@pytest.mark.parametrize("second", [B, 5 * B])
def test_norms_change_evenly(second):
    """Along an arc the norm changes linearly, and the direction turns by equal angles."""
    found = path(A, second, 9).astype(np.float64)
    norms = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 9), 1e-5)
    turns = np.arccos((found[1:] * found[:-1]).sum(1) / (norms[1:] * norms[:-1]))
    np.testing.assert_allclose(turns, turns.mean(), rtol=1e-3)


def test_the_principal_plane_is_that_of_the_variance():
    """The grid lies on the plane that holds the variance, its middle is the mean, its coordinates
    are standard deviations, up and right are positive, and the order of the rows does not matter.
    """
    axes = np.linalg.qr(RNG.normal(size=(12, 2)))[0].T
    means = (A + RNG.normal(size=(500, 2)) * [3, 2] @ axes).astype(np.float32)
    plane = principal_plane(means, 7)
    assert plane.grid.shape == (7, 7, 12)
    np.testing.assert_allclose(plane.grid[3, 3], means.mean(0), atol=1e-4)
    assert sum(plane.share) == pytest.approx(1, abs=1e-6)
    assert plane.share[0] > plane.share[1]
    across = plane.grid[3, 6] - plane.grid[3, 0]
    assert np.linalg.norm(across) == pytest.approx(2 * 2.5 * 3, rel=0.1)
    outside = plane.grid.reshape(-1, 12) - means.mean(0)
    np.testing.assert_allclose(outside, outside @ axes.T @ axes, atol=1e-4)
    assert plane.down[0] > 0 > plane.down[-1]
    assert plane.across[0] < 0 < plane.across[-1]
    again = principal_plane(means[::-1], 7)
    np.testing.assert_allclose(again.grid, plane.grid, atol=1e-3)


@pytest.mark.parametrize("means", [np.ones((5, 4)), A[None], np.outer(np.arange(6), A)])
def test_means_on_a_line_span_no_plane(means):
    """Where the latents of the images do not span a plane, there is none."""
    assert principal_plane(means.astype(np.float32), 5) is None


def test_the_plane_of_three_holds_the_three():
    """All three latents lie on the grid, where their coordinates say."""
    plane = plane_of_three(np.stack([A, B, C]))
    zero, one = (np.flatnonzero(np.isclose(plane.across, value))[0] for value in (0, 1))
    np.testing.assert_allclose(plane.grid[zero, zero], A, atol=1e-6)
    np.testing.assert_allclose(plane.grid[zero, one], B, atol=1e-6)
    np.testing.assert_allclose(plane.grid[one, zero], C, atol=1e-6)
    np.testing.assert_allclose(plane.grid[one, one], B + C - A, atol=1e-5)


def test_a_pool_is_bounded_and_keeps_what_is_wanted():
    """Of many images a bounded sample is looked at, labelled ones among them, and all that are
    asked for; of few all; the same seed takes the same.
    """
    labelled = np.arange(0, 100_000, 10)
    rows = choose_rows(100_000, labelled, [99_999, 7], seed=3)
    assert MAX_POOL <= len(rows) <= MAX_POOL + 2
    assert {99_999, 7} <= set(rows.tolist())
    assert (rows % 10 == 0).sum() >= MAX_POOL // 2
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, choose_rows(100_000, labelled, [99_999, 7], seed=3))
    np.testing.assert_array_equal(choose_rows(5, np.array([4]), [], seed=0), np.arange(5))
