"""What Prometheus sees. Base units, bounded labels, one registry per app."""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from handful_service.backlog import Backlog
from handful_service.memory import memory_limit
from handful_service.serving import Served
from handful_service.tallies import Counts, Distributions

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one app. Also the batcher's `Observer`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counts(
            "handful_requests_total", "Requests by route and status", ["route", "status"], registry
        )
        self.request_seconds = Distributions(
            "handful_request_duration_seconds", "From header to answer", "route", _SECONDS,
            registry,
        )  # fmt: skip
        phase_seconds = Distributions(
            "handful_phase_duration_seconds",
            "Time of a request with images: decoding, and waiting for a batch", "phase", _SECONDS,
            registry,
        )  # fmt: skip
        self._phases = [(phase, phase_seconds.labels(phase)) for phase in ("decode", "queue")]
        self.problems = Counter(
            "handful_problems_total", "Requests answered with a problem, by route and code",
            ["route", "code"], registry=registry,
        )  # fmt: skip
        self.images = Counts(
            "handful_images_total", "Items answered, by outcome (ok or an error's code)",
            ["outcome"], registry,
        )  # fmt: skip
        for outcome in ("ok", "nonfinite_output"):  # so that an alarm sees the first one
            self.images.labels(outcome)
        self.images_ok = self.images.labels("ok")
        self.abstained = Counter(
            "handful_abstained_total", "Predictions that abstained: the image was too novel",
            registry=registry,
        )  # fmt: skip
        self.abandoned = Counter(
            "handful_requests_abandoned_total", "Requests whose client hung up", registry=registry
        )
        self.dropped = Counter(
            "handful_rows_dropped_total", "Rows not computed because nobody waited, by stage",
            ["stage"], registry=registry,
        )  # fmt: skip
        for stage in ("decode", "queue"):
            self.dropped.labels(stage)
        self.connections = Gauge("handful_connections", "Open connections", registry=registry)
        self.connections_closed = Counter(
            "handful_connections_closed_total",
            "Connections closed for want of a whole header, a whole body, or room", ["reason"],
            registry=registry,
        )  # fmt: skip
        for reason in ("header", "body", "full"):
            self.connections_closed.labels(reason)
        self.batches = Counter("handful_batches_total", "Batches run", registry=registry)
        self.batch_rows = Histogram(
            "handful_batch_rows", "Rows in a batch", buckets=_ROWS, registry=registry
        )
        self.batch_seconds = Histogram(
            "handful_batch_duration_seconds", "Model time of a batch", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.queue_rows = Gauge(
            "handful_queue_rows", "Rows taken in and not yet answered", registry=registry
        )
        self.queue_bytes = Gauge(
            "handful_queue_bytes", "Bytes taken in and not yet answered", registry=registry
        )
        self.queue_rows_limit = Gauge(
            "handful_queue_rows_limit", "Rows at which requests are refused", registry=registry
        )
        self.queue_bytes_limit = Gauge(
            "handful_queue_bytes_limit", "Bytes at which requests are refused", registry=registry
        )
        self.memory_limit = Gauge(
            "handful_memory_limit_bytes", "Memory that this process and its siblings may use",
            registry=registry,
        )  # fmt: skip
        self.memory_limit.set(memory_limit() or float("inf"))
        self.ready = Gauge("handful_ready", "1 if /readyz would answer 200", registry=registry)
        self.model = Gauge(
            "handful_model_info", "The model that answers; always 1",
            ["name", "version", "space", "provider"], registry=registry,
        )  # fmt: skip
        self.models = Gauge(
            "handful_models", "Models in memory: the one that answers, and those it replaced",
            registry=registry,
        )  # fmt: skip
        self.swaps = Counter("handful_swaps_total", "Models put in place", registry=registry)
        self.swap_failures = Counter(
            "handful_swap_failures_total", "Versions that were refused; the old one stayed",
            registry=registry,
        )  # fmt: skip
        self.behind = Gauge(
            "handful_model_behind", "1 if the registry means another version than the one here",
            registry=registry,
        )  # fmt: skip
        self.polls = Counter(
            "handful_registry_polls_total", "Looks at the registry", ["outcome"], registry=registry
        )
        for outcome in ("ok", "failed"):
            self.polls.labels(outcome)
        self.restarts = Counter(
            "handful_restarts_total", "Processes that ended abnormally and were replaced",
            registry=registry,
        )  # fmt: skip
        self.fetched_bytes = Counter(
            "handful_fetched_bytes_total", "Bytes downloaded from the registry", registry=registry
        )

    def watch(self, backlog: Backlog) -> None:
        """Let the queue gauges read `backlog`."""
        self.queue_rows.set_function(lambda: backlog.rows)
        self.queue_bytes.set_function(lambda: backlog.bytes)
        self.queue_rows_limit.set(backlog.max_rows)
        self.queue_bytes_limit.set(backlog.max_bytes)

    def request_ended(
        self, route: str, status: int, seconds: float, phases: Mapping[str, float]
    ) -> None:
        """A request was answered, or given up with `status` 499."""
        for phase, spent in self._phases:
            if phase in phases:
                spent.observe(phases[phase])
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def request_refused(self, route: str, status: int) -> None:
        """A request was refused by its header.

        It has no duration: thousands of zeros would hide how long the others wait.
        """
        self.requests.labels(route, str(status)).inc()

    def batch_ran(self, rows: int, seconds: float) -> None:
        """`rows` ran through a lane in one batch."""
        self.batches.inc()
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def rows_dropped(self, rows: int) -> None:
        """`rows` were not run, because nobody waits for them any more."""
        self.dropped.labels("queue").inc(rows)

    def decodes_dropped(self, images: int) -> None:
        """`images` were not decoded, because nobody waits for them any more."""
        self.dropped.labels("decode").inc(images)

    def serving(self, served: Served) -> None:
        """`served` answers from now on."""
        self.swaps.inc()
        self.model.clear()  # one version at a time keeps the label's values bounded
        self.model.labels(served.name, served.version, served.space, served.bundle.provider).set(1)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
