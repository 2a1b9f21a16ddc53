"""Which labels are disputed: planted mistakes are found, sound labels left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_training.suggest.doubts import find_doubts


def forecasts(truth, classes, sure, seed=0):
    """Return p [n, K] of a forecaster that gives the true class about `sure`."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), len(truth)) * (1 - sure)
    p[np.arange(len(truth)), truth] += sure
    return p


def test_planted_mistakes_are_found():
    """Of 1,000 labels 5 % of which are wrong, a good forecaster disputes just these, proposes
    the right class, and their number is about right.
    """
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 1000)
    wrong = rng.choice(1000, 50, replace=False)
    target = truth.copy()
    target[wrong] = (target[wrong] + rng.integers(1, 10, 50)) % 10
    found = find_doubts(forecasts(truth, 10, 0.7), target)
    assert set(found.place.tolist()) == set(wrong.tolist())
    assert 35 <= found.likely_wrong <= 50
    assert np.array_equal(found.proposed, truth[found.place])


def test_sound_labels_are_not_disputed():
    """Where every label is the likeliest class, none is in doubt, however unsure the forecaster."""
    p = forecasts(np.arange(60) % 3, 3, 0.05)
    assert len(find_doubts(p, p.argmax(axis=1)).place) == 0


def test_a_class_without_labels_is_never_proposed():
    """A class that nobody gave has no threshold to be confident by."""
    p = np.tile([0.1, 0.1, 0.8], (20, 1))
    assert len(find_doubts(p, np.arange(20) % 2).place) == 0


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(5, 60))
def test_ranked_by_the_margin(seed, classes, count):
    """What is disputed has a likelier class, the largest margin comes first, and none is left out
    that is disputed more than one that is in.
    """
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), count)
    target = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    target = target[:count]
    found = find_doubts(p, target)
    margins = found.probability - found.given
    assert (margins > 0).all()
    assert (np.diff(margins) <= 0).all()
    assert (found.proposed != target[found.place]).all()
    assert found.probability == pytest.approx(p[found.place, found.proposed])
    out = np.setdiff1d(np.arange(count), found.place)
    for row in out.tolist():
        if len(margins):
            others = np.delete(p[row], target[row])
            assert others.max() - p[row, target[row]] <= margins[-1] + 1e-12


def test_likely_wrong_is_what_the_confident_joint_counts():
    """By hand: thresholds 0.56 and 0.7. Of two labels that are disputed one stands against a
    prediction that reaches the other class's.
    """
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.45, 0.55], [0.2, 0.8], [0.4, 0.6]])
    found = find_doubts(p, np.array([0, 0, 0, 0, 1, 1]))
    assert (found.place.tolist(), found.likely_wrong) == ([2, 3], 1)
    assert found.proposed.tolist() == [1, 1]
    assert found.given.tolist() == [0.1, 0.45]
