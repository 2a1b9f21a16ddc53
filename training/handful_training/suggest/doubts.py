"""Which labels a classifier that did not see them disputes.

A label is disputed where another class is likelier; the larger the margin, the more. How many are
likely wrong is another question, answered by confident learning (Northcutt et al. 2021,
arXiv:1911.00068): a class is confidently predicted where its probability reaches the mean that it
has among the images labelled so, and the labels that stand against a confident prediction are
counted (the off-diagonal of the confident joint). Knows no images.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Doubts(NamedTuple):
    """Disputed labels, the most disputed first.

    Attributes:
        place: of the label among those given, int64 [d].
        proposed: the class that is likelier, int64 [d].
        probability: of that class, float64 [d].
        given: probability of the class that was given, float64 [d].
        likely_wrong: how many of them stand against a confident prediction.
    """

    place: NDArray[np.int64]
    proposed: NDArray[np.int64]
    probability: NDArray[np.float64]
    given: NDArray[np.float64]
    likely_wrong: int


def find_doubts(probabilities: NDArray[np.floating], target: NDArray[np.integer]) -> Doubts:
    """Find the labels in doubt.

    Args:
        probabilities: of each label's image, by a classifier that did not see it, [n, K].
        target: the class given, [n]; classes without a label are never proposed.
    """
    rows = np.arange(len(target))
    p = probabilities.astype(np.float64)
    counts = np.bincount(target, minlength=p.shape[1])
    p[:, counts == 0] = 0.0
    given = p[rows, target]
    threshold = np.bincount(target, given, minlength=p.shape[1]) / np.maximum(counts, 1)
    confident = np.where((p >= threshold) & (counts > 0), p, -1.0)
    others = p.copy()
    others[rows, target] = -1.0
    proposed = others.argmax(axis=1)
    margin = others[rows, proposed] - given
    elsewhere = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != target)
    disputed = margin > 0
    place = np.argsort(-margin, kind="stable")[: disputed.sum()].astype(np.int64)
    best = proposed[place].astype(np.int64)
    return Doubts(place, best, others[place, best], given[place], int((elsewhere & disputed).sum()))
