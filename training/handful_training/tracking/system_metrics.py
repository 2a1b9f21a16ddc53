"""CPU, memory, disk, network and GPUs beside a training's curves, as MLflow's page draws them.

MLflow's own monitor measures. It is not let loose as a thread of its own: that one asks the
server every ten seconds whether the run still runs, gives up for good at the first silence, and
makes the run's end wait for it. Here samples are only collected; the run sends them along with
its metrics, so a server that is away loses none and delays nothing.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from handful_training.tracking.store import Store, quiet

PREFIX = "system/"  # where MLflow's page looks for them
SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"  # MLflow's own; unset means on

Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step

_log = logging.getLogger(__name__)


@contextmanager
def sampled(store: Store, run_id: str, keep: Callable[[Point], None]) -> Iterator[None]:
    """Hand a point per quantity to `keep`, from another thread, every ten seconds of the block.

    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL sets other seconds.
    """
    if os.environ.get(SWITCH, "true").lower() not in {"true", "1"}:
        yield
        return
    monitor = _monitor(store, run_id)
    if monitor is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_sample, args=(monitor, ended, keep), name="system-metrics", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _monitor(store: Store, run_id: str) -> Any:
    try:
        with quiet():
            from mlflow.system_metrics.system_metrics_monitor import (  # noqa: PLC0415 - slow, as all
                SystemMetricsMonitor,
            )

            monitor: Any = SystemMetricsMonitor
            return monitor(run_id, tracking_uri=store.uri)
    except Exception as error:  # noqa: BLE001 - no counters here; training goes on without
        _log.warning("no system metrics (%s: %s)", type(error).__name__, error)
        return None


def _sample(monitor: Any, ended: threading.Event, keep: Callable[[Point], None]) -> None:
    step, over = 0, False
    try:
        monitor.collect_metrics()  # the first reading of a counter is no rate yet
        while not over:
            for one in monitor.monitors:
                one.clear_metrics()
            over = ended.wait(monitor.sampling_interval)
            monitor.collect_metrics()
            now = time.time_ns() // 1_000_000
            for name, value in monitor.aggregate_metrics().items():
                keep((PREFIX + name, float(value), now, step))
            step += 1
    except Exception as error:  # noqa: BLE001 - drivers fail in their own ways; training goes on
        _log.warning("system metrics ended (%s: %s)", type(error).__name__, error)
