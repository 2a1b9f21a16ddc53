"""The power law: recovered from its own values, within its bounds, best among its neighbours."""

import numpy as np
import pytest

from handful_training.learning_curve.power_law import FASTEST, SLOWEST, fit_power_law

LABELS = np.array([10, 20, 40, 80, 160, 320], float)


@pytest.mark.parametrize("a", [0.7, 0.95, 1.0])
@pytest.mark.parametrize("b", [0.5, 1.5])
@pytest.mark.parametrize("c", [0.2, 0.5, 1.0, 1.7])
def test_noiseless_data_give_the_law_back(a, b, c):
    """From values without noise a, b and c are recovered."""
    found = fit_power_law(LABELS, a - b * LABELS**-c)
    assert (float(found.a), float(found.b), float(found.c)) == pytest.approx((a, b, c), abs=1e-4)


def test_many_laws_are_each_as_one():
    """Fitted together, curves get the laws that each gets alone."""
    curves = np.clip(0.8 - LABELS**-0.4 + np.random.default_rng(0).normal(0, 0.02, (7, 6)), 0, 1)
    together = fit_power_law(LABELS, curves)
    for i, curve in enumerate(curves):
        alone = fit_power_law(LABELS, curve)
        assert [x[i] for x in together] == pytest.approx([float(x) for x in alone])


def test_bounds_hold():
    """Whatever the data, accuracy is bounded by 1, does not fall with labels, and c keeps its
    bounds.
    """
    curves = np.random.default_rng(1).random((500, 6))
    law = fit_power_law(LABELS, curves)
    assert (law.a <= 1).all()
    assert (law.b >= 0).all()
    assert ((law.c >= SLOWEST) & (law.c <= FASTEST)).all()
    assert (law(20) <= law(40) + 1e-12).all()
    assert ((law(1) >= 0) & (law(10**6) <= 1)).all()


def test_no_law_in_reach_is_better():
    """Among 200,000 laws within the bounds none has a smaller weighted error."""
    rng = np.random.default_rng(2)
    weight = np.arange(1, 7) / 6
    a, b = rng.uniform(0, 1, (200_000, 1)), rng.exponential(0.7, (200_000, 1))
    c = rng.uniform(SLOWEST, FASTEST, (200_000, 1))
    tried = a - b * LABELS**-c
    for curve in (rng.random(6), np.sort(rng.random(6)), np.linspace(0.9, 1.0, 6), np.ones(6)):
        law = fit_power_law(LABELS, curve)
        own = law.a - law.b * LABELS**-law.c
        assert np.square(own - curve) @ weight <= (np.square(tried - curve) @ weight).min() + 1e-9


def test_accuracy_that_falls_has_a_flat_law():
    """Where accuracy falls with labels the law is constant: more labels bring nothing."""
    law = fit_power_law(LABELS, np.linspace(0.8, 0.6, 6))
    assert float(law.b) == 0
    assert float(law(10)) == float(law(1000)) == pytest.approx(0.667, abs=0.01)
