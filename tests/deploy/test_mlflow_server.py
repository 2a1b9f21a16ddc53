"""deploy/mlflow-server, the start script of the MLflow image, on a real PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "mlflow-server"
PASSWORD = "it's a p@ssword/with:signs%"
INSTALL = "apt-get install postgresql"


def _compose_database() -> str:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services["mlflow"]["environment"]["MLFLOW_DATABASE"]


def test_the_database_driver_is_the_one_that_the_image_installs():
    """The URL in docker-compose.yml means the database driver that MLflow's image installs."""
    driver = make_url(_compose_database()).get_dialect()().import_dbapi().__name__
    assert driver == "psycopg2"
    assert f"\n{driver}-binary==" in (ROOT / "deploy" / "requirements-mlflow.txt").read_text()


def test_without_its_settings_it_says_which_is_missing(tmp_path):
    """The script names the variable that it lacks and what it holds."""
    done = subprocess.run(
        [SCRIPT], env={"PATH": os.environ["PATH"]}, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"POSTGRES_PASSWORD_FILE: names the file that holds the password" in done.stderr


@pytest.fixture
def postgres() -> Iterator[int]:
    """A PostgreSQL server with the database `mlflow`; yields its port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        message = f"PostgreSQL is not installed: {INSTALL}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)

        def run(program: str, *arguments: object, **options: Any) -> None:
            words = [str(programs[-1] / program), *map(str, arguments)]
            subprocess.run(
                words, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60, **options
            )

        data, port = folder / "data", _free_port()
        access = ["--auth=scram-sha-256", f"--pwfile={folder}/password"]
        run("initdb", "-D", data, "-U", "mlflow", *access, user=user)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start", user=user)
        try:
            address = ["-h", "127.0.0.1", "-p", port, "-U", "mlflow"]
            run("createdb", *address, "mlflow", env={**os.environ, "PGPASSWORD": PASSWORD})
            yield port
        finally:
            run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop", user=user)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_it_keeps_models_in_postgresql_and_hides_the_password(postgres, tmp_path):
    """The server keeps a registered model, answers only allowed hosts, and shows no password."""
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    port = _free_port()
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POSTGRES_PASSWORD_FILE": str(secret),
        "MLFLOW_DATABASE": _compose_database().replace("postgres:5432", f"127.0.0.1:{postgres}"),
        "MLFLOW_ARTIFACTS": str(tmp_path / "artifacts"),
        "MLFLOW_ALLOWED_HOSTS": f"127.0.0.1:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
        "MLFLOW_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [SCRIPT], env=environment, stdout=file, stderr=file, start_new_session=True
        ) as server,
    ):
        try:
            deadline = time.monotonic() + 180
            while not _answers(url):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            client = MlflowClient(url)
            client.create_registered_model("kept")
            assert [model.name for model in client.search_registered_models()] == ["kept"]
            stranger = httpx.get(f"{url}/api/2.0/mlflow/experiments/get", headers={"Host": "evil"})
            assert stranger.status_code == 403
            arguments = Path(f"/proc/{server.pid}/cmdline").read_text()
            assert PASSWORD not in arguments + log.read_text()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False
