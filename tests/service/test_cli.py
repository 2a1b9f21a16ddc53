"""`handful-serve`: exit statuses, one line with the remedy, workers."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handful_service.server import serve as serve_once
from handful_service.supervisor import Post

SERVE = Path(sys.executable).with_name("handful-serve")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HANDFUL_", "MLFLOW_"))}
    return subprocess.run(
        [SERVE, *arguments],
        env={**ours, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "remedy"),
    [
        (["--model", "/no/such/folder"], {}, "handful-train export"),
        (["--model", "models:/x"], {}, "models:/NAME@ALIAS"),
        (["--port", "many"], {}, "--port"),
        (["--port", "70000"], {}, "65535"),
        (["--device", "tpu"], {}, "'cuda'"),
        (["--wrong"], {}, "--help"),
        ([], {"HANDFUL_PORT": "-1"}, "HANDFUL_PORT"),
        ([], {"HANDFUL_QUEUE_ROWS": "3"}, "HANDFUL_QUEUE_ROWS to at least 128"),
        (["--workers", "2", "--device", "cuda"], {}, "leave it at 1"),
    ],
)
def test_bad_usage(arguments, environment, remedy, monkeypatch, capsys) -> None:
    """Bad usage ends with status 2 and one line on stderr that names the remedy."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        serve_once(arguments, Post())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("handful-serve: ")
    assert remedy in line


def test_damaged_bundle(make_bundle, tmp_path) -> None:
    """A bundle that is not to be trusted ends with status 1 and one line, before the port opens."""
    root = make_bundle(tmp_path / "bundle")
    (root / "head.onnx").write_bytes(b"other")
    done = run("--model", str(root))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "head.onnx" in line


def test_taken_port(bundle_dir) -> None:
    """A port in use ends with status 2 and the flag to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--model", str(bundle_dir), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "choose another with --host and --port" in done.stderr


def test_help_names_every_variable(capsys) -> None:
    """--help lists the flags of the contract and names each further variable."""
    with pytest.raises(SystemExit) as ended:
        serve_once(["--help"], Post())
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--model", "--host", "--port", "--device", "--workers"):
        assert flag in shown
    assert "HANDFUL_QUEUE_BYTES" in shown


def test_flags_win_over_variables(serve, bundle_dir) -> None:
    """A setting comes from its variable unless its flag says otherwise; it binds this host only."""
    server = serve(
        bundle_dir, "--host", "127.0.0.1", HANDFUL_HOST="127.0.0.2", HANDFUL_MODEL="/nowhere",
        HANDFUL_MAX_IMAGES="7",
    ).wait_ready()  # fmt: skip
    assert server.url.startswith("http://127.0.0.1:")
    assert server.client.get("/model").json()["settings"]["max_images"] == 7


def test_workers(serve, bundle_dir, picture) -> None:
    """With --workers 2 two processes answer on one port with the same model, and stop together."""
    server = serve(bundle_dir, "--workers", "2", HANDFUL_MAX_IMAGES="7").wait_ready()
    server.wait_until(lambda: len(re.findall("serving animals", server.logged())) == 2)
    answer = server.client.post("/embed", content=picture(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    assert server.client.get("/model").json()["settings"]["max_images"] == 7
    assert server.stop() == 0


def test_imports_are_light() -> None:
    """Importing the app draws in neither torch nor sklearn nor mlflow."""
    code = (
        "import sys, handful_service.server;"
        "print(sorted({'torch', 'sklearn', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
