"""The parts of choosing a head: folds, repeats, logits, temperature."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from handful_training.config import HeadConfig
from handful_training.head.calibration import HIGHEST, LOWEST, as_sure_as, fit_temperature
from handful_training.head.logistic import fit, logistic, logits, stratified_folds
from handful_training.head.selection import ENOUGH_ROWS, select
from handful_training.metrics import log_loss


def test_folds_are_stratified():
    """Each class is spread over the folds as evenly as can be, every row is in one fold, and a
    class's only row is never held out.
    """
    target = np.array([0] * 7 + [1] * 3 + [2] + [3] * 2)
    fold = stratified_folds(target, 3, np.random.default_rng(0))
    for k, largest in ((0, 3), (1, 1), (3, 1)):
        counts = np.bincount(fold[target == k], minlength=3)
        assert counts.sum() == (target == k).sum()
        assert counts.max() == largest
    assert fold[target == 2].tolist() == [-1]


def test_many_rows_need_no_repeats():
    """From 1,000 labels on, one pass of cross-validation is all: another number of repeats gives
    the same.
    """
    target = np.arange(ENOUGH_ROWS) % 2
    features = np.random.default_rng(0).normal(target[:, None], 1, (ENOUGH_ROWS, 4))
    once, often = (
        select(features, target, HeadConfig(folds=2, repeats=r, c_grid=(0.1,)), seed=0)
        for r in (1, 9)
    )
    np.testing.assert_array_equal(once.out_of_fold, often.out_of_fold)


def test_two_classes_have_symmetric_logits():
    """For two classes the logits are -z/2 and z/2, whose softmax is sklearn's sigmoid(z)."""
    target = np.arange(20) % 2
    rows = np.random.default_rng(0).normal(target[:, None], 1, (20, 6))
    model = logistic(tol=1e-6)
    fit(model, 1.0, rows, target)
    found = logits(model, rows)
    np.testing.assert_allclose(found[:, 0], -found[:, 1])
    np.testing.assert_allclose(softmax(found, axis=1), model.predict_proba(rows), atol=1e-12)
    np.testing.assert_allclose(expit(found[:, 1] * 2), model.predict_proba(rows)[:, 1])


@pytest.mark.parametrize("counts", [(1, 1, 1, 2), (20, 1), (1, 1)])
def test_nothing_is_chosen_blindly(counts):
    """Where mostly single labels, or those of one class alone, could be held out, C and T are the
    constants: judging by them would make the head certain of that class.
    """
    target = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).normal(size=(len(target), 256))
    chosen = select(features, target, HeadConfig(), seed=0)
    assert chosen.temperature == 1
    assert 0.09 < chosen.C < 0.11
    assert chosen.log_loss is None
    assert chosen.out_of_fold is None


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(truth):
    """Labels drawn from softmax(logits / T) give T back, and a lower log loss than T = 1."""
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, (20_000, 5))
    draws = rng.gumbel(size=true_logits.shape)
    target = (true_logits / truth + draws).argmax(1)
    found = fit_temperature(true_logits[None], target)
    assert found.value == pytest.approx(truth, rel=0.05)
    assert found.log_loss <= log_loss(softmax(true_logits, axis=1), target) + 1e-6


def test_temperature_of_a_few_rows_stays_moderate():
    """A dozen rows that are all predicted right do not make the head certain."""
    twelve = 2 * np.eye(3)[np.arange(12) % 3]
    found = fit_temperature(twelve[None], np.arange(12) % 3)
    assert 0.1 < found.value < 1


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_factor_of_sureness_is_recovered(factor):
    """Logits are brought to be as sure as they were before they were divided by a factor; and what
    is as sure as other logits has their mean largest probability.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5))
    sure = softmax(factor * logits, axis=1)
    assert as_sure_as(sure, logits) == pytest.approx(factor, rel=2e-3)
    others = 2 * rng.normal(size=(4000, 5))
    matched = softmax(as_sure_as(sure, others) * others, axis=1)
    assert matched.max(1).mean() == pytest.approx(sure.max(1).mean(), abs=1e-3)


def test_the_factor_of_sureness_is_bounded():
    """What cannot be as sure comes as close as a temperature's bounds allow."""
    flat, certain = np.full((9, 3), 1 / 3), np.eye(3)[np.arange(9) % 3]
    logits = np.random.default_rng(0).normal(size=(9, 3))
    assert as_sure_as(flat, logits) == pytest.approx(1 / HIGHEST)
    assert as_sure_as(certain, np.zeros((9, 3))) == pytest.approx(1 / LOWEST)
