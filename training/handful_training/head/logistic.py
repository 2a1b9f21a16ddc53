"""Multinomial logistic regression with L2, by sklearn, and the folds to judge it by."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression


def logistic(*, tol: float) -> LogisticRegression:
    """Return an unfitted classifier; fitted again, it goes on from where it stands."""
    # With 1,000 rows of 256 numbers a fifth of the time of lbfgs, a fortieth with threads in BLAS.
    return LogisticRegression(solver="newton-cg", tol=tol, max_iter=2000, warm_start=True)


def fit(
    model: LogisticRegression, C: float, features: NDArray[np.float64], target: NDArray[np.int64]
) -> None:
    """Fit `model` in place with inverse regularisation strength `C`."""
    with warnings.catch_warnings(), config_context(assume_finite=True):
        # After 2000 steps a weakly regularised model is as good as its optimum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # One or two labels per class are what this is for, not a mistake.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.set_params(C=C).fit(features, target)


def per_class(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn what sklearn computes per class, [K, ...], into one row per class for two as well.

    There sklearn keeps one row z, with p(second) = sigmoid(z): the rows are -z/2 and z/2.
    """
    return np.concatenate([-rows / 2, rows / 2]) if len(rows) == 1 else rows


def logits(model: LogisticRegression, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one logit per class, [n, K], whose softmax is sklearn's `predict_proba`."""
    return features @ per_class(model.coef_).T + per_class(model.intercept_)


def stratified_folds(
    target: NDArray[np.int64], folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal each class's rows out to the folds: fold of each row [n]; -1 for a class's only row."""
    fold = np.full(len(target), -1)
    for rows in np.split(np.argsort(target, kind="stable"), np.cumsum(np.bincount(target))[:-1]):
        if len(rows) > 1:  # a random start, so that remainders do not all meet in the first fold
            fold[rng.permutation(rows)] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    return fold
