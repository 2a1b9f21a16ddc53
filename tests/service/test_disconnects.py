"""Clients that hang up, one after the other: no slot leaks, and next to nothing is done for them.

HANDFUL_DISCONNECTS=2000 tries more (`make overload`).
"""

import base64
import os
import threading

import httpx
import pytest

COUNT = int(os.environ.get("HANDFUL_DISCONNECTS", "100"))
AT_ONCE = 100
SLOW = 20  # images that keep the only decoder busy meanwhile


@pytest.mark.timeout(60 + COUNT)
def test_clients_that_hang_up(serve, bundle_dir, slow_picture) -> None:
    """Of images whose clients hang up while they wait, at most 1 % are executed; every slot, byte
    and connection is free again.
    """
    server = serve(
        bundle_dir, HANDFUL_DECODE_THREADS="1", HANDFUL_TIMEOUT_SECONDS="3600"
    ).wait_ready()
    request = (
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        + f"Content-Length: {len(slow_picture)}\r\n\r\n".encode()
        + slow_picture
    )
    slow = {"images": [base64.b64encode(slow_picture).decode()] * SLOW}

    def embed_slowly() -> None:
        httpx.post(f"{server.url}/embed", json=slow, timeout=120).raise_for_status()

    rounds = range(0, COUNT, AT_ONCE)
    before = server.metric("handful_connections")
    for sent in rounds:
        busy = threading.Thread(target=embed_slowly)
        busy.start()
        server.wait_until(lambda: server.metric("handful_queue_rows") > 0)
        count = min(AT_ONCE, COUNT - sent)
        for _ in range(count):
            with server.connect() as raw:
                raw.sendall(request)
        gone = sent + count
        server.wait_until(
            lambda gone=gone: server.metric("handful_requests_abandoned_total") == gone
        )
        assert busy.is_alive(), "the slow request was too quick for this test"
        busy.join()
    server.wait_until(lambda: server.metric("handful_queue_rows") == 0)
    executed = server.metric("handful_batch_rows_sum") - SLOW * len(rounds)
    print(f"{executed:.0f} executed of {COUNT} whose clients hung up, 0 slots leaked")
    assert executed <= COUNT / 100
    assert server.metric("handful_queue_bytes") == 0
    server.wait_until(lambda: server.metric("handful_connections") == before)
