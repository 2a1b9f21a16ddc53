"""MLflow as it is deployed: its start script, on a real PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(__file__).parents[1] / "deploy" / "mlflow-server"
PASSWORD = "it's a p@ssword/with:signs%"
START_SECONDS = 240


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def postgres() -> Iterator[int]:
    """Run a PostgreSQL server with the database `mlflow`; yields its port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        message = "PostgreSQL is not installed: apt-get install postgresql"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)

        def run(program: str, *arguments: object, **options: object) -> None:
            words = [str(programs[-1] / program), *map(str, arguments)]
            subprocess.run(
                words, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120, **options
            )

        data, port = folder / "data", free_port()
        access = ["--auth=scram-sha-256", f"--pwfile={folder}/password"]
        run("initdb", "-D", data, "-U", "mlflow", *access, user=user)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start", user=user)
        try:
            address = ["-h", "127.0.0.1", "-p", port, "-U", "mlflow"]
            run("createdb", *address, "mlflow", env={**os.environ, "PGPASSWORD": PASSWORD})
            yield port
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", user=user)


@contextmanager
def mlflow_server(database: int, artifacts: str, folder: Path, **environment: str) -> Iterator[str]:
    """Run deploy/mlflow-server on the PostgreSQL at port `database`; yields its URL."""
    (folder / "secret").write_text(PASSWORD + "\n")
    port, log = free_port(), folder / "mlflow.log"
    settings = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "POSTGRES_PASSWORD_FILE": str(folder / "secret"),
        "MLFLOW_DATABASE": f"postgresql+psycopg2://mlflow@127.0.0.1:{database}/mlflow",
        "MLFLOW_ARTIFACTS": artifacts,
        "MLFLOW_ALLOWED_HOSTS": "127.0.0.1:*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
        "MLFLOW_PORT": str(port),
        **environment,
    }
    settings.pop("MLFLOW_TRACKING_URI", None)
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [SCRIPT], env=settings, stdout=file, stderr=file, start_new_session=True
        ) as server,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(url):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False
