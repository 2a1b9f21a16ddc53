"""Uniformly random images, for figures that can be trusted.

Labels that a strategy chose are no fair sample: accuracy on them is that of hard or of typical
images. Knows images by the digest of their pixels only.
"""

import numpy as np
from numpy.typing import NDArray

from handful_training.metrics import wilson_interval

TYPICAL_ACCURACY = 0.9  # at which the interval is announced


def different(digests: NDArray[np.uint8], labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows whose pixels are those of no labelled and no earlier row.

    Args:
        digests: of all images, [M, 32].
        labelled: rows that have a label, or may not be chosen for another reason.
    """
    pixels = np.ascontiguousarray(digests).view("S32").ravel()
    _, first, group = np.unique(pixels, return_index=True, return_inverse=True)
    known = np.zeros(len(first), np.bool_)
    known[group[labelled]] = True
    return np.sort(first[~known])


def draw(rows: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw up to `count` of `rows`, all equally likely; a draw of n begins any larger one."""
    return np.random.default_rng(seed).permutation(rows)[:count]


def expected_interval(count: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson) of `count` labels where 90 % of the answers are right."""
    return wilson_interval(round(TYPICAL_ACCURACY * count), count)
