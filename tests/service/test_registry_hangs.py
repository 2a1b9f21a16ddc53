"""A registry that hangs: whoever has a model answers, whoever has none says so."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_service.cache import Cache
from handful_service.registry import Reference, Registry

REFERENCE = "models:/animals@champion"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_registry_that_hangs_delays_nobody(
    serve, bundle_dir: Path, silent: str, tmp_path: Path, monkeypatch
) -> None:
    """With a registry that never answers, a server with a cached model is ready and answers; one
    without is alive, not ready, and says so; both stop when they are told to.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    key = Registry(Reference.parse(REFERENCE)).key
    cache = Cache(tmp_path / "full")
    root = cache.fetch(lambda file, target: Path(shutil.copyfile(bundle_dir / file, target)))
    cache.remember(key, "7", root)
    settings = {"MLFLOW_TRACKING_URI": silent, "HANDFUL_POLL_SECONDS": "0.05"}
    full = serve(REFERENCE, HANDFUL_CACHE=str(tmp_path / "full"), **settings).wait_ready()
    empty = serve(REFERENCE, HANDFUL_CACHE=str(tmp_path / "empty"), **settings)
    rows = np.zeros((1, 16, 16, 3), np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    body = (tmp_path / "rows.npy").read_bytes()
    wanted = Bundle.load(bundle_dir, device="cpu", threads=1).encoder(rows).embedding
    for _ in range(50):
        answer = full.client.post(
            "/embed", content=body, headers={"Content-Type": "application/x-npy"}
        )
        assert answer.status_code == 200
        assert answer.headers["X-Model-Version"] == "7"
        np.testing.assert_allclose(answer.json()["embeddings"], wanted, rtol=1e-5, atol=1e-6)
    assert empty.status("/livez") == 200
    refused = empty.client.get("/readyz")
    assert refused.status_code == 503
    assert "cache is empty" in refused.text
    assert full.stop() == 0
    assert empty.stop() == 0
