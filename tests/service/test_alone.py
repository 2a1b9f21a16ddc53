"""The service in an environment of its own: no torch, no sklearn, no mlflow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the tests that run there need; everything else comes with the extra.
TOOLS = ("httpx", "hypothesis", "pytest", "pytest-timeout")
TESTS = (
    "test_forms.py", "test_headers.py", "test_batching.py", "test_batching_threads.py",
    "test_backlog.py", "test_cache.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment into which plain pip put `handful[service]`."""
    home = tmp_path_factory.mktemp("alone") / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    interpreter = home / "bin" / "python"
    install = [interpreter, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    done = subprocess.run(
        [*install, f"{ROOT}[service]", *TOOLS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return interpreter


@pytest.mark.parametrize("name", ["torch", "sklearn", "mlflow", "pandas", "matplotlib"])
def test_training_is_absent(python: Path, name: str) -> None:
    """The extra `service` brings no training library along."""
    code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_service_serves_there(python: Path, tmp_path: Path) -> None:
    """The service's own tests, real server processes among them, pass in that environment."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "HANDFUL_", "MLFLOW_", "COV"))
    }
    done = subprocess.run(
        [
            python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "--basetemp", tmp_path / "tests", *(f"tests/service/{name}" for name in TESTS),
        ],
        cwd=ROOT, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_registry_without_mlflow(python: Path, tmp_path: Path) -> None:
    """Asked for a registered model there, the service is alive, not ready, and names what to
    install.
    """
    code = (
        "from handful_service.registry import Reference, Registry\n"
        "try: Registry(Reference.parse('models:/handful@champion')).resolve()\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [python, "-c", code],
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pip install 'handful[registry]'" in done.stdout
