"""Counters and histograms for what every request counts: one thread adds, the same one reads.

prometheus_client's own take a lock for every number that they change, and three of them per
observation. These are for the event loop alone, which also answers `/metrics`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add `amount`, not negative."""
        self.value += amount


class Counts(Collector):
    """A counter: one `Count` for each combination of labels.

    Args:
        name: of the metric; ends in `_total`.
        documentation: its help text.
        labels: names of its labels.
        registry: shows it.
    """

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._described = name, documentation, labels
        self._series: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """Return the series of these label values, a new one if need be."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Count()
        return found

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return all series, for the registry."""
        name, documentation, labels = self._described
        family = CounterMetricFamily(name, documentation, labels=labels)
        for values, count in self._series.items():
            family.add_metric(values, count.value)
        return [family]


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: above all bounds
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """Count `amount` in the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.sum += amount


class Distributions(Collector):
    """A histogram: one `Distribution` for each value of its label.

    Args:
        name: of the metric.
        documentation: its help text.
        label: name of its label.
        bounds: of the buckets, ascending.
        registry: shows it.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._described = name, documentation, [label]
        self._bounds = [float(bound) for bound in bounds]
        self._series: dict[str, Distribution] = {}
        registry.register(self)

    def labels(self, value: str) -> Distribution:
        """Return the series of this label value, a new one if need be."""
        found = self._series.get(value)
        if found is None:
            found = self._series[value] = Distribution(self._bounds)
        return found

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return all series, for the registry."""
        name, documentation, labels = self._described
        family = HistogramMetricFamily(name, documentation, labels=labels)
        names = [*map(repr, self._bounds), "+Inf"]
        for value, series in self._series.items():
            total, buckets = 0, []
            for bound, count in zip(names, series.counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            family.add_metric([value], buckets, series.sum)
        return [family]
