"""Prediction sets: the law of their coverage, and the threshold against brute force."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta, kstest

from handful_bundle.head import Judgement
from handful_bundle.manifest import ConformalInfo, HeadInfo
from handful_bundle.predictions import predict
from handful_training.head.conformal import (
    coverage_range,
    fit_conformal,
    labels_needed,
    prediction_sets,
)

RNG = np.random.default_rng(0)


def forecasts(count, classes=5, seed=0):
    """Return probabilities [count, classes] and right classes, exchangeable rows."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.4), count)
    noisy = 0.8 * probabilities + 0.2 / classes
    target = (noisy.cumsum(1) > rng.random((count, 1))).argmax(1)
    return probabilities, target


def scores(probabilities, target):
    return 1 - probabilities[np.arange(len(target)), target]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [*range(1, 40), 69, 99, 100, 199, 1000])
def test_threshold_is_the_order_statistic(level, n):
    """The threshold is the ceil((n + 1) level)-th smallest score, the level taken as written; where
    there are fewer scores than that, there is none.
    """
    probabilities, target = forecasts(n, seed=n)
    rank = math.ceil((n + 1) * Fraction(str(level)))
    found = fit_conformal(probabilities, target, level=level)
    assert found.count == n
    if rank > n:
        assert found.threshold is None
    else:
        assert found.threshold == np.sort(scores(probabilities, target))[rank - 1]


def test_repeats_count_like_one_model_each():
    """With repeats, the threshold is the smallest number that k labels are within on average over
    repeats, found by trying every score; with equal repeats it is that of one.
    """
    target = RNG.integers(0, 4, 30)
    repeats = RNG.dirichlet(np.ones(4), (3, 30))
    every = np.sort(1 - repeats[:, np.arange(30), target].ravel())
    k = math.ceil(31 * Fraction("0.9"))
    expected = next(
        t for t in every if (1 - repeats[:, np.arange(30), target] <= t).sum(1).mean() >= k
    )
    assert fit_conformal(repeats, target).threshold == expected
    same = np.stack([repeats[0]] * 4)
    assert fit_conformal(same, target) == fit_conformal(repeats[0], target)


@pytest.mark.parametrize(
    ("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_too_few_labels_give_every_class(level, needed):
    """One label fewer than needed: no threshold, every class in each set; the block says so."""
    assert labels_needed(level) == needed
    for n in (0, needed - 1, needed):
        probabilities, target = forecasts(n, seed=7)
        found = fit_conformal(probabilities, target, level=level)
        assert (found.threshold is None) == (n < needed)
        assert found.model_dump()["needed"] == needed
        if n < needed:
            assert prediction_sets(forecasts(20)[0], found.threshold).all()
    assert fit_conformal(None, np.zeros(500, int)).count == 0


def test_coverage_follows_its_beta_law():
    """Over 100 draws of 50 exchangeable calibration labels, the share of images whose set holds the
    truth follows Beta(k, n + 1 - k), and leaves its central 95 % as rarely as it should.
    """
    n, k = 50, math.ceil(51 * Fraction("0.9"))
    test, truth = forecasts(100_000, classes=8, seed=1)
    coverage = []
    for draw in range(100):
        found = fit_conformal(*forecasts(n, classes=8, seed=100 + draw))
        coverage.append((scores(test, truth) <= found.threshold).mean())
    assert kstest(coverage, beta(k, n + 1 - k).cdf).pvalue > 0.01
    low, high = coverage_range(n, 0.9)
    outside = sum(not low <= share <= high for share in coverage)
    assert outside <= 12  # Binomial(100, 0.05): above with probability 0.1 %
    assert np.mean(coverage) == pytest.approx(k / (n + 1), abs=0.02)


def test_coverage_range_of_fifty_labels():
    """With 50 labels a set of 90 % may turn out to hold the truth in 81 to 97 % of images."""
    assert coverage_range(50, 0.9) == pytest.approx((0.81, 0.97), abs=0.005)
    found = fit_conformal(*forecasts(50)).model_dump()
    assert (found["coverage_low"], found["coverage_high"]) == coverage_range(50, 0.9)


def test_sets_are_nested_in_the_level():
    """A higher level has a threshold no lower, and sets that hold those of the lower level."""
    calibration, test = forecasts(300, seed=3), forecasts(500, seed=4)[0]
    levels = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    found = [fit_conformal(*calibration, level=level).threshold for level in levels]
    assert found == sorted(found)
    sets = [prediction_sets(test, threshold) for threshold in found]
    for small, large in itertools.pairwise(sets):
        assert (small <= large).all()
    assert sets[0].sum() < sets[-1].sum()


def test_no_set_is_empty():
    """The most probable class is in the set, even where it is beyond the threshold."""
    probabilities = np.array([[0.4, 0.35, 0.25], [0.9, 0.05, 0.05]])
    sets = prediction_sets(probabilities, 0.2)
    assert sets.tolist() == [[True, False, False], [True, False, False]]


def test_sets_are_those_that_are_served():
    """Training counts the very sets that the service answers, threshold or none."""
    probabilities = forecasts(200, classes=4)[0].astype(np.float32)
    labels = ("a", "b", "c", "d")
    for threshold in (None, 0.0, 0.3, 0.77, 1.0):
        info = HeadInfo(
            kind="logistic", digest="sha256:" + "0" * 64, label_count=9, temperature=1,
            conformal=ConformalInfo(method="m", level=0.9, threshold=threshold, count=9),
        )  # fmt: skip
        served = predict(Judgement(probabilities), labels, info)
        for row, one in zip(prediction_sets(probabilities, threshold), served, strict=True):
            assert {labels[k] for k in np.flatnonzero(row)} == set(one["prediction_set"])


def test_a_random_audit_alone_calibrates():
    """Where enough labels are a random audit, the threshold is that of these alone; else of all."""
    probabilities, target = forecasts(60, seed=5)
    audit = np.arange(60) % 3 == 0
    found = fit_conformal(probabilities, target, audit=audit)
    alone = fit_conformal(probabilities[audit], target[audit])
    assert (found.threshold, found.count) == (alone.threshold, 20)
    assert found.model_dump()["on"] == "audit"
    few = fit_conformal(probabilities, target, audit=np.arange(60) < 8)
    assert few == fit_conformal(probabilities, target)
    assert few.model_dump()["on"] == "labels"


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5])
def test_impossible_levels_are_refused(level):
    """A level of nothing, of everything or beyond is an error."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_conformal(*forecasts(20), level=level)
