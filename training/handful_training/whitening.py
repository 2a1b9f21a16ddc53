"""Half whitening of embeddings: what images are compared by in clusters and graphs.

    W: L2-normalise, centre, project on the first 64 principal components, divide each by the
       square root of its standard deviation, L2-normalise again

Half whitening keeps a few strong directions, such as brightness, from deciding everything, and
weak ones, which are mostly noise, from deciding as much; the last step makes Euclidean distance
one of angles, which k-means and neighbours can then work with.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 64
MAX_FIT = 20_000  # rows that W is fitted on
NEGLIGIBLE = 1e-5  # a standard deviation below this share of the largest is rounding


@dataclass(frozen=True, eq=False)
class Whitening:
    """W, fitted on a sample."""

    mean: NDArray[np.float32]  # of the normalised rows, [E]
    axes: NDArray[np.float32]  # scaled principal axes, [E, p]

    @classmethod
    def fit(cls, rows: NDArray[np.float32]) -> Self:
        """Fit W on rows [m, E]; rows that are all alike give no axes, p = 0."""
        unit = _normalise(rows).astype(np.float64)
        mean = unit.mean(axis=0)
        centred = unit - mean
        variance, axes = np.linalg.eigh(centred.T @ centred / max(1, len(rows) - 1))
        deviation = np.sqrt(np.maximum(variance[::-1], 0))[:COMPONENTS]
        kept = deviation > max(NEGLIGIBLE * deviation[0], 1e-7)
        scaled = axes[:, ::-1][:, :COMPONENTS][:, kept] / np.sqrt(deviation[kept])
        return cls(mean.astype(np.float32), scaled.astype(np.float32))

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return W of rows [n, E]: float32 [n, p], each of norm 1."""
        return _normalise((_normalise(rows) - self.mean) @ self.axes)


def _normalise(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(norm, 1e-12)).astype(np.float32)
    return scaled
