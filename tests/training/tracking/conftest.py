"""A migrated database to copy, and real MLflow servers on sockets."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pytest

from handful_training.gate import OutOfFold
from handful_training.tracking import Tracker
from handful_training.tracking.store import ENVIRONMENT

START_SECONDS = 180
SERVER_ENVIRONMENT = {
    **ENVIRONMENT,
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "OMP_NUM_THREADS": "1",
}


class Template(NamedTuple):
    """A new database, and all that was printed while it was made and used."""

    path: Path
    stdout: str
    stderr: str


USE_EVERYTHING = """
import sys
from pathlib import Path
from handful_training.tracking import Tracker, origin
tracker = Tracker.open()
with tracker.run("quiet", tags=origin()) as run:
    run.params({"a": 1})
    with run.child("pretrain") as child:
        child.metrics({"loss": 1.0}, step=1)
    run.artifacts(Path(sys.argv[1]))
    version = tracker.registry.register("quiet", Path(sys.argv[1]), run)
tracker.registry.consider("quiet", version)
tracker.registry.download("quiet", version, Path("work"))
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory, bundle_dir) -> Template:
    """Made by a first use in an empty folder, in a process of its own; migrating takes seconds."""
    home = tmp_path_factory.mktemp("template")
    environment = {name: text for name, text in os.environ.items() if "MLFLOW" not in name}
    done = subprocess.run(
        [sys.executable, "-c", USE_EVERYTHING, str(bundle_dir)],
        cwd=home, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Template(home / "mlflow.db", done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def own_mlflow(monkeypatch):
    """MLflow keeps its URI in the process and the environment: put both back."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture
def database(template, tmp_path) -> Path:
    """A copy of the migrated database, in a folder of its own."""
    return Path(shutil.copy(template.path, tmp_path / "mlflow.db"))


@pytest.fixture
def tracker(database) -> Tracker:
    """A tracker on a sqlite file."""
    return Tracker.open(f"sqlite:///{database}")


@pytest.fixture
def out_of_fold():
    """Return predictions for the classes of `bundle_dir`, right where `right` says."""

    def make(right) -> OutOfFold:
        target = np.arange(len(right)) % 3
        said = np.where(right, target, (target + 1) % 3)
        keys = tuple(f"sha256:{i:064x}" for i in range(len(right)))
        probabilities = np.eye(3, dtype=np.float32)[said]
        return OutOfFold(keys, probabilities, target, ("cat", "dog", "owl"))

    return make


@pytest.fixture
def register(bundle_dir):
    """Return the function that makes one version in a run of its own."""

    def make(tracker, *, name="animals", bundle=None, out_of_fold=None) -> str:
        with tracker.run(name) as run:
            return tracker.registry.register(
                name, bundle or bundle_dir, run, out_of_fold=out_of_fold
            )

    return make


@pytest.fixture(scope="session")
def serve():
    """Return the context in which an MLflow process answers at its URL."""
    return _serve


@contextmanager
def _serve(*arguments: str, health: str = "/health", env: dict[str, str] | None = None):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls uvicorn
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:  # a pipe that nobody reads would fill, and stop it
        address = ("--host", "127.0.0.1", "--port", str(port))
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments, *address],
            env={**os.environ, **SERVER_ENVIRONMENT, "PATH": path, **(env or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(process, url + health, log)
            yield url
        finally:
            with suppress(ProcessLookupError):  # its children too, which uvicorn and gunicorn have
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen, url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                log.seek(0)
                pytest.fail(f"MLflow did not start: {log.read().decode()[-3000:]}")
            time.sleep(0.2)
