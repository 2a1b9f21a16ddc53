"""Laws of the curves that turn distances into novelty."""

import numpy as np
import pytest

from handful_training.novelty.curve import CLOSEST, Curve, distribution, surprise


def test_a_curve_goes_through_its_points() -> None:
    """The sum of clipped pieces is linear interpolation, constant outside of the points."""
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.normal(size=12)), np.sort(rng.normal(size=12))
    curve = Curve.through(x, y)
    at = rng.uniform(-4, 4, (30, 5))
    np.testing.assert_allclose(curve(at), np.interp(at, x, y), atol=1e-12)


@pytest.mark.parametrize("kind", ["exponential", "equal", "two values", "mostly one", "heavy"])
def test_surprise_rises_with_the_value(kind) -> None:
    """Farther out is never less surprising, beyond all values strictly more, and the share of the
    values that are more surprising than -log(q) is about q for every decile.
    """
    rng = np.random.default_rng(1)
    values = {
        "exponential": rng.exponential(2.0, 5000),
        "equal": np.full(500, 3.0),
        "two values": np.repeat([1.0, 2.0], 250),
        "mostly one": np.append(np.zeros(495), [1, 2, 3, 4, 5]).astype(float),
        "heavy": rng.standard_cauchy(5000),
    }[kind]
    curve = surprise(values)
    grid = np.linspace(values.min() - 1, values.max() + 1, 2001)
    found = curve(grid)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    beyond = curve(values.max() + np.array([0.0, 1.0, 10.0]))
    assert (np.diff(beyond) > 0).all()
    if kind in ("exponential", "heavy"):
        for level in np.arange(0.1, 0.95, 0.1):
            assert (curve(values) > -np.log(1 - level)).mean() == pytest.approx(1 - level, abs=2e-3)
    if kind == "exponential":  # whose tail is what is assumed: surprise is the distance in nats
        assert curve(np.array(30.0)) == pytest.approx(15, rel=0.2)


@pytest.mark.parametrize("count", [100, 999, 20_000])
def test_distribution_is_the_empirical_one(count) -> None:
    """It rises from above 0 to 1, and nowhere differs from the empirical distribution by more than
    its knots may: 2 % in the middle, a third of what is left at the upper end.
    """
    values = np.random.default_rng(count).exponential(1.0, count)
    curve = distribution(values)
    grid = np.linspace(-1, values.max() + 5, 5001)
    found = curve(grid)
    assert (np.diff(found) >= 0).all()
    assert found[0] == pytest.approx(1 / (count + 1))
    assert found[-1] == pytest.approx(1)
    inside = grid <= values.max()
    exact = np.searchsorted(np.sort(values), grid[inside]) / (count + 1)
    assert np.abs(found[inside] - exact).max() < 0.02 + 2 / count
    upper = (exact > 0.95) & (exact < 1 - 20 / count)
    if upper.any():
        left = (1 - found[inside][upper]) / (1 - exact[upper])
        assert 2 / 3 < left.min() <= left.max() < 3 / 2


def test_no_piece_magnifies_rounding() -> None:
    """Where values crowd, knots keep a distance: no curve rises by 1 within 0.01 nats."""
    crowded = np.append(np.full(900, 2.0) + 1e-7 * np.arange(900), np.linspace(3, 5, 100))
    curve = distribution(crowded)
    assert (curve.widths >= CLOSEST - 1e-9).all()
    assert curve.slopes.max() < 1 / CLOSEST


def test_equal_values_count_as_not_less_novel() -> None:
    """A value that half of the pool has is given the share strictly below it, not above half."""
    values = np.append(np.zeros(500), np.linspace(1, 2, 500))
    assert distribution(values)(np.array(0.0)) == pytest.approx(1 / 1001)
    assert distribution(np.zeros(200))(np.array(0.0)) == pytest.approx(1 / 201)
