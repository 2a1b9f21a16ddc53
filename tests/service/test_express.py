"""Raw images that are answered without ASGI: what rides, and that nobody can tell."""

import asyncio
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode
from handful_service.app import create_app
from handful_service.express import MAX_BYTES
from handful_service.express_protocol import ExpressProtocol
from handful_service.few_images import TINY_BYTES
from handful_service.settings import Settings

LONG_AFTER = 0.3  # seconds: no client that sends a request in two pieces takes as long


class Service:
    """The service in this process, which counts what goes the long way through ASGI."""

    def __init__(self, bundle: Bundle, **settings: Any) -> None:
        self.app = create_app(Settings(**settings), bundle)
        self.pipeline = self.app.state.pipeline
        self.long_ways = 0
        config = uvicorn.Config(
            self._counted, http=ExpressProtocol, interface="asgi3", lifespan="on",
            log_config=None, ws="none",
            timeout_graceful_shutdown=20,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wait_until(lambda: self.server.started or not self.thread.is_alive())
        assert self.server.started

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        self.long_ways += scope["type"] == "http"
        self.loop = asyncio.get_running_loop()
        await self.app(scope, receive, send)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.listener.getsockname(), 60) as connection:
            yield connection

    def counted(self, route: str, status: int) -> float:
        return self.pipeline.metrics.requests.labels(route, str(status)).value

    @contextmanager
    def dispatcher_held(self) -> Iterator[None]:
        """Let nothing be answered meanwhile."""
        release, held = threading.Event(), threading.Event()

        def lane(rows: np.ndarray) -> tuple[np.ndarray, ...]:
            held.set()
            release.wait(60)
            return (rows,)

        self.loop.call_soon_threadsafe(self.pipeline.batcher.submit, lane, np.ones(1))
        held.wait(60)
        try:
            yield
        finally:
            release.set()


@pytest.fixture(scope="module")
def bundle(bundle_dir) -> Bundle:
    return Bundle.load(bundle_dir, device="cpu", threads=1)


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[Service]:
    service = Service(bundle)
    yield service
    service.stop()


def request(body: bytes, path: str = "/embed", *fields: str, version: str = "1.1") -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *fields]
    if not any(field.lower().startswith("content-type") for field in fields):
        head.append("Content-Type: image/jpeg")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], Any]]:
    """Read `count` answers: status, headers, and the body from JSON."""
    stream = connection.makefile("rb")
    found = []
    for _ in range(count):
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        found.append((status, headers, json.loads(stream.read(int(headers["content-length"])))))
    return found


def flat_png() -> bytes:
    """A picture that is far larger than its file."""
    buffer = io.BytesIO()
    Image.new("L", (1000, 1000), 9).save(buffer, "PNG")
    assert len(buffer.getvalue()) < TINY_BYTES
    return buffer.getvalue()


def noise(side: int) -> bytes:
    """A picture of `side` × `side` pixels that is not tiny."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    assert len(buffer.getvalue()) > TINY_BYTES
    return buffer.getvalue()


def chunked(body: bytes) -> bytes:
    return (
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )


RIDES: dict[str, Callable[[bytes], list[bytes]]] = {
    "in one piece": lambda jpeg: [request(jpeg)],
    "in two pieces": lambda jpeg: [request(jpeg)[:-1000], jpeg[-1000:]],
    "chunked": lambda jpeg: [chunked(jpeg)],
    "latent": lambda jpeg: [request(jpeg, "/embed?space=latent")],
    "classified": lambda jpeg: [request(jpeg, "/classify")],
    "HTTP/1.0": lambda jpeg: [request(jpeg, version="1.0")],
    "to be closed": lambda jpeg: [request(jpeg, "/embed", "Connection: close")],
    "no image": lambda _: [request(b"nonsense")],
    "nothing": lambda _: [request(b"")],
    "of another type": lambda jpeg: [request(jpeg, "/embed", "Content-Type: image/png")],
    "compressed": lambda jpeg: [request(jpeg, "/embed", "Content-Encoding: gzip")],
    "large": lambda _: [request(noise(300))],
    "large and classified": lambda _: [request(noise(300), "/classify")],
    "large and broken": lambda _: [request(noise(300)[:-30_000])],
    "larger than its file": lambda _: [request(flat_png(), "/embed", "Content-Type: image/png")],
}
LONG_WAYS: dict[str, Callable[[bytes], list[bytes]]] = {
    "a deadline": lambda jpeg: [request(jpeg, "/embed", "X-Request-Timeout-Ms: 60000")],
    "a header twice": lambda jpeg: [request(jpeg, "/embed", "X-A: 1", "X-A: 2")],
    "a parameter": lambda jpeg: [request(jpeg, "/embed", "Content-Type: image/jpeg; q=1")],
    "a query": lambda jpeg: [request(jpeg, "/embed?a=b")],
    "late": lambda jpeg: [request(jpeg)[:-1000], b"", jpeg[-1000:]],
}


def ask(service: Service, pieces: list[bytes]) -> tuple[int, dict[str, str], Any]:
    with service.connected() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0 if piece else LONG_AFTER)
        return answers(connection, 1)[0]


def long_way(pieces: list[bytes]) -> list[bytes]:
    """The same request with a query that FastAPI passes over."""
    path = re.match(rb"POST (\S+) ", pieces[0])[1]
    longer = path + (b"&" if b"?" in path else b"?") + b"unknown=1"
    return [pieces[0].replace(path, longer, 1), *pieces[1:]]


VARYING = {"x-request-id", "server-timing", "date", "content-length"}


@pytest.mark.parametrize("case", RIDES)
def test_who_rides_is_answered_as_who_does_not(service, picture, case) -> None:
    """Status, headers and body are those of the long way, which is not gone."""
    pieces = RIDES[case](picture())
    before = service.long_ways
    status, headers, body = ask(service, pieces)
    assert service.long_ways == before
    other_status, other_headers, other_body = ask(service, long_way(pieces))
    assert service.long_ways == before + 1
    assert status == other_status
    assert list(headers) == list(other_headers)
    assert [v for k, v in headers.items() if k not in VARYING] == [
        v for k, v in other_headers.items() if k not in VARYING
    ]
    phases = [re.findall(r"(\w+);dur=\d", h["server-timing"]) for h in (headers, other_headers)]
    for names in phases:  # the long way refuses some bodies without reading them
        names[:] = [name for name in names if name != "read"]
    assert phases[0] == phases[1]
    assert "total" in phases[0]
    body.pop("request_id", None)
    other_body.pop("request_id", None)
    assert body == other_body


@pytest.mark.parametrize("case", LONG_WAYS)
def test_what_is_rare_goes_the_long_way(service, picture, case) -> None:
    """A request that is not as usual is answered all the same, by ASGI."""
    before = service.long_ways
    status, _, body = ask(service, LONG_WAYS[case](picture()))
    assert service.long_ways == before + 1
    assert status == 200
    assert body == ask(service, [request(picture())])[2]


def test_a_body_that_is_too_large_to_be_held_back_goes_the_long_way(service, bundle) -> None:
    """It is answered all the same, as the bundle itself embeds it."""
    jpeg, before = noise(600), service.long_ways
    assert len(jpeg) > MAX_BYTES
    status, _, body = ask(service, [request(jpeg)])
    assert (status, service.long_ways) == (200, before + 1)
    pixels = decode(jpeg, bundle.manifest.image, media_type=None, max_pixels=10**6)
    wanted = bundle.encoder(pixels[np.newaxis]).embedding[0]
    np.testing.assert_allclose(body["embeddings"][0], wanted, atol=1e-5)


def test_pipelined_requests_are_answered_in_order(service, picture) -> None:
    """Riding or not, each answer bears the id of its place; the last ends the connection."""
    jpeg = picture()
    paths = ["/embed", "/classify", "/embed?a=b", "/embed", "/embed?space=latent", "/nowhere"] * 4
    wanted = [f"request-{n}" for n in range(len(paths))]
    sent = b"".join(
        request(jpeg, path, f"X-Request-ID: {name}",
                *(["Connection: close"] if name == wanted[-1] else []))
        for path, name in zip(paths, wanted, strict=True)
    )  # fmt: skip
    with service.connected() as connection:
        connection.sendall(sent)
        found = answers(connection, len(paths))
        assert connection.recv(1) == b""
    assert [headers["x-request-id"] for _, headers, _ in found] == wanted
    assert [status for status, _, _ in found] == [404 if p == "/nowhere" else 200 for p in paths]


def test_who_hangs_up_is_not_computed(service, picture) -> None:
    """Nothing of 30 clients that are gone is computed or stays behind, and each counts as one."""
    service.wait_until(lambda: httpx.get(f"http://127.0.0.1:{port(service)}/livez").is_success)
    metrics, backlog = service.pipeline.metrics, service.pipeline.backlog
    gone, ran = service.counted("/embed", 499), service.pipeline.batcher.rows_ran
    before = service.long_ways
    with service.dispatcher_held():
        for _ in range(30):
            with service.connected() as connection:
                connection.sendall(request(picture()))
                service.wait_until(lambda: backlog.rows == 1)
            service.wait_until(lambda: backlog.rows == 0)
    assert ask(service, [request(picture())])[0] == 200
    assert service.counted("/embed", 499) == gone + 30
    assert service.pipeline.batcher.rows_ran == ran + 2  # what held it, and what came afterwards
    assert service.long_ways == before
    assert (backlog.rows, backlog.bytes) == (0, 0)
    assert metrics.abandoned._value.get() >= 30


def test_who_hangs_up_is_not_decoded(service) -> None:
    """A large image whose client is gone before its turn is neither decoded nor computed."""
    pipeline = service.pipeline
    dropped = pipeline.metrics.dropped.labels("decode")._value
    ran, before, ways = pipeline.batcher.rows_ran, dropped.get(), service.long_ways
    release, threads = threading.Event(), pipeline.pool._threads
    for _ in range(threads):
        pipeline.pool.begin(lambda: release.wait(60))
    try:
        with service.connected() as connection:
            connection.sendall(request(noise(300)))
            service.wait_until(lambda: pipeline.backlog.rows == 1)
        service.wait_until(lambda: pipeline.backlog.rows == 0)
    finally:
        release.set()
    service.wait_until(lambda: dropped.get() == before + 1)
    assert (pipeline.batcher.rows_ran, service.long_ways) == (ran, ways)


def test_a_service_at_its_end_says_so(bundle) -> None:
    """Who comes when nothing is decoded any more is sent elsewhere, not left waiting."""
    service = Service(bundle)
    try:
        service.pipeline.pool.close()
        status, headers, body = ask(service, [request(noise(300))])
        assert (status, body["code"]) == (503, "not_ready")
        assert int(headers["retry-after"]) >= 1
    finally:
        service.stop()


def test_a_ride_has_a_deadline_and_outlives_a_stop(bundle, picture) -> None:
    """What takes too long is 504, once; a server that stops answers who rides first."""
    service = Service(bundle, timeout_seconds=0.3)
    try:
        assert ask(service, [request(picture(), "/embed?a=b")])[0] == 200
        before = service.long_ways
        with service.connected() as connection:
            with service.dispatcher_held():
                connection.sendall(request(picture()))
                ((status, _, body),) = answers(connection, 1)
                assert (status, body["code"]) == (504, "deadline_exceeded")
            connection.sendall(request(picture()))
            assert answers(connection, 1)[0][0] == 200
        with service.connected() as connection:
            with service.dispatcher_held():
                connection.sendall(request(picture()))
                service.wait_until(lambda: service.pipeline.backlog.rows == 1)
                service.server.should_exit = True
                time.sleep(0.15)
            ((status, headers, _),) = answers(connection, 1)
            assert (status, headers["connection"]) == (200, "close")
            assert connection.recv(1) == b""
        assert service.long_ways == before
    finally:
        service.stop()


def port(service: Service) -> int:
    number: int = service.listener.getsockname()[1]
    return number
