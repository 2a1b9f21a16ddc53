"""Whether a series of measurements grows: one judge for the service and for its leaking control."""

import statistics
from collections.abc import Sequence
from itertools import combinations

LIMIT = 0.01  # of what it was: growth from which on it is called a leak
LEAST = 12  # measurements, so that a quarter of them has a median


def growth(requests: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much `values` grow from the first request to the last, as a share of the first.

    The larger of two answers: the median slope over all pairs (Theil 1950, Sen 1968), which sees
    what grows steadily through noise and outliers, and the last quarter's median against the
    first's, which sees what grows in one step.

    Args:
        requests: answered before each measurement, ascending.
        values: measured then, positive; at least `LEAST`.
    """
    if len(values) < LEAST or len(values) != len(requests):
        raise ValueError(f"{len(values)} values at {len(requests)} places, {LEAST} are needed")
    points = list(zip(requests, values, strict=True))
    slopes = [(v - u) / (b - a) for (a, u), (b, v) in combinations(points, 2)]
    quarter = len(values) // 4
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    steady = statistics.median(slopes) * (requests[-1] - requests[0])
    return max(steady, last - first) / first


def leaks(requests: Sequence[float], values: Sequence[float]) -> bool:
    """Whether `values` grow by `LIMIT` or more, see `growth`."""
    return growth(requests, values) >= LIMIT
