"""Servers to measure: ours, HTTP alone, and what users could pick instead.

All get the same ONNX file, pixels code, onnxruntime and number of threads. Which advice of its
makers each peer follows stands in its adapter, in peers/. Where several cores are used, a peer has
a worker process per core with one thread each, as all of them advise for models on a CPU; Handful
has one process, and `--workers` beside it.
"""

import functools
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from serving_load import ServerFailed
from serving_requests import Form, Reader, in_json, multipart, one_or_many, raw, rows

HERE = Path(__file__).parent
PEERS = HERE / "peers"
CODE = [HERE.parents[1] / name for name in ("bundle", "service")]  # of this very tree
WIDTH = 64  # of an embedding

Words = Sequence[str | Path]


class Place(NamedTuple):
    """Where a server runs."""

    python: Path
    bundle: Path
    folder: Path  # of its own
    ports: tuple[int, int, int]  # the first is where it answers
    cores: int


_ROWS = rows(WIDTH, "embeddings")


@dataclass(frozen=True)
class Server:
    """One of them.

    Attributes:
        name: for tables.
        command: what starts it.
        form: images as it takes them.
        read: the embeddings in its answer.
        peer: whose virtual environment it needs; None: ours.
        batches: whether it takes several images in one request.
        workers: of one core each where there are several; else one with as many threads.
    """

    name: str
    command: Callable[[Place], Words]
    form: Form
    read: Reader = _ROWS
    peer: str | None = None
    batches: bool = True
    workers: bool = True


def environment() -> dict[str, str]:
    """Return the variables that every server gets."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("HANDFUL_", "PYTHONPATH"))}
    return ours | {
        "PYTHONPATH": os.pathsep.join(map(str, [*CODE, PEERS])),
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # what `mlflow models serve` has no options for
        "UVICORN_ACCESS_LOG": "false",
        "UVICORN_LOG_LEVEL": "warning",
    }


def _script(name: str) -> Callable[[Place], Words]:
    return lambda place: [place.python, PEERS / name]


def _handful(place: Place, *more: str) -> Words:
    serve = place.python.with_name("handful-serve")
    port = str(place.ports[0])
    return [serve, "--model", place.bundle, "--port", port, "--device", "cpu", *more]


def _bento(place: Place) -> Words:
    bento = place.python.with_name("bentoml")
    return [
        bento, "serve", "bento_service:Images", "--working-dir", PEERS,
        "--host", "127.0.0.1", "--port", str(place.ports[0]),
    ]  # fmt: skip


def _mlserver(place: Place) -> Words:
    model = {
        "name": "images",
        "implementation": "mlserver_runtime.Runtime",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    settings = {
        "host": "127.0.0.1",
        **dict(zip(("http_port", "grpc_port", "metrics_port"), place.ports, strict=True)),
        "debug": False,
        "parallel_workers": place.cores if place.cores > 1 else 0,
    }
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    (place.folder / "settings.json").write_text(json.dumps(settings))
    return [place.python.with_name("mlserver"), "start", place.folder]


def _mlflow(place: Place) -> Words:
    model = _mlflow_model(place.python, place.folder / "model")
    return [
        place.python.with_name("mlflow"), "models", "serve", "-m", model, "-h", "127.0.0.1",
        "-p", str(place.ports[0]), "--env-manager", "local", "--workers", str(place.cores),
    ]  # fmt: skip


@functools.cache  # saved once in a run of the bench
def _mlflow_model(python: Path, root: Path) -> Path:
    code = (
        "import shutil, sys, mlflow; shutil.rmtree(sys.argv[1], ignore_errors=True); "
        "mlflow.pyfunc.save_model(sys.argv[1], python_model=sys.argv[2], pip_requirements=[])"
    )
    done = subprocess.run(
        [python, "-c", code, root, PEERS / "mlflow_model.py"],
        check=False, capture_output=True, text=True, env=environment(), cwd=root.parent,
    )  # fmt: skip
    if done.returncode:
        raise ServerFailed(f"MLflow cannot save the model:\n{done.stderr[-1000:]}")
    return root


def _infer(files: list[str]) -> object:
    """Return a request of the Open Inference Protocol."""
    image = {
        "name": "image",
        "shape": [len(files), 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": files,
    }
    return {"inputs": [image]}


_EMBED = one_or_many(raw("/embed"), multipart("/embed"))
HANDFUL = Server("Handful", _handful, _EMBED, workers=False)
PROCESSES = Server(
    "Handful, a process per core",
    lambda place: _handful(place, "--workers", str(place.cores)),
    _EMBED,
)
CONSTANT = Server("HTTP alone", _script("constant.py"), raw("/embed"), batches=False, workers=False)
ROUTE = Server(
    "FastAPI route",
    _script("fastapi_route.py"),
    one_or_many(raw("/embed"), multipart("/embed-many")),
)
PEER_SERVERS = (
    ROUTE,
    Server(
        "LitServe",
        _script("litserve_server.py"),
        in_json("/predict", lambda files: {"image": files[0]}),
        peer="litserve",
        batches=False,
    ),
    Server(
        "BentoML",
        _bento,
        in_json("/embed", lambda files: {"images": files}),
        rows(WIDTH),
        peer="bentoml",
    ),
    Server(
        "MLServer",
        _mlserver,
        in_json("/v2/models/images/infer", _infer),
        rows(WIDTH, "outputs", 0, "data"),
        peer="mlserver",
    ),
    Server(
        "MLflow",
        _mlflow,
        in_json("/invocations", lambda files: {"inputs": files}),
        rows(WIDTH, "predictions"),
        peer="mlflow",
    ),
)
