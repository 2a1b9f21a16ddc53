"""Scores: against closed forms, hand-computed examples and reference implementations."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from handful_training.metrics import (
    Sets,
    confusion,
    ece_if_calibrated,
    expected_calibration_error,
    log_loss,
    reliability,
    score,
    wilson_interval,
)


@pytest.fixture(scope="module")
def predictions():
    """Probabilities [5000, 4] and right classes drawn from them, so a perfect forecaster's."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.5), 5000)
    target = (probabilities.cumsum(1) > rng.random((5000, 1))).argmax(1)
    return probabilities.astype(np.float32), target


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (45, 50), (50, 50), (7243, 10_000)])
def test_wilson_is_scipys(k, n, confidence):
    """The interval is scipy's Wilson interval."""
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(k, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_closed_forms():
    """No success in n: the upper end is z^2 / (n + z^2); 45 of 50: 79 to 96 %; no trial: all."""
    z = 1.959963984540054
    assert wilson_interval(0, 20) == (0.0, pytest.approx(z * z / (20 + z * z)))
    assert wilson_interval(45, 50) == pytest.approx((0.7864, 0.9565), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_is_symmetric_and_holds_the_proportion():
    """Failures mirror successes, and the interval always contains k / n."""
    for k in range(31):
        low, high = wilson_interval(k, 30)
        assert 0 <= low <= k / 30 <= high <= 1
        assert wilson_interval(30 - k, 30) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(k, n):
    """More successes than trials, or fewer than none, are an error."""
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(k, n)


def test_log_loss_is_sklearns(predictions):
    """The log loss is sklearn's where no probability is clipped."""
    probabilities, target = predictions
    exact = probabilities.astype(np.float64)
    exact = np.maximum(exact, 1e-6)
    exact /= exact.sum(1, keepdims=True)
    assert log_loss(exact, target) == pytest.approx(reference.log_loss(target, exact))


def test_log_loss_of_a_confident_error_is_finite():
    """A right class with probability 0 costs 16 nats; a certain and right one nothing."""
    certain = np.array([[1.0, 0.0]], np.float32)
    assert log_loss(certain, np.array([1])) == pytest.approx(15.94, abs=0.01)
    assert log_loss(certain, np.array([0])) == 0


def test_ece_by_hand():
    """Confidence 0.9 with 3 of 4 right and 0.6 with 1 of 1 right: (4 x 0.15 + 1 x 0.4) / 5."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    target = np.array([0, 0, 0, 1, 0])
    assert expected_calibration_error(probabilities, target) == pytest.approx(0.2)


def test_ece_of_extremes():
    """Always certain and right is 0; always certain and wrong is 1; one bin gives
    |accuracy - mean confidence|.
    """
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert expected_calibration_error(certain, np.array([0, 1, 2, 0])) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0, 1])) == 1
    mixed = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert expected_calibration_error(mixed, np.array([0, 0]), bins=1) == pytest.approx(0.25)


def test_bins_are_closed_above():
    """A confidence on an edge belongs to the bin that it ends; 1 is in the last."""
    probabilities = np.array([[1.0, 0.0], [0.8, 0.2], [0.5, 0.5]])
    curve = reliability(probabilities, np.zeros(3, int), bins=10)
    assert np.flatnonzero(curve.rows).tolist() == [4, 7, 9]
    assert curve.confidence[[4, 7, 9]] == pytest.approx([0.5, 0.8, 1.0])


def test_a_perfect_forecaster_has_a_small_ece(predictions):
    """Classes drawn from the stated probabilities leave an ECE of sampling noise only; the same
    forecasts made overconfident do not.
    """
    probabilities, target = predictions
    assert expected_calibration_error(probabilities, target) < 0.03
    sharp = probabilities.astype(np.float64) ** 3
    sharp /= sharp.sum(1, keepdims=True)
    assert expected_calibration_error(sharp, target) > 0.1


def test_scores_are_sklearns(predictions):
    """Accuracy, confusion, precision and recall are sklearn's."""
    probabilities, target = predictions
    predicted = probabilities.argmax(1)
    scores = score(probabilities, target, ("a", "b", "c", "d"))
    assert scores.accuracy == reference.accuracy_score(target, predicted)
    np.testing.assert_array_equal(
        confusion(probabilities, target), reference.confusion_matrix(target, predicted)
    )
    precision, recall, _, n = reference.precision_recall_fscore_support(target, predicted)
    for k, found in enumerate(scores.per_class.values()):
        assert (found.n, found.precision, found.recall) == (n[k], precision[k], recall[k])
        assert found.accuracy == found.recall


def test_scores_to_json():
    """The JSON has the contract's keys, plain finite values, and null where a figure is undefined:
    recall of a class without rows, precision of one never predicted, coverage without sets.
    """
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]], np.float32)
    found = score(probabilities, np.array([0, 1]), ("cat", "dog", "owl")).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found.keys() == {
        "accuracy", "accuracy_ci", "n", "log_loss", "ece", "ece_if_calibrated", "per_class",
        "coverage", "coverage_ci", "prediction_set_size",
    }  # fmt: skip
    assert found["accuracy"] == 0.5
    assert found["coverage"] is found["coverage_ci"] is found["prediction_set_size"] is None
    one = list(wilson_interval(1, 1))
    assert found["per_class"] == {
        "cat": {
            "n": 1, "accuracy": 1.0, "recall": 1.0, "precision": 0.5, "recall_ci": one,
            "coverage": None,
        },
        "dog": {
            "n": 1, "accuracy": 0.0, "recall": 0.0, "precision": None,
            "recall_ci": list(wilson_interval(0, 1)), "coverage": None,
        },
        "owl": {
            "n": 0, "accuracy": None, "recall": None, "precision": None, "recall_ci": [0.0, 1.0],
            "coverage": None,
        },
    }  # fmt: skip


def test_coverage_by_hand():
    """Coverage is the share of sets that hold the truth, in all and by class, with Wilson's
    interval; the size is the mean number of classes.
    """
    probabilities = np.array([[0.7, 0.2, 0.1]] * 4)
    inside = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]], bool)
    found = score(probabilities, np.array([0, 1, 2, 2]), ("a", "b", "c"), Sets(inside))
    assert found.coverage == 0.75
    assert found.coverage_ci == wilson_interval(3, 4)
    assert found.prediction_set_size == 7 / 4
    assert [found.per_class[name].coverage for name in "abc"] == [1.0, 1.0, 0.5]


def test_coverage_is_not_claimed_where_it_was_set():
    """Sets whose threshold was set on the very rows have a size, and no coverage."""
    probabilities = np.array([[0.7, 0.3]] * 3)
    inside = np.ones((3, 2), bool)
    found = score(probabilities, np.array([0, 1, 0]), ("a", "b"), Sets(inside, True))
    assert (found.coverage, found.coverage_ci, found.prediction_set_size) == (None, None, 2.0)
    assert found.per_class["a"].coverage is None


def test_ece_if_calibrated_is_what_chance_shows(predictions):
    """A perfect forecaster's ECE lies within what chance alone is said to show, on many rows and
    few; an overconfident one's lies above.
    """
    probabilities, target = predictions
    above = 0
    for start in range(0, 5000, 100):
        part = slice(start, start + 100)
        mean, high = ece_if_calibrated(probabilities[part])
        assert 0 < mean < high
        above += expected_calibration_error(probabilities[part], target[part]) > high
    assert above <= 6  # Binomial(50, 0.025)
    sharp = probabilities.astype(np.float64) ** 3
    sharp /= sharp.sum(1, keepdims=True)
    assert expected_calibration_error(sharp, target) > ece_if_calibrated(sharp)[1]
