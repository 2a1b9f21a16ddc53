"""Servers to measure: ours, HTTP alone, and what users could pick instead, each as its guide says.

All get the same ONNX file, pixels code, onnxruntime and threads. Peers live in virtual environments
of their own below the work folder, made by `pip install` the first time.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from serving_cases import Case
from serving_load import Request, send

HERE = Path(__file__).parent
PEERS = HERE / "peers"
BUNDLE_CODE = HERE.parents[1] / "bundle"
PATIENCE = 180  # seconds until a server answers
SAME = ("numpy", "onnxruntime-gpu", "pillow", "pydantic", "simplejpeg")
JSON = {"Content-Type": "application/json"}


def _raw(file: bytes) -> Request:
    return Request("/embed", {"Content-Type": "image/jpeg"}, file)


def _in_json(path: str, body: Callable[[str], Any]) -> Callable[[bytes], Request]:
    def request(file: bytes) -> Request:
        text = base64.b64encode(file).decode()
        return Request(path, JSON, json.dumps(body(text)).encode())

    return request


def _rows(*keys: str | int) -> Callable[[bytes], NDArray[np.float32]]:
    def read(body: bytes) -> NDArray[np.float32]:
        found = json.loads(body)
        for key in keys:
            found = found[key]
        return np.array(found, np.float32).reshape(-1)

    return read


_EMBEDDINGS = _rows("embeddings", 0)


@dataclass(frozen=True)
class Server:
    """One of them.

    Attributes:
        name: for tables.
        command: what starts it, given the interpreter, the case, the port and a folder of its own.
        request: one image as it takes it.
        read: its answer as the embedding, [64].
        packages: that its virtual environment holds; None: ours.
    """

    name: str
    command: Callable[[Path, Case, int, Path], Sequence[str | Path]]
    request: Callable[[bytes], Request] = _raw
    read: Callable[[bytes], NDArray[np.float32]] = _EMBEDDINGS
    packages: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    process: psutil.Process
    seconds: float  # until it did


def _script(name: str) -> Callable[[Path, Case, int, Path], Sequence[str | Path]]:
    return lambda python, case, port, folder: [python, PEERS / name]  # noqa: ARG005


def _ours(python: Path, case: Case, port: int, _: Path) -> Sequence[str | Path]:
    serve = python.with_name("handful-serve")
    return [serve, "--model", case.root, "--port", str(port), "--device", "cpu"]


def _bento(python: Path, _: Case, port: int, folder: Path) -> Sequence[str | Path]:
    del folder
    bento = python.with_name("bentoml")
    return [bento, "serve", "bento_service:Images", "--working-dir", PEERS, "--port", str(port)]


def _mlserver(python: Path, _: Case, port: int, folder: Path) -> Sequence[str | Path]:
    model = {
        "name": "images",
        "implementation": "mlserver_runtime.Runtime",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    return [python.with_name("mlserver"), "start", folder]


def _mlflow(python: Path, _: Case, port: int, folder: Path) -> Sequence[str | Path]:
    shutil.rmtree(folder, ignore_errors=True)
    code = (
        "import sys, mlflow; mlflow.pyfunc.save_model(sys.argv[1], python_model=sys.argv[2],"
        " pip_requirements=[])"
    )
    script = PEERS / "mlflow_model.py"
    subprocess.run(
        [python, "-c", code, folder, script], check=True, capture_output=True, env=_environment()
    )
    mlflow = python.with_name("mlflow")
    return [mlflow, "models", "serve", "-m", folder, "-p", str(port), "--env-manager", "local"]


HANDFUL = Server("Handful", _ours)
CONSTANT = Server("HTTP alone", _script("constant.py"))
ROUTE = Server("FastAPI route", _script("fastapi_route.py"))
OTHERS = (
    ROUTE,
    Server(
        "LitServe", _script("litserve_server.py"), _in_json("/predict", lambda t: {"image": t}),
        packages=("litserve",),
    ),
    Server(
        "BentoML", _bento, _in_json("/embed", lambda t: {"images": [t]}), _rows(0),
        packages=("bentoml",),
    ),
    Server(
        "MLServer", _mlserver,
        _in_json(
            "/v2/models/images/infer",
            lambda t: {
                "inputs": [
                    {"name": "image", "shape": [1, 1], "datatype": "BYTES",
                     "parameters": {"content_type": "base64"}, "data": [t]}
                ]
            },
        ),
        _rows("outputs", 0, "data"), packages=("mlserver",),
    ),
    Server(
        "MLflow", _mlflow,
        _in_json("/invocations", lambda t: {"dataframe_split": {"columns": ["image"],
                                                               "data": [[t]]}}),
        _rows("predictions", 0),
    ),
)  # fmt: skip


@contextmanager
def started(
    server: Server, case: Case, work: Path, *, cores: Sequence[int], threads: int
) -> Iterator[Running]:
    """Start a server on some cores, and wait until it answers rightly.

    Args:
        server: which.
        case: what it serves.
        work: where virtual environments, models and logs go.
        cores: that all its processes run on.
        threads: of one model run.
    """
    python = Path(sys.executable) if server.packages is None else _python(server, work)
    port = _free_port()
    folder = work / "models" / server.name
    command = server.command(python, case, port, folder)
    environment = _environment() | {
        "BENCH_BUNDLE": str(case.root),
        "BENCH_THREADS": str(threads),
        "BENCH_PORT": str(port),
        "HANDFUL_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }
    url = f"http://127.0.0.1:{port}"
    log = work / f"{server.name}.log"
    pinned = ["taskset", "-c", ",".join(map(str, cores))]
    with log.open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            [*pinned, *command], env=environment, stdout=output, stderr=output, cwd=PEERS
        )
    try:
        while not _answers(server, case, url):
            if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                sys.exit(f"{server.name} does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        ready = time.monotonic() - begun
        _check(server, case, url)
        yield Running(url, psutil.Process(process.pid), ready)
    finally:
        _stop(process)


def _answers(server: Server, case: Case, url: str) -> bool:
    try:
        send(url, server.request(case.pictures[0]))
    except (OSError, SystemExit):
        return False
    return True


def _check(server: Server, case: Case, url: str) -> None:
    """End the bench where an answer is not the offline embedding."""
    if server is CONSTANT:
        return
    for picture, expected in zip(case.pictures, case.embeddings, strict=True):
        found = server.read(send(url, server.request(picture)))
        if found.shape != expected.shape or not np.allclose(found, expected, atol=1e-4):
            sys.exit(f"{server.name} gives another embedding than the encoder does")


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid)
    everyone = [*family.children(recursive=True), family]
    process.terminate()
    _, alive = psutil.wait_procs(everyone, timeout=10)
    for one in alive:
        one.kill()
    process.wait()


def _python(server: Server, work: Path) -> Path:
    """Return the interpreter of a peer's virtual environment, made now or before."""
    assert server.packages is not None
    home = (work / "venvs" / server.name).absolute()
    if not (home / "made").exists():
        print(f"installing {server.name} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        without = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
        subprocess.run(
            [home / "bin" / "pip", "install", "-q", *server.packages, *SAME],
            check=True,
            env=without,
        )
        (home / "made").touch()
    return home / "bin" / "python"


def _environment() -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HANDFUL_", "PYTHONPATH"))}
    return ours | {"PYTHONPATH": f"{BUNDLE_CODE}{os.pathsep}{PEERS}"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
