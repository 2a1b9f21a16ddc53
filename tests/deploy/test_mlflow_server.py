"""deploy/mlflow-server, the start script of the MLflow image, on a real PostgreSQL."""

import os
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "mlflow-server"


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


@pytest.mark.slow
def test_it_keeps_models_in_postgresql_and_hides_the_password(mlflow_stack, tmp_path):
    """The server keeps a registered model, answers only allowed hosts, and shows no password."""
    with (
        mlflow_stack.postgres() as database,
        mlflow_stack.mlflow_server(database, str(tmp_path / "artifacts"), tmp_path) as url,
    ):
        client = MlflowClient(url)
        client.create_registered_model("kept")
        assert [model.name for model in client.search_registered_models()] == ["kept"]
        stranger = httpx.get(f"{url}/api/2.0/mlflow/experiments/get", headers={"Host": "evil"})
        assert stranger.status_code == 403
        processes = psutil.Process().children(recursive=True)
        words = [word for process in processes for word in process.cmdline()]
        assert any("--allowed-hosts" in word for word in words)  # the server is among them
        assert not any(mlflow_stack.PASSWORD in word for word in words)
        assert mlflow_stack.PASSWORD not in (tmp_path / "mlflow.log").read_text()
