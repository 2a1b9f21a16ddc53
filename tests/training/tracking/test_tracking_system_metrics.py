"""CPU, memory and GPUs beside a run's own metrics."""

import threading
import time

import pytest

CPU = "system/cpu_utilization_percentage"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Twenty samples a second instead of one in ten."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")


def test_the_machine_is_sampled_while_the_block_runs(tracker):
    """Samples have rising steps and times, lie within their bounds, and end with the block."""
    client = tracker._store.client
    with tracker.run("animals") as run:
        with run.system_metrics():
            time.sleep(0.5)
        assert not [t for t in threading.enumerate() if t.name == "system-metrics"]
    cpu = client.get_metric_history(run.id, CPU)
    assert len(cpu) >= 2
    assert [point.step for point in cpu] == list(range(len(cpu)))
    assert all(0 <= point.value <= 100 for point in cpu)
    assert client.get_run(run.id).data.metrics["system/system_memory_usage_megabytes"] > 0


def test_even_the_shortest_training_has_a_sample(tracker):
    """The end of the block is sampled."""
    with tracker.run("animals") as run, run.system_metrics():
        pass
    assert CPU in tracker._store.client.get_run(run.id).data.metrics


def test_mlflows_own_switch_turns_it_off(tracker, monkeypatch):
    """MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false is obeyed."""
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with tracker.run("animals") as run, run.system_metrics():
        time.sleep(0.1)
    assert tracker._store.client.get_run(run.id).data.metrics == {}


def test_counters_that_fail_do_not_fail_the_training(tracker, monkeypatch, caplog):
    """A driver's error ends the sampling with one warning, not the block."""
    import psutil

    def broken(*_):
        raise OSError("no such counter")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    with tracker.run("animals") as run, run.system_metrics():
        run.metrics({"loss": 1.0})
    assert tracker._store.client.get_run(run.id).data.metrics == {"loss": 1.0}
    assert "no such counter" in caplog.text


class Road:
    """The way to MLflow, which can be closed."""

    def __init__(self, client) -> None:
        self._client, self.closed = client, False

    def __getattr__(self, name):
        if self.closed:
            raise ConnectionError("away")
        return getattr(self._client, name)


def test_a_server_that_is_away_loses_no_sample(tracker):
    """What was sampled meanwhile is sent when the server is back, at the latest at the end."""
    client = tracker._store.client
    road = Road(client)
    object.__setattr__(tracker._store, "client", road)
    with tracker.run("animals") as run:
        road.closed = True
        with run.system_metrics():
            for step in range(600):
                run.metrics({"loss": 1.0}, step=step)
            time.sleep(0.2)
        road.closed = False
    assert len(client.get_metric_history(run.id, "loss")) == 600
    assert len(client.get_metric_history(run.id, CPU)) >= 2
