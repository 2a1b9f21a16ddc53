"""Linear families: what each computes, and that all keep one protocol."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from handful_training.head.lda import lda
from handful_training.head.linear import Lda, Logistic, NearestMean, Standardised
from handful_training.head.nearest_mean import SHARPNESS, nearest_mean

RNG = np.random.default_rng(0)
TARGET = np.repeat(np.arange(4), [12, 7, 5, 1])
ROWS = RNG.normal(size=(4, 6))[TARGET] + RNG.normal(size=(25, 6))
FAMILIES = (Logistic(0.1), Lda(), NearestMean())


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_lda_is_sklearns(shrinkage):
    """With a given shrinkage and the labels' frequencies as prior, LDA is scikit-learn's."""
    rows, target = ROWS[:24], TARGET[:24]  # sklearn warns of a class with one row
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(rows, target)
    coefficients, intercept = lda(rows, target, 3, shrinkage=shrinkage)
    logits = rows @ coefficients.T + intercept + np.log(np.bincount(target) / 24)
    np.testing.assert_allclose(softmax(logits, 1), reference.predict_proba(rows), atol=1e-9)


def test_lda_of_single_labels_is_the_nearest_mean():
    """With one label per class there is no spread to shrink: the nearest mean decides."""
    rows = RNG.normal(size=(5, 30))
    expected = nearest_mean(rows, np.arange(5), 5)
    np.testing.assert_array_equal(lda(rows, np.arange(5), 5)[0], expected[0])
    np.testing.assert_array_equal(lda(rows, np.arange(5), 5)[1], expected[1])


def test_lda_shrinks_less_with_more_rows():
    """The estimated shrinkage beats none where rows are fewer than features, and hardly differs
    from none where there are thousands.
    """

    def wrong(n, shrinkage):
        target = np.arange(n) % 3
        rows = np.random.default_rng(1).normal(size=(n, 40)) + np.eye(3, 40)[target] * 2
        fresh = (
            np.random.default_rng(2).normal(size=(900, 40)) + np.eye(3, 40)[np.arange(900) % 3] * 2
        )
        coefficients, intercept = lda(rows, target, 3, shrinkage=shrinkage)
        return ((fresh @ coefficients.T + intercept).argmax(1) != np.arange(900) % 3).mean()

    assert wrong(45, None) < wrong(45, 0.0) - 0.02
    assert abs(wrong(6000, None) - wrong(6000, 0.0)) < 0.01


def test_nearest_mean_has_its_closed_form():
    """Probabilities are those of Gaussians of one variance around the classes' means."""
    coefficients, intercept = nearest_mean(ROWS, TARGET, 4)
    found = softmax(ROWS @ coefficients.T + intercept, axis=1)
    variance = ROWS.var(0).sum() / SHARPNESS
    density = np.stack(
        [
            multivariate_normal(ROWS[k == TARGET].mean(0), variance * np.eye(6)).pdf(ROWS)
            for k in range(4)
        ],
        axis=1,
    )
    np.testing.assert_allclose(found, density / density.sum(1, keepdims=True), atol=1e-9)
    distance = np.square(ROWS[:, None] - [ROWS[k == TARGET].mean(0) for k in range(4)]).sum(2)
    np.testing.assert_array_equal((ROWS @ coefficients.T + intercept).argmax(1), distance.argmin(1))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_logits_do_not_depend_on_where_rows_lie(family):
    """Shifting and scaling all rows changes no logit: every family standardises."""
    expected = None
    for shift, scale in ((0.0, 1.0), (50.0, 1.0), (0.0, 1e-3)):
        moved = scale * ROWS + shift
        standardised = Standardised.of(moved)
        fitted = family(standardised.rows, TARGET, 4, "estimated")
        found = standardised.unfold(fitted).logits(moved)
        found -= found.mean(1, keepdims=True)
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_uniform_prior_takes_the_frequencies_back(family):
    """Where features say nothing, an estimated prior answers with the labels' frequencies or more
    even ones, and a uniform prior with the same for every class.
    """
    target = np.repeat([0, 1], [30, 10])
    rows = np.zeros((40, 3))
    rows[:, 0] = np.tile([1.0, -1.0], 20)  # the same in both classes
    for prior, expected in (("estimated", 0.75), ("uniform", 0.5)):
        logits = family(rows, target, 2, prior).logits(np.zeros((1, 3)))
        assert softmax(logits, axis=1)[0, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [3, 40])
def test_standardised_rows_have_unit_scale(n):
    """Standardised rows are centred with mean square 1, in at most n coordinates that span them."""
    rows = RNG.normal(5, 3, (n, 12))
    found = Standardised.of(rows)
    wide = found.rows @ found.basis
    np.testing.assert_allclose(wide * found.scale + found.mean, rows, atol=1e-9)
    assert np.square(wide).mean() == pytest.approx(1)
    assert found.rows.shape[1] == min(n, 12)
