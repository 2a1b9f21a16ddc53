"""Laws of the counters and histograms that need no lock."""

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from handful_service.tallies import Counts, Distributions

BOUNDS = (0.001, 0.5, 1, 30)
LABELS = st.sampled_from("abc")
AMOUNTS = st.sampled_from(BOUNDS) | st.floats(0, 100)


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS, AMOUNTS)), st.lists(st.tuples(LABELS, AMOUNTS)))
def test_they_say_what_prometheus_clients_own_say(
    added: list[tuple[str, str, float]], observed: list[tuple[str, float]]
) -> None:
    """Whatever is counted, `/metrics` has the very text that prometheus_client would write."""
    disable_created_metrics()
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = (
        Counts("n_total", "A count", ["one", "other"], ours),
        Counter("n_total", "A count", ["one", "other"], registry=theirs),
    )
    histograms = (
        Distributions("n_seconds", "Times", "one", BOUNDS, ours),
        Histogram("n_seconds", "Times", ["one"], buckets=BOUNDS, registry=theirs),
    )
    for counter in counters:
        for one, other, amount in added:
            counter.labels(one, other).inc(amount)
    for histogram in histograms:
        for one, amount in observed:
            histogram.labels(one).observe(amount)
    assert generate_latest(ours) == generate_latest(theirs)
