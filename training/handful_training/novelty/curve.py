"""Rising curves made of straight pieces, and the two that novelty needs.

    y(x) = start + sum over pieces of slope * clip(x - knot, 0, width)

In this form a curve is a handful of standard ONNX operators.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

BODY = 0.9  # share of the values below the exponential tail
LEAST_EXCESS = 0.1  # standard deviations: where values repeat, rounding is no surprise
ENDLESS = 1e30  # width of a last piece that has no end; float32 holds it
CLOSEST = 0.01  # nats between knots of a distribution: a steeper curve would magnify rounding
KNOTS = 100


@dataclass(frozen=True, eq=False)
class Curve:
    """Constant before its first knot, and after its last piece."""

    start: float
    knots: NDArray[np.float64]  # [J], rising
    widths: NDArray[np.float64]  # [J], > 0
    slopes: NDArray[np.float64]  # [J], >= 0

    @classmethod
    def through(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> Self:
        """Return the curve through the points (x, y), x rising."""
        widths = np.diff(x)
        return cls(float(y[0]), x[:-1], widths, np.diff(y) / widths)

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return y of x, of any shape."""
        pieces = np.clip(x[..., None] - self.knots, 0, self.widths) * self.slopes
        total: NDArray[np.float64] = self.start + pieces.sum(axis=-1)
        return total


def surprise(values: NDArray[np.float64]) -> Curve:
    """Return the curve of -log(share of `values` above x), in nats; x in standard deviations.

    Above the ninth decile an exponential tail with the mean excess of the values there: it goes on
    to tell far from farther where no value has been.
    """
    decile = np.quantile(values, np.arange(0, BODY + 0.05, 0.1))
    levels = -np.log1p(-np.arange(0, BODY + 0.05, 0.1))
    top = decile[-1]
    excess = float((values[values > top] - top).mean()) if (values > top).any() else 0.0
    # Several deciles are equal where values repeat; the highest level counts from there on.
    x, first = np.unique(decile[::-1], return_index=True)
    y = levels[::-1][first]
    widths = np.append(np.diff(x), ENDLESS)
    slopes = np.append(np.diff(y) / np.diff(x), 1 / max(excess, LEAST_EXCESS))
    return Curve(float(y[0]), x, widths, slopes)


def distribution(values: NDArray[np.float64]) -> Curve:
    """Return the curve of the share of `values` [n], in nats, that lie below x.

    The i-th smallest is given i / (n + 1), so that a further value that is exchangeable with them
    is given a uniform one. Equal values are given the share of those strictly below. A value ten
    times rarer than the largest (in nats: + log 10) is given 1.
    """
    n = len(values)
    x, below = np.unique(np.sort(values), return_index=True)  # how many are smaller
    # Dense at the upper end, where thresholds lie.
    wanted = np.concatenate([np.linspace(0, n - 1, KNOTS), n - np.geomspace(1, n, KNOTS)])
    chosen = np.unique(np.searchsorted(below, wanted.round(), side="right") - 1)
    kept = [int(chosen[0])]
    for at in chosen[1:].tolist():
        if x[at] - x[kept[-1]] >= CLOSEST:
            kept.append(at)
    y = (below[kept] + 1) / (n + 1)
    return Curve.through(np.append(x[kept], x[kept[-1]] + np.log(10)), np.append(y, 1.0))
