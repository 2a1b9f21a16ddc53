"""Which of two ways is better, on the same images or over the same draws of labels.

Paired, because both see the same: on 100 images two ways of 75 % and 70 % may differ by luck when
each is taken alone, and not when one of them is right wherever the other is.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """Two ways on the same images.

    Attributes:
        n: images.
        first_only: on which only the first is right.
        second_only: on which only the second is.
        difference: accuracy of the second minus that of the first.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: of "neither is better", exact and two-sided.
    """

    n: int
    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p_value: float

    def needed(self) -> int | None:
        """Return how many images would show a difference as large as the one found.

        With a chance of 80 %, at 95 %: n = (z + z')^2 (b + c - (c - b)^2 / N) N / (c - b)^2 of N
        images. None: no difference was found, and no number would show it.
        """
        gap = self.second_only - self.first_only
        if gap == 0:
            return None
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)
        spread = self.first_only + self.second_only - gap**2 / self.n
        return max(1, round(z**2 * spread * self.n / gap**2))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare where two ways are right, each [n], n >= 1.

    The test is McNemar's, exact. The interval is that of Bonett and Price 2012 ("Adjusted Wald
    Confidence Interval for a Difference of Binomial Proportions Based on Paired Data", eq. 7),
    which keeps its coverage on few images.
    """
    n = len(first)
    if n == 0 or len(second) != n:
        raise ValueError(f"{n} and {len(second)} images; both must have the same, one or more")
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    lost, won = (b + 1) / (n + 2), (c + 1) / (n + 2)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    half = z * float(np.sqrt((won + lost - (won - lost) ** 2) / (n + 2)))
    return Paired(
        n,
        b,
        c,
        (c - b) / n,
        max(-1.0, won - lost - half),
        min(1.0, won - lost + half),
        float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0,
    )


@dataclass(frozen=True)
class OverDraws:
    """Two ways over the same draws of labels.

    Attributes:
        draws: how many.
        difference: mean accuracy of the second minus that of the first.
        low: lower end of its 95 % interval by Student's t; -1 with one draw.
        high: upper end; 1 with one draw.
        p_value: of "no difference", two-sided; 1 with one draw.
        fewer_errors: share of the first's errors that the second does not make, by the mean
            accuracies; negative where it makes more.
    """

    draws: int
    difference: float
    low: float
    high: float
    p_value: float
    fewer_errors: float

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def over_draws(first: NDArray[np.floating], second: NDArray[np.floating]) -> OverDraws:
    """Compare accuracies [D] of two ways over the same draws, D >= 1."""
    gaps = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    draws, mean = len(gaps), float(gaps.mean())
    error = 1 - float(np.mean(first))
    fewer = mean / error if error > 0 else 0.0
    if draws < 2:
        return OverDraws(draws, mean, -1.0, 1.0, 1.0, fewer)
    standard_error = float(gaps.std(ddof=1)) / draws**0.5
    if standard_error == 0:  # the same gap in every draw
        return OverDraws(draws, mean, mean, mean, float(mean == 0), fewer)
    half = float(t.ppf((1 + CONFIDENCE) / 2, draws - 1)) * standard_error
    p_value = 2 * float(t.sf(abs(mean) / standard_error, draws - 1))
    return OverDraws(draws, mean, mean - half, mean + half, p_value, fewer)
