"""A real service, a server that misbehaves on demand, and images of every kind."""

import asyncio
import inspect
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from handful_client import AsyncHandful, Handful

SERVE = [sys.executable, "-c", "from handful_service.cli import main; main()"]
SPACE = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("HANDFUL_")]:
        monkeypatch.delenv(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(bundle: Path, **settings: str) -> Iterator[str]:
    """Run the real service in a process of its own; yield its URL."""
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    with subprocess.Popen(
        [*SERVE, "--model", str(bundle), "--port", str(port)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            with Handful(url) as client:
                for _ in range(600):
                    if client.ready():
                        break
                    assert process.poll() is None, process.stderr.read()
                    time.sleep(0.05)
                else:
                    pytest.fail("the service was not ready within 30 s")
            # Whatever it logs is read, or a full pipe would stop it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def service(bundle_dir) -> Iterator[str]:
    """URL of a service of the complete bundle."""
    with serving(bundle_dir) as url:
        yield url


@pytest.fixture(scope="session")
def service_of() -> Callable[..., Any]:
    """The context manager that serves another bundle, under other settings."""
    return serving


class BlockingAsync:
    """An `AsyncHandful` behind the blocking interface, so that one test covers both."""

    def __init__(self, client: AsyncHandful, runner: asyncio.Runner) -> None:
        self.client = client
        self.runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args, **kwargs):
            found = method(*args, **kwargs)
            if inspect.isasyncgen(found):
                return self._iterate(found)
            if inspect.iscoroutine(found):
                return self.runner.run(found)
            return BlockingAsync(found, self.runner)  # with_options

        return call

    def _iterate(self, generator):
        async def step():
            return await anext(generator)

        try:
            while True:
                yield self.runner.run(step())
        except StopAsyncIteration:
            pass
        finally:
            self.runner.run(generator.aclose())


@contextmanager
def blocking_async(client: AsyncHandful) -> Iterator[BlockingAsync]:
    with asyncio.Runner() as runner:
        yield BlockingAsync(client, runner)
        runner.run(client.close())


@pytest.fixture(params=["sync", "async", "local", "async-local"])
def client(request) -> Iterator[Any]:
    """Every way to the same answers: two clients, each over the service and over the bundle."""
    if request.param == "sync":
        with Handful(request.getfixturevalue("service")) as made:
            yield made
    elif request.param == "async":
        with blocking_async(AsyncHandful(request.getfixturevalue("service"))) as made:
            yield made
    elif request.param == "local":
        with Handful.local(request.getfixturevalue("bundle_dir"), threads=1) as made:
            yield made
    else:
        bundle = request.getfixturevalue("bundle_dir")
        with blocking_async(AsyncHandful.local(bundle, threads=1)) as made:
            yield made


@pytest.fixture(params=["sync", "async"])
def connect(request) -> Iterator[Callable[..., Any]]:
    """Makes a client of either kind for any URL."""
    opened: list[Any] = []
    with asyncio.Runner() as runner:

        def make(url: str, **options: Any) -> Any:
            if request.param == "sync":
                opened.append(Handful(url, **options))
            else:
                opened.append(BlockingAsync(AsyncHandful(url, **options), runner))
            return opened[-1]

        yield make
        for made in opened:
            made.close()


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Twelve different images of mixed sizes: JPEG, PNG and WebP files."""
    rng = np.random.default_rng(0)
    kinds = ["JPEG", "PNG", "WEBP"]
    return [
        encode(rng.integers(0, 256, (20 + index, 30, 3), np.uint8), kinds[index % 3])
        for index in range(12)
    ]


Behaviour = Callable[[socket.socket], None]


def answer(status: int = 200, body: Any = None, **headers: str) -> Behaviour:
    """Answer properly. `body` is bytes, or something to send as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    lines = {
        "content-type": kind,
        "content-length": str(len(content)),
        "connection": "close",
        "x-request-id": "from-the-service",
        "x-embedding-space": SPACE,
        "x-model-version": "1",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    data = f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content
    return lambda peer: peer.sendall(data)


def problem(status: int, code: str, *, retryable: bool = False, **headers: str) -> Behaviour:
    """Answer with a problem document, as the service does."""
    body = {
        "type": f"urn:handful:problem:{code}",
        "title": "Title",
        "status": status,
        "detail": "what was found, and the remedy",
        "code": code,
        "request_id": "from-the-service",
        "retryable": retryable,
    }
    return answer(status, body, content_type="application/problem+json", **headers)


def hang_up(peer: socket.socket) -> None:
    """Close the connection without a word."""


def half_an_answer(peer: socket.socket) -> None:
    """Announce more than is sent."""
    peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


def drip(peer: socket.socket) -> None:
    """Send a byte now and then: each read succeeds, the answer never ends."""
    peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    with suppress(OSError):
        for _ in range(1000):
            peer.sendall(b" ")
            time.sleep(0.02)


class Misbehaving:
    """A server that answers request after request as it is told; the last order holds for ever."""

    def __init__(self) -> None:
        self.orders: list[Behaviour] = [hang_up]
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def does(self, *orders: Behaviour) -> None:
        self.orders = list(orders)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in [self._accepting, *self._threads]:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                self._threads.append(threading.Thread(target=self._serve, args=[peer]))
                self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as stream, suppress(OSError):
            lines: list[bytes] = []
            while (line := stream.readline()) != b"\r\n":
                if not line:  # gone
                    return
                lines.append(line)
            lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
            body = stream.read(int(lengths[0].split(b":")[1])) if lengths else b""
            self.requests.append(b"".join(lines) + b"\r\n" + body)
            order = self.orders.pop(0) if len(self.orders) > 1 else self.orders[0]
            order(peer)


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server that cannot be relied upon."""
    made = Misbehaving()
    yield made
    made.close()


def embeddings_of(count: int, *, space: str = SPACE, dim: int = 2) -> dict[str, Any]:
    """A sound answer to /embed."""
    return {
        "model": {"name": "m", "version": "1", "space": space},
        "dim": dim,
        "embeddings": [[float(index)] * dim for index in range(count)],
        "errors": [],
    }


def model_answer() -> dict[str, Any]:
    """A sound answer to /model, of a model that embeds 4x4 greys into 2 numbers."""
    model = {"name": "m", "version": "1", "space": SPACE}
    manifest = {
        "format": 1,
        "name": "m",
        "created": "2026-01-02T03:04:05Z",
        "space": SPACE,
        "image": {"height": 4, "width": 4, "channels": 1, "resize": "fit"},
        "pixels_version": 1,
        "embedding_dim": 2,
        "latent_dim": 2,
        "files": {},
    }
    settings = None
    return {
        "model": model,
        "provider": "cpu",
        "labels": None,
        "routes": ["/embed"],
        "manifest": manifest,
        "settings": settings,
    }


@pytest.fixture(scope="session")
def behave():
    """The behaviours of the misbehaving server, and the answers to give."""

    class Behave:
        SPACE = SPACE

    for function in (
        answer,
        problem,
        hang_up,
        half_an_answer,
        drip,
        embeddings_of,
        model_answer,
        encode,
    ):
        setattr(Behave, function.__name__, staticmethod(function))
    return Behave


@pytest.fixture(scope="session")
def counting_transport():
    """Makes an httpx transport that answers /embed at once and counts what is in flight."""

    class Counting(httpx.BaseTransport):
        def __init__(self, spaces: Callable[[int], str] = lambda _: SPACE) -> None:
            self.spaces = spaces
            self.lock = threading.Lock()
            self.now = self.most = self.total = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            with self.lock:
                number = self.total
                self.total += 1
                self.now += 1
                self.most = max(self.most, self.now)
            count = request.read().count(b'name="images"') or 1
            time.sleep(0.002)
            with self.lock:
                self.now -= 1
            body = embeddings_of(count, space=self.spaces(number))
            return httpx.Response(
                200, json=body, headers={"x-embedding-space": body["model"]["space"]}
            )

    return Counting
