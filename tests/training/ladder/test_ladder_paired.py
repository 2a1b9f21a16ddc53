"""Paired comparisons against their closed forms."""

import numpy as np
import pytest
from scipy.stats import binom, norm, ttest_rel

from handful_training.ladder.paired import compare, over_draws


def pair(both, first, second, neither):
    """Return where two ways are right, with so many images of each kind."""
    kinds = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second
    found = np.array(kinds + [(False, False)] * neither)
    return found[:, 0], found[:, 1]


@pytest.mark.parametrize(("b", "c"), [(0, 5), (3, 12), (12, 3), (7, 7), (0, 1)])
def test_the_test_is_the_exact_binomial_one(b, c):
    """p is that of a fair coin that falls at least as one-sidedly as b against c."""
    found = compare(*pair(40, b, c, 13))
    more = max(b, c)
    expected = min(1, 2 * binom.sf(more - 1, b + c, 0.5))
    assert found.p_value == pytest.approx(expected)
    assert (found.n, found.first_only, found.second_only) == (53 + b + c, b, c)
    assert found.difference == pytest.approx((c - b) / (53 + b + c))


def test_the_interval_is_bonett_and_prices():
    """(c + 1 - b - 1) / (n + 2) ± z sqrt(...), for b = 3, c = 12, n = 68."""
    found = compare(*pair(40, 3, 12, 13))
    lost, won = 4 / 70, 13 / 70
    half = norm.ppf(0.975) * np.sqrt((lost + won - (won - lost) ** 2) / 70)
    assert found.low == pytest.approx(won - lost - half)
    assert found.high == pytest.approx(won - lost + half)


def test_the_interval_covers():
    """Over 2,000 draws of 40 images, at least 93 % of the intervals hold the true difference."""
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.05, 0.15, 0.2])
    held = 0
    for _ in range(2000):
        found = compare(*pair(*rng.multinomial(40, shares)))
        held += found.low <= 0.10 <= found.high
    assert held / 2000 >= 0.93


def test_exchanging_the_two_turns_the_sign():
    """The second against the first is the first against the second with the sign turned."""
    a, b = pair(10, 2, 9, 4)
    there, back = compare(a, b), compare(b, a)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p_value == there.p_value
    assert back.needed() == there.needed()


def test_as_many_images_as_are_needed_show_the_difference():
    """With the number that `needed` names, and the same shares, the difference is z + z' standard
    errors away from zero.
    """
    found = compare(*pair(60, 6, 14, 20))
    n = found.needed()
    error = np.sqrt((20 / 100 - 0.08**2) / n)
    assert 0.08 / error == pytest.approx(norm.ppf(0.975) + norm.ppf(0.8), rel=0.01)
    assert compare(*pair(50, 5, 5, 10)).needed() is None


def test_nothing_to_compare_is_refused():
    """No image, or two numbers of them, is an error."""
    with pytest.raises(ValueError, match="must have the same"):
        compare(np.zeros(0, bool), np.zeros(0, bool))
    with pytest.raises(ValueError, match="must have the same"):
        compare(np.zeros(3, bool), np.zeros(4, bool))


def test_over_draws_is_the_paired_t_test():
    """Difference, interval and p are those of Student's paired test; errors are as the means."""
    first = np.array([0.70, 0.68, 0.71, 0.66, 0.72])
    second = np.array([0.78, 0.77, 0.76, 0.75, 0.80])
    found, expected = over_draws(first, second), ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.fewer_errors == pytest.approx(1 - (1 - second.mean()) / (1 - first.mean()))


def test_one_draw_proves_nothing():
    """One draw has a difference, no interval and no p; equal draws have no doubt."""
    one = over_draws(np.array([0.7]), np.array([0.8]))
    assert (one.low, one.high, one.p_value) == (-1, 1, 1)
    assert one.difference == pytest.approx(0.1)
    same = over_draws(np.array([0.5, 0.75]), np.array([0.5, 0.75]))
    assert (same.difference, same.p_value, same.fewer_errors) == (0, 1, 0)
    assert over_draws(np.array([1.0, 1.0]), np.array([1.0, 1.0])).fewer_errors == 0
