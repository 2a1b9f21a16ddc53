"""Shrunk Mahalanobis distance: how far a row lies from all others, in their own units.

    D(x)^2 = (x - mean)' C^-1 (x - mean),   C = (1 - a) S + a tr(S)/d I

with the amount a of Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional
covariance matrices": S alone is singular or nearly so where rows are few or features hardly ever
active. Class-free, since labels are few (Sehwag et al. 2021, arXiv:2103.12051, find one Gaussian
enough for contrastive features). Knows no images and no thresholds.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

# No axis is narrower than this share of the rows' own size: what differs by less may be rounding,
# which is not the same on all devices.
NARROWEST = 1e-3


@dataclass(frozen=True, eq=False)
class ShrunkGaussian:
    """Mean and inverse covariance of rows [n, d], the latter as axes to project on."""

    mean: NDArray[np.float64]  # [d]
    axes: NDArray[np.float64]  # [d, d]; (x - mean) @ axes has about unit variance in each

    @classmethod
    def fit(cls, rows: NDArray[np.float64]) -> Self:
        """Fit on rows [n, d], n >= 2. Features that never vary, and equal rows, are no error."""
        mean = rows.mean(axis=0)
        centred = rows - mean
        covariance = centred.T @ centred / len(rows)
        width = len(mean)
        level = float(np.trace(covariance)) / width
        # Its formula divides by the spread: rows that are all alike have nothing to shrink.
        amount = ledoit_wolf_shrinkage(centred, assume_centered=True) if level > 0 else 0.0
        variance, directions = np.linalg.eigh(covariance)
        variance = (1 - amount) * variance + amount * level
        narrowest = NARROWEST * float(np.sqrt(np.square(rows).sum(axis=1).mean())) or 1.0
        return cls(mean, directions / np.sqrt(np.maximum(variance, narrowest**2)))

    def coordinates(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows [n, d] in units of the fitted spread, [n, d]; their norm is D."""
        return (rows - self.mean) @ self.axes
