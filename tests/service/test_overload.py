"""Overload, clients that hang up, deadlines: refused or dropped, never computed."""

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import httpx

PNG = {"Content-Type": "image/png"}
# One decoder thread and small bounds, so that a handful of slow images fills the service.
SMALL = {"HANDFUL_DECODE_THREADS": "1", "HANDFUL_MAX_BATCH": "1", "HANDFUL_QUEUE_ROWS": "4"}


def embed_slowly(server: Any, slow_picture: bytes, count: int) -> tuple[threading.Thread, list]:
    """Send `count` images that take long to decode; return the thread and where its answer goes."""
    answers: list[httpx.Response] = []
    body = {"images": [base64.b64encode(slow_picture).decode()] * count}

    def send() -> None:
        answers.append(httpx.post(f"{server.url}/embed", json=body, timeout=120))

    thread = threading.Thread(target=send)
    thread.start()
    server.wait_until(lambda: server.metric("handful_queue_rows") > 0)
    return thread, answers


def test_full_queue_refuses_at_once(serve, bundle_dir, slow_picture, picture) -> None:
    """When the queue is full a request is 503 with Retry-After and nothing of it is computed; what
    was accepted is answered, and then there is room again.
    """
    server = serve(bundle_dir, **SMALL).wait_ready()
    thread, answers = embed_slowly(server, slow_picture, 8)
    refused = [
        server.client.post("/embed", content=picture(kind="PNG"), headers=PNG) for _ in range(5)
    ]
    assert thread.is_alive(), "the slow request was too quick for this test"
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["code"] == "overloaded"
        assert answer.json()["retryable"] is True
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert server.status("/livez") == server.status("/readyz") == 200
    thread.join()
    assert answers[0].status_code == 200
    assert server.metric("handful_batch_rows_sum") == 8
    assert server.metric("handful_images_total") == 8
    server.wait_until(lambda: server.metric("handful_queue_rows") == 0)
    assert server.client.post("/embed", content=picture(kind="PNG"), headers=PNG).is_success


def test_a_single_image_is_refused_by_its_header(serve, bundle_dir, slow_picture, picture) -> None:
    """While most are refused, an image is 503 before any of its body is sent; the body that follows
    all the same is passed over, and the connection serves the next request. It counts as a request
    and not as one that was quick.
    """
    server = serve(bundle_dir, **SMALL).wait_ready()
    thread, _ = embed_slowly(server, slow_picture, 12)
    assert server.client.post("/embed", content=picture(kind="PNG"), headers=PNG).status_code == 503
    body = bytes(100_000)
    with server.connect() as raw:
        for connection in ("keep-alive", "close"):
            raw.sendall(
                b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                b"X-Request-ID: mine\r\n"
                + f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            said = raw.recv(4096)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nX-Request-ID: mine\r\n" in said
            assert b"\r\nRetry-After: 1\r\n" in said
            assert b'"code":"overloaded"' in said
            raw.sendall(body)
        assert raw.recv(4096) == b""
    assert thread.is_alive(), "the slow request was too quick for this test"
    assert server.metric('handful_problems_total{code="overloaded",route="/embed"}') == 3
    assert server.metric('handful_requests_total{route="/embed",status="503"}') == 3
    assert server.metric('handful_request_duration_seconds_count{route="/embed"}') == 1
    thread.join()
    server.wait_until(lambda: server.metric("handful_queue_rows") == 0)
    assert server.client.post("/embed", content=picture(kind="PNG"), headers=PNG).is_success


def test_a_greedy_key_leaves_room(serve, bundle_dir, slow_picture, tmp_path) -> None:
    """Of two tenants one sends more than there is room for: that one is 429 beyond half of it, with
    Retry-After; the other's request is let in beside it.
    """
    file = tmp_path / "keys"
    file.write_text("".join(f"{sha256(k.encode()).hexdigest()}  {k}\n" for k in ("much", "little")))
    settings = {**SMALL, "HANDFUL_QUEUE_ROWS": "16"}
    server = serve(bundle_dir, HANDFUL_API_KEYS_FILE=str(file), **settings).wait_ready()

    def ask(key: str) -> httpx.Response:
        headers = {**PNG, "Authorization": f"Bearer {key}"}
        return httpx.post(f"{server.url}/embed", content=slow_picture, headers=headers, timeout=120)

    with ThreadPoolExecutor(13) as clients:
        much = [clients.submit(ask, "much") for _ in range(12)]
        refused = [answer.result() for answer in much if answer.result().status_code != 200][:1]
        assert refused[0].status_code == 429
        little = ask("little")
    assert little.status_code == 200
    assert sorted({answer.result().status_code for answer in much}) == [200, 429]
    for answer in much:
        if answer.result().status_code == 429:
            assert answer.result().json()["code"] == "share_exceeded"
            assert answer.result().json()["retryable"] is True
            assert int(answer.result().headers["Retry-After"]) >= 1


def test_full_in_bytes(serve, bundle_dir) -> None:
    """The queue is bounded in bytes too, counted as they arrive: a body that does not fit beside
    those under way is refused before it is whole.
    """
    mebibyte = 2**20
    server = serve(
        bundle_dir,
        HANDFUL_MAX_BODY_BYTES=str(4 * mebibyte),
        HANDFUL_QUEUE_BYTES=str(40 * mebibyte),
    ).wait_ready()
    head = (
        f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        f"Content-Length: {4 * mebibyte}\r\n\r\n"
    ).encode()
    held = []
    try:
        for _ in range(10):  # each but for its last bytes
            raw = server.connect()
            raw.sendall(head + bytes(4 * mebibyte - 1000))
            held.append(raw)
        server.wait_until(lambda: server.metric("handful_queue_bytes") == 40 * mebibyte - 10_000)
        refused = server.client.post("/embed", content=bytes(20_000), headers=PNG)
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert refused.headers["Retry-After"]
        fits = server.client.post("/embed", content=bytes(5_000), headers=PNG)
        assert fits.json()["code"] == "image_unsupported"
    finally:
        for raw in held:
            raw.close()
    server.wait_until(lambda: server.metric("handful_queue_bytes") == 0)
    assert server.metric("handful_requests_abandoned_total") == 10


def test_abandoned_requests_are_not_decoded(serve, bundle_dir, slow_picture) -> None:
    """When the client hangs up, what is not decoded stays so, nothing runs, the slot is free."""
    server = serve(bundle_dir, HANDFUL_DECODE_THREADS="1").wait_ready()
    images = ",".join([f'"{base64.b64encode(slow_picture).decode()}"'] * 40)
    body = f'{{"images":[{images}]}}'.encode()
    with server.connect() as raw:
        raw.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        server.wait_until(lambda: server.metric("handful_queue_rows") == 40)
    server.wait_until(lambda: server.metric("handful_requests_abandoned_total") == 1)
    server.wait_until(lambda: server.metric("handful_queue_rows") == 0)
    dropped = server.metric('handful_rows_dropped_total{stage="decode"}')
    assert 0 < dropped <= 40
    assert server.metric("handful_batches_total") == 0
    assert server.metric('handful_requests_total{route="/embed",status="499"}') == 1
    assert server.client.post("/embed", content=slow_picture, headers=PNG).is_success


def test_deadline(serve, bundle_dir, slow_picture) -> None:
    """A request that cannot be answered in time is 504, and what is left of it is not computed."""
    server = serve(
        bundle_dir, HANDFUL_DECODE_THREADS="1", HANDFUL_TIMEOUT_SECONDS="0.3"
    ).wait_ready()
    body = {"images": [base64.b64encode(slow_picture).decode()] * 60}
    answer = server.client.post("/embed", json=body)
    assert answer.status_code == 504
    assert answer.json()["code"] == "deadline_exceeded"
    assert answer.json()["retryable"] is True
    assert server.metric('handful_rows_dropped_total{stage="decode"}') > 0
    assert server.metric("handful_batches_total") == 0


def test_what_is_over_in_the_queue_is_not_executed(serve, bundle_dir, slow_picture) -> None:
    """Of requests whose time is over while others are decoded none is executed: each is 504."""
    server = serve(bundle_dir, HANDFUL_DECODE_THREADS="1").wait_ready()
    thread, answers = embed_slowly(server, slow_picture, 12)
    headers = {**PNG, "X-Request-Timeout-Ms": "30"}

    def ask(_: int) -> int:
        url = f"{server.url}/embed"
        return httpx.post(url, content=slow_picture, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(10) as clients:
        statuses = list(clients.map(ask, range(20)))
    assert thread.is_alive(), "the slow request was too quick for this test"
    assert statuses == [504] * 20
    thread.join()
    assert answers[0].status_code == 200
    assert server.metric("handful_batch_rows_sum") == 12
    assert server.metric('handful_rows_dropped_total{stage="decode"}') == 20


def test_a_client_may_want_it_sooner(server, picture, slow_picture) -> None:
    """X-Request-Timeout-Ms bounds one request from its first byte on; what is over is 504, what is
    no number 422, and a generous one changes nothing.
    """

    def ask(milliseconds: str, body: bytes) -> httpx.Response:
        headers = {**PNG, "X-Request-Timeout-Ms": milliseconds}
        return server.client.post("/embed", content=body, headers=headers)

    assert ask("60000", picture(kind="PNG")).status_code == 200
    before = server.metric("handful_batches_total")
    for milliseconds in ("0", "20"):
        answer = ask(milliseconds, slow_picture)
        assert answer.status_code == 504
        assert answer.json()["code"] == "deadline_exceeded"
    assert server.metric("handful_batches_total") == before
    for nonsense in ("-1", "1.5", "soon", "9" * 10):
        answer = ask(nonsense, picture(kind="PNG"))
        assert answer.status_code == 422
        assert answer.json()["code"] == "parameter_invalid"


def test_slow_body(serve, bundle_dir) -> None:
    """A body that does not arrive in time is 408, and other requests are not affected."""
    server = serve(bundle_dir, HANDFUL_BODY_SECONDS="0.3").wait_ready()
    with server.connect() as raw:
        raw.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100\r\n\r\nhalf"
        )
        received = b""
        while piece := raw.recv(65_536):  # until the server closes
            received += piece
    assert received.startswith(b"HTTP/1.1 408")
    assert b'"body_timeout"' in received
    assert server.status("/readyz") == 200
