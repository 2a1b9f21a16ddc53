"""The same over HTTP, with a real MLflow server that proxies the artifacts."""

import threading

import pytest

from handful_bundle.bundle import Bundle
from handful_training.errors import TrainingError
from handful_training.tracking import Tracker


def test_everything_over_http_and_a_server_that_goes_away(
    template, tmp_path, serve, bundle_dir, register, out_of_fold, monkeypatch
):
    """Runs, metrics, data, versions, gate, rollback and download work against a server; two
    registrations at once get versions of their own; and when it goes, metrics cost no training.
    """
    database = tmp_path / "server.db"
    database.write_bytes(template.path.read_bytes())
    with serve(
        "server", "--backend-store-uri", f"sqlite:///{database}", "--workers", "1",
        "--serve-artifacts", "--artifacts-destination", str(tmp_path / "artifacts"),
    ) as url:  # fmt: skip
        tracker = Tracker.open(url)
        client = tracker._store.client
        with tracker.run("animals") as run:
            run.params({"seed": 0})
            run.dataset("pool", "sha256:" + "1" * 64, source="pool")
            with run.child("pretrain") as child:
                for step in range(1200):
                    child.metrics({"loss": 1 / (step + 1)}, step=step)
                child.metrics({"loss": float("nan")}, step=1200)
            (tmp_path / "plot.png").write_bytes(b"png")
            run.artifacts(tmp_path / "plot.png", folder="plots")
        assert client.get_run(run.id).info.status == "FINISHED"
        assert len(client.get_metric_history(child.id, "loss")) == 1200
        assert client.get_run(child.id).data.tags["nonfinite.loss"] == "nan at step 1200"
        assert [file.path for file in client.list_artifacts(run.id, "plots")] == ["plots/plot.png"]

        registry = tracker.registry
        first = register(tracker, out_of_fold=out_of_fold([False] * 9))
        assert registry.consider("animals", first).promoted
        second = register(tracker, out_of_fold=out_of_fold([True] * 9))
        decision = registry.consider("animals", second)
        assert (decision.promoted, decision.challenger_only) == (True, 9)
        assert registry.rollback("animals") == first
        folder = registry.download("animals", second, tmp_path / "work")
        assert Bundle.load(folder).manifest == Bundle.load(bundle_dir).manifest

        made: list[str] = []
        threads = [
            threading.Thread(target=lambda: made.append(register(tracker))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == ["3", "4"]
        assert registry.resolve("animals@challenger").version == "4"

        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        opened = tracker.run("animals")
        lost = opened.__enter__()
    for step in range(1000):  # two batches fall due while nobody answers
        lost.metrics({"loss": 1.0}, step=step)
    with pytest.raises(TrainingError, match="MLFLOW_TRACKING_URI"):
        opened.__exit__(None, None, None)
    with pytest.raises(TrainingError, match="MLFLOW_TRACKING_URI"):
        Tracker.open(url)


def test_nobody_answers():
    """With no server at the address, opening fails after one question, with the remedy."""
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:9.*MLFLOW_TRACKING_URI"):
        Tracker.open("http://ann:secret@127.0.0.1:9")
