"""Linear discriminant analysis with a shrunken covariance within classes.

    logit_k = x' S^-1 m_k - m_k' S^-1 m_k / 2,   S = (1 - s) W + s tr(W)/d I

W is the covariance of rows around the means of their classes; s by Ledoit and Wolf 2004, "A
well-conditioned estimator for large-dimensional covariance matrices". The rows of all classes are
pooled before s is found, so that a class with one label is no obstacle. Without a class prior.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

from handful_training.head.nearest_mean import class_means, nearest_mean

# Where the rows of each class are all equal.
MIN_VARIANCE = 1e-6


def lda(
    rows: NDArray[np.float64],
    target: NDArray[np.int64],
    classes: int,
    *,
    shrinkage: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients [K, d] and intercepts [K].

    Args:
        rows: [n, d].
        target: class of each, [n]; each of 0 ... K - 1 occurs.
        classes: K.
        shrinkage: s, in 0 ... 1; None: by Ledoit and Wolf.
    """
    if len(rows) == classes:  # no spread to be seen: all that is left is which mean is nearest
        return nearest_mean(rows, target, classes)
    means = class_means(rows, target, classes)
    within = rows - means[target]
    covariance: NDArray[np.float64] = within.T @ within / len(rows)
    if shrinkage is None:
        alone = np.bincount(target)[target] == 1  # exactly at its class's mean: it shows no spread
        spread = within[~alone]
        shrinkage = float(ledoit_wolf_shrinkage(spread, assume_centered=True)) if len(spread) else 1
    size = len(covariance)
    variance = max(float(np.trace(covariance)) / size, MIN_VARIANCE)
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(size)
    # With s = 0 it may be singular: the least norm is the limit of s to 0 in its range.
    coefficients = np.asarray(np.linalg.lstsq(shrunk, means.T, rcond=None)[0].T, np.float64)
    return coefficients, -0.5 * (coefficients * means).sum(axis=1)
