"""The class whose mean is nearest, with probabilities.

    logit_k = -|x - m_k|^2 / (2 v),   v = mean square of a centred row / 5

that is, Gaussian classes of one variance v in all directions. |x|^2 is the same for all classes and
left out, which makes the logits affine in x. Without a class prior. v does not depend on how many
labels there are, so that a temperature that was found with fewer of them still fits.
"""

import numpy as np
from numpy.typing import NDArray

# With one label per class, where there is no temperature to be found, this has about the best log
# loss on Fashion-MNIST. The variance within classes would be less by far, and far too sure: it
# takes correlated features for so many witnesses.
SHARPNESS = 5.0


def nearest_mean(
    rows: NDArray[np.float64], target: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients [K, d] and intercepts [K].

    Args:
        rows: [n, d].
        target: class of each, [n]; each of 0 ... K - 1 occurs.
        classes: K.
    """
    means = class_means(rows, target, classes)
    variance = float(rows.var(axis=0).sum()) / SHARPNESS or 1.0  # all equal: nothing to tell
    coefficients: NDArray[np.float64] = means / variance
    return coefficients, -0.5 * (coefficients * means).sum(axis=1)


def class_means(
    rows: NDArray[np.float64], target: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return the mean of each class's rows, [K, d]."""
    means = np.zeros((classes, rows.shape[1]))
    np.add.at(means, target, rows)
    counts: NDArray[np.int64] = np.bincount(target, minlength=classes)
    return means / counts[:, None]
