"""MLflow that keeps its files in an object store, and a service that has mlflow-skinny alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from handful_bundle.bundle import Bundle
from handful_training.tracking import Tracker

ROOT = Path(__file__).parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3():
    """An S3 with the bucket `models`; yields its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        client.create_bucket(Bucket="models")
        yield url, client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def stack(mlflow_stack, s3, tmp_path_factory):
    """MLflow on PostgreSQL that proxies its artifacts to the bucket; yields its URL."""
    url, _ = s3
    with (
        mlflow_stack.postgres() as database,
        mlflow_stack.mlflow_server(
            database, "s3://models/mlflow", tmp_path_factory.mktemp("stack"),
            MLFLOW_S3_ENDPOINT_URL=url, AWS_DEFAULT_REGION="us-east-1", **KEYS,
        ) as server,
    ):  # fmt: skip
        yield server


@pytest.fixture
def register(stack):
    """Return the function that makes a bundle the champion of `animals`."""

    def make(bundle: Path) -> str:
        tracker = Tracker.open(stack)
        with tracker.run("animals") as run:
            version = tracker.registry.register("animals", bundle, run)
        tracker.registry.consider("animals", version)
        return version

    return make


def test_files_go_to_the_object_store_and_come_back(
    stack, s3, register, bundle_dir, tmp_path, monkeypatch
):
    """The client has no key of the store: everything passes through MLflow's proxy."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    version = register(bundle_dir)
    _, bucket = s3
    kept = {item["Key"] for item in bucket.list_objects_v2(Bucket="models")["Contents"]}
    assert [key for key in kept if key.endswith("artifacts/bundle/encoder.onnx")]
    folder = Tracker.open(stack).registry.download("animals", version, tmp_path)
    assert Bundle.load(folder).manifest == Bundle.load(bundle_dir).manifest


@pytest.fixture(scope="module")
def skinny(tmp_path_factory):
    """The `handful-serve` of a new environment with what the service's image installs."""
    home = tmp_path_factory.mktemp("skinny") / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    install = [home / "bin" / "python", "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*install, "-c", ROOT / "constraints.txt", f"{ROOT}[service,registry]"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return home / "bin" / "handful-serve"


def test_a_service_with_mlflow_skinny_follows_the_champion(
    stack, skinny, register, make_bundle, tmp_path
):
    """Without MLflow's own server parts it fetches through the proxy, serves, and swaps."""
    listed = subprocess.run(
        [skinny.with_name("python"), "-m", "pip", "list", "--format=json"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    names = {package["name"] for package in json.loads(listed)}
    assert "mlflow-skinny" in names
    assert not names & {"mlflow", "sqlalchemy", "boto3", "torch", "scikit-learn"}

    first = register(make_bundle(tmp_path / "a", head_seed=11))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AWS", "HANDFUL"))}
    log = tmp_path / "serve.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [skinny, "--model", "models:/animals@champion", "--port", "0"],
            env=clean | {"MLFLOW_TRACKING_URI": stack, "HANDFUL_POLL_SECONDS": "0.2",
                         "HANDFUL_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path, stdout=output, stderr=output,
        ) as process,
    ):  # fmt: skip
        try:
            _wait_for(process, log, first)
            _wait_for(process, log, register(make_bundle(tmp_path / "b", head_seed=12)))
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, log.read_text()


def _wait_for(process: subprocess.Popen[bytes], log: Path, version: str) -> None:
    """Return once the service answers with `version`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            try:
                if httpx.get(f"{found[0]}/model").headers["X-Model-Version"] == version:
                    return
            except httpx.TransportError:
                pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())
