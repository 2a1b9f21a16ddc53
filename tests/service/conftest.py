"""Real `handful-serve` processes on real sockets, and pictures to send them."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

SERVE = Path(sys.executable).with_name("handful-serve")
LoadHelper = Callable[[str], ModuleType]
PATIENCE = 60.0  # seconds that a busy machine may take
PATIENT = {"HANDFUL_QUEUE_SECONDS": "3600"}  # nor are requests refused because it is slow


class Server:
    """One server process."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        log: Path,
        command: Sequence[str | Path] = (SERVE,),
    ) -> None:
        self.log = log
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("HANDFUL_", "MLFLOW_"))}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "--port", "0", *arguments],
                env={**ours, "OMP_NUM_THREADS": "1", **PATIENT, **environment},
                stderr=stderr,
            )
        self.url = self._url()
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    @property
    def pid(self) -> int:
        """Of the process that serves; the one that was started is its supervisor."""
        started = self.process.pid
        children = Path(f"/proc/{started}/task/{started}/children").read_text().split()
        return int(children[0]) if children else started

    def _url(self) -> str:
        self.wait_until(lambda: re.search(r"listening on (http://\S+)", self.logged()) is not None)
        found = re.search(r"listening on (http://[\w.:]+)", self.logged())
        assert found is not None
        return found[1]

    def connect(self) -> socket.socket:
        """A connection for what no HTTP client would send."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), PATIENCE)

    def logged(self) -> str:
        return self.log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"the server has ended:\n{self.logged()}"
            assert time.monotonic() < deadline, f"in vain:\n{self.logged()}"
            time.sleep(0.02)

    def status(self, path: str) -> int:
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> "Server":
        self.wait_until(lambda: self.status("/readyz") == 200)
        return self

    def metric(self, name: str) -> float:
        """The sum of all series of `name`; with labels, the one series."""
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in self.client.get("/metrics").text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        ]
        assert values, f"no metric {name}"
        return sum(values)

    def stop(self) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def serve_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers that live until the tests end."""
    yield from _serve(tmp_path_factory)


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers that live until the test ends."""
    yield from _serve(tmp_path_factory)


def _serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(
        model: str | Path,
        *arguments: str,
        command: Sequence[str | Path] = (SERVE,),
        **environment: str,
    ) -> Server:
        log = tmp_path_factory.mktemp("server") / "stderr.log"
        server = Server(["--model", str(model), *arguments], environment, log, command)
        servers.append(server)
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="session")
def server(serve_session: Serve, bundle_dir: Path) -> Server:
    """A server of the complete small bundle; its tests change nothing in it."""
    return serve_session(bundle_dir).wait_ready()


@pytest.fixture(scope="session")
def grey_server(serve_session: Serve, bundle_dir_grey: Path) -> Server:
    """A server of a bundle that has neither head nor decoder."""
    return serve_session(bundle_dir_grey).wait_ready()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A function that returns the file of a random picture."""

    def draw(
        seed: int = 0, kind: str = "JPEG", width: int = 40, height: int = 30, mode: str = "RGB"
    ) -> bytes:
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    return draw


@pytest.fixture(scope="session")
def slow_picture() -> bytes:
    """A PNG of 16 megapixels: a small file that takes long to decode."""
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000), 7).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def lanes(load_helper: LoadHelper) -> ModuleType:
    """The lanes beside this file that record what they are given."""
    return load_helper("service/recording_lanes")


@pytest.fixture(scope="session")
def mixed_load(load_helper: LoadHelper) -> ModuleType:
    """The load driver beside this file."""
    return load_helper("service/mixed_load")


@pytest.fixture(scope="session")
def followed_registry(load_helper: LoadHelper) -> ModuleType:
    """A registry to follow, and a load whose answers are checked, from beside this file."""
    return load_helper("service/followed_registry")


@pytest.fixture(scope="session")
def soak_requests(load_helper: LoadHelper) -> ModuleType:
    """Requests of every kind, from beside this file."""
    return load_helper("service/soak_requests")


@pytest.fixture(scope="session")
def soak_load(load_helper: LoadHelper) -> ModuleType:
    """Their sender, from beside this file."""
    return load_helper("service/soak_load")


@pytest.fixture(scope="session")
def leak_judge(load_helper: LoadHelper) -> ModuleType:
    """The judge of growth beside this file."""
    return load_helper("service/leak_judge")
