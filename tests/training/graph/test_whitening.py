"""Half whitening: what it evens out, and what it leaves alone."""

import numpy as np

from handful_training.whitening import COMPONENTS, Whitening


def test_whitening_evens_directions_out():
    """Rows become of norm 1, the same whatever they were scaled by; a direction of 100 times the
    variance of another keeps less than its share; rows alike have no direction at all.
    """
    rng = np.random.default_rng(0)
    rows = (1 + rng.normal(size=(500, 6)) * [1, 0.1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    whiten = Whitening.fit(rows)
    found = whiten(rows)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whiten(7 * rows), found, atol=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    shares = [np.sort(np.linalg.eigvalsh(np.cov(part.T))) for part in (unit, found)]
    assert shares[1][-1] / shares[1].sum() < shares[0][-1] / shares[0].sum()
    assert Whitening.fit(np.ones((5, 3), np.float32)).axes.shape == (3, 0)


def test_at_most_64_directions_are_kept():
    """Of many directions the strongest are kept; fewer rows than that have fewer."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(400, 100)) * np.linspace(2, 0.1, 100)).astype(np.float32)
    whiten = Whitening.fit(rows)
    assert whiten.axes.shape == (100, COMPONENTS)
    assert np.linalg.norm(whiten.axes, axis=1)[:30].min() > np.linalg.norm(whiten.axes[90:])
    assert Whitening.fit(rows[:9]).axes.shape[1] <= 9


def test_a_row_is_whitened_by_itself():
    """What a row becomes does not depend on the rows that it comes with, zeros included."""
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    rows[3] = 0
    whiten = Whitening.fit(rows)
    alone = np.concatenate([whiten(rows[[i]]) for i in range(50)])
    np.testing.assert_allclose(whiten(rows), alone, atol=1e-5)
    assert np.isfinite(alone).all()
