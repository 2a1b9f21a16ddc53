"""How unsure the labels that are there leave each image of the pool. Knows no images."""

import numpy as np
from numpy.typing import NDArray


def uncertainty(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 minus the margin between the two likeliest classes, [N], in 0 ... 1.

    The margin (Scheffer et al. 2001) looks at the two classes that a label would decide between;
    the entropy also counts classes that are out of the question.

    Args:
        probabilities: [N, K], K >= 2, rows with the sum 1.
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    return np.clip(1 - (two[:, 1] - two[:, 0]), 0, 1)
