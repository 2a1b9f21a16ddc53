"""SIGTERM: unready at once, what is in flight finishes, the process ends with status 0."""

import base64
import signal
import threading

import httpx


def test_requests_in_flight_finish(serve, bundle_dir, slow_picture) -> None:
    """After SIGTERM a request in flight is still answered, no new connection is, and the status is
    0.
    """
    server = serve(bundle_dir, HANDFUL_DECODE_THREADS="1").wait_ready()
    answers: list[httpx.Response] = []
    body = {"images": [base64.b64encode(slow_picture).decode()] * 6}

    def send() -> None:
        answers.append(httpx.post(f"{server.url}/embed", json=body, timeout=120))

    thread = threading.Thread(target=send)
    thread.start()
    server.wait_until(lambda: server.metric("handful_queue_rows") == 6)
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: server.status("/readyz") != 200)
    assert thread.is_alive(), "the slow request was too quick for this test"
    thread.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["embeddings"]) == 6
    assert server.stop() == 0


def test_unready_before_the_port_closes(serve, bundle_dir, picture) -> None:
    """With HANDFUL_DRAIN_SECONDS a load balancer sees 503 on /readyz while requests are still
    answered.
    """
    server = serve(bundle_dir, HANDFUL_DRAIN_SECONDS="2").wait_ready()
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: server.status("/readyz") == 503)
    assert "about to stop" in server.client.get("/readyz").json()["detail"]
    answer = server.client.post("/embed", content=picture(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    assert server.stop() == 0


def test_half_received_bodies_do_not_keep_it(serve, bundle_dir) -> None:
    """A client that never ends its body does not keep the process beyond its grace."""
    server = serve(bundle_dir, HANDFUL_GRACE_SECONDS="1").wait_ready()
    with server.connect() as raw:
        raw.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 100\r\n\r\nhalf"
        )
        server.wait_until(lambda: server.metric("handful_queue_bytes") == 4)
        assert server.stop() == 0
