"""How accuracy grows with labels: an inverse power law.

    accuracy(n) = a - b n^-c,   a <= 1, b >= 0, c > 0

Figueroa et al. 2012, "Predicting sample size required for classification performance" (BMC Medical
Informatics and Decision Making 12:8), eq. 1; Hestness et al. 2017 (arXiv:1712.00409). As there,
later points count more: the j-th of m by j / m. For a given c, a and b are a least-squares problem
of two numbers, solved exactly within its bounds; c is found by golden section between the best
points of a grid.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SLOWEST, FASTEST = 0.05, 2.0  # bounds of c; slower is a logarithm, which has no end
_GRID = 40
_STEPS = 40  # of golden section: c within 1e-8
_GOLDEN = (np.sqrt(5) - 1) / 2


class PowerLaw(NamedTuple):
    """One law or many, of the same shape."""

    a: NDArray[np.float64]  # accuracy with endless labels
    b: NDArray[np.float64]
    c: NDArray[np.float64]

    def __call__(self, labels: float) -> NDArray[np.float64]:
        """Return the accuracy that is expected with so many labels, not below 0."""
        found: NDArray[np.float64] = np.maximum(0, self.a - self.b * float(labels) ** -self.c)
        return found


def fit_power_law(labels: NDArray[np.floating], accuracy: NDArray[np.floating]) -> PowerLaw:
    """Fit a law to each row of `accuracy`.

    Args:
        labels: numbers of labels, ascending, [m], m >= 3.
        accuracy: [..., m].

    Returns:
        Laws of shape [...].
    """
    shape, m = accuracy.shape[:-1], accuracy.shape[-1]
    rows: NDArray[np.float64] = accuracy.astype(np.float64).reshape(-1, m)
    n = np.asarray(labels, np.float64)
    weight = np.arange(1, m + 1) / m
    grid = np.geomspace(SLOWEST, FASTEST, _GRID)
    loss = np.stack([_best(n, rows, weight, np.full(len(rows), c))[2] for c in grid])
    place = loss.argmin(axis=0)
    low, high = grid[np.maximum(place - 1, 0)], grid[np.minimum(place + 1, _GRID - 1)]
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        down = _best(n, rows, weight, left)[2] <= _best(n, rows, weight, right)[2]
        low, high = np.where(down, low, left), np.where(down, right, high)
    c = (low + high) / 2
    a, b, _ = _best(n, rows, weight, c)
    return PowerLaw(a.reshape(shape), b.reshape(shape), c.reshape(shape))


def _best(
    n: NDArray[np.float64],
    rows: NDArray[np.float64],
    weight: NDArray[np.float64],
    c: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the best a and b, and their weighted squared error, each [rows], for given c [rows].

    The problem is convex: its optimum is the free one, or lies on a = 1 or on b = 0.
    """
    x = n ** -c[:, None]
    total = weight.sum()
    mean_x, mean_y = x @ weight / total, rows @ weight / total
    away = x - mean_x[:, None]
    slope = ((away * (rows - mean_y[:, None])) @ weight) / (np.square(away) @ weight)
    free_b = -slope
    free_a = mean_y + free_b * mean_x
    edge_b = np.maximum(0, ((x * (1 - rows)) @ weight) / (np.square(x) @ weight))
    options = [
        (np.minimum(mean_y, 1), np.zeros_like(mean_y), np.ones_like(mean_y, np.bool_)),
        (np.ones_like(mean_y), edge_b, np.ones_like(mean_y, np.bool_)),
        (free_a, free_b, (free_a <= 1) & (free_b >= 0)),
    ]
    best_a, best_b = options[0][:2]
    best = np.full(len(rows), np.inf)
    for a, b, allowed in options:
        error = np.square(a[:, None] - b[:, None] * x - rows) @ weight
        better = allowed & (error < best)
        best_a, best_b = np.where(better, a, best_a), np.where(better, b, best_b)
        best = np.where(better, error, best)
    return best_a, best_b, best
