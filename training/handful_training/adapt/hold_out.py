"""Which labels judge an adaptation, and therefore take no part in it.

What an encoder was trained on says nothing about it, not even out of fold: it has seen the labels.
To adapt once per fold would cost as many trainings as there are folds. So one part of the labels is
kept from the adaptation, for good: the very encoder that would be served is judged, its head is
calibrated on the same part, and nothing is trained twice. The price is that part, in training; the
head on top is fitted on all labels.
"""

import numpy as np
from numpy.typing import NDArray

MIN_LABELS = 4  # of a class; with fewer, all of them are needed to learn it


def hold_out(target: NDArray[np.int64], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Return which of the labelled images are held out, [n].

    Of each class that has at least 4 labels, `share` of them, rounded, at least one and never all.

    Args:
        target: classes of the labelled images, [n].
        share: in (0, 1).
        seed: decides which.
    """
    rng = np.random.default_rng((seed, 6))
    held_out = np.zeros(len(target), np.bool_)
    for k in np.unique(target):
        members = rng.permutation(np.flatnonzero(target == k))
        if len(members) >= MIN_LABELS:
            count = min(len(members) - 1, max(1, round(share * len(members))))
            held_out[members[:count]] = True
    return held_out
