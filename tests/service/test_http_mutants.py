"""Damaged HTTP: whatever comes in on the socket, there is no 5xx and no trace in the log, and who
speaks properly is answered after each. What single damages lead to: test_head.py.

HANDFUL_MUTANTS=10000 tries more (`make fuzz`).
"""

import os
import random
import re
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

MUTANTS = int(os.environ.get("HANDFUL_MUTANTS", "1500"))
SEED = 20261123
SILENCE, QUIET = 2.0, 0.1  # seconds to wait for the first word, and for another
ALLOWED = {100, 200, 400, 404, 405, 408, 409, 413, 415, 422, 431}
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEADERS = [
    b"Content-Length: 5",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Host: y",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Content-Type: application/json",
    b"Content-Type: multipart/form-data; boundary=",
    b"Accept: application/x-npy",
    b"X-Request-ID: \xff",
    b"X-Request-Timeout-Ms: 1",
]
PIECES = [
    *(header + b"\r\n" for header in HEADERS),
    *(b"", b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b": ", b"\r\n\r\n", b"\xff\xfe"),
    *(b"HTTP/1.1", b"HTTP/2", b"POST", b"GET", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"/embed", b"/../..", b"//", b"?space=latent", b"%00", b"%zz", b"http://x/"),
    *(b"Content-Length: -1", b"a" * 70_000, b"0\r\n\r\n"),
    *(b"\r\n folded", b"\r\n\tfolded: x", b"X-A: b\nX-B: c\r\n", b"X-A: b\rX-B: c\r\n"),
    *(b";a=b", b";" + b"a" * 70_000, b"10000000000000003\r\n", b"FFFFFFFFFFFFFFF\r\n", b"-1\r\n"),
    *(b"0\r\nContent-Length: 9\r\n\r\n", b"0\r\nX-A: b\r\n\r\n", b"X-A: b\r\n" * 5000),
]


def requests(picture: Callable[..., bytes]) -> list[bytes]:
    jpeg = picture()
    parts = b'--B\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + jpeg
    multipart = parts + b"\r\n--B--\r\n"

    def post(path: str, kind: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: "
        return head.encode() + b"%d\r\n\r\n" % len(body) + body

    chunked = (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(jpeg), jpeg)
    )
    return [
        post("/embed", "image/jpeg", jpeg),
        post("/classify", "multipart/form-data; boundary=B", multipart),
        post("/embed", "application/json", b'{"images": ["aGFuZGZ1bA=="]}'),
        post("/sample", "application/json", b'{"count": 1}'),
        chunked,
        b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def mutant(rng: random.Random, originals: list[bytes]) -> bytes:
    data = bytearray(rng.choice(originals))
    for _ in range(rng.randint(1, 4)):
        # Mostly in the head, where every byte matters.
        place = rng.randrange(min(len(data), 250) if rng.random() < 0.8 else len(data) or 1)
        kind = rng.random()
        if kind < 0.4:
            data[place : place + rng.choice((0, 0, 1, 4, 30))] = rng.choice(PIECES)
        elif kind < 0.7:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif kind < 0.9:
            del data[place : place + rng.choice((1, 2, 10, 100))]
        else:
            data += rng.choice(originals)  # pipelined
        if not data:
            data = bytearray(b"\r\n")
    return bytes(data)


def talk(address: tuple[str, int], data: bytes, patience: float = SILENCE) -> bytes:
    """Send `data`, and return all that is said until it is quiet."""
    said = b""
    with socket.create_connection(address, timeout=20) as connection:
        with suppress(OSError):  # closed already: what was said can still be read
            connection.sendall(data)
        connection.settimeout(patience)
        with suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                said += piece
                connection.settimeout(QUIET)
    return said


def test_no_mutant_breaks_it(serve, bundle_dir, picture) -> None:
    """No mutant gets a 5xx or an answer that is no HTTP; after each one the service answers who
    speaks properly, and in the end no row, no byte and no connection has stayed behind.
    """
    server = serve(bundle_dir).wait_ready()
    parts = urlsplit(server.url)
    address = (parts.hostname, parts.port)
    rng = random.Random(SEED)
    originals = requests(picture)
    for original in originals:
        assert re.match(rb"HTTP/1\.1 (200|422) ", talk(address, original, 20)), "a control"
    mutants = [mutant(rng, originals) for _ in range(MUTANTS)]
    statuses: Counter[int] = Counter()

    def attack(data: bytes) -> tuple[bytes, bytes]:
        return talk(address, data), talk(address, LIVEZ, 20)

    with ThreadPoolExecutor(48) as pool:
        for sent, (said, after) in zip(mutants, pool.map(attack, mutants), strict=True):
            assert after.startswith(b"HTTP/1.1 200 "), (sent, after)
            if not said:
                statuses[0] += 1
                continue
            found = re.match(rb"HTTP/1\.1 (\d{3}) ", said)
            assert found, (sent, said[:200])
            status = int(found[1])
            asked = status == 504 and b"timeout-ms" in sent.lower()  # for no more time
            assert status in ALLOWED or asked, (status, sent, said[:500])
            statuses[status] += 1
    print(
        f"0 of {MUTANTS} mutants broke the service; answers by status: {sorted(statuses.items())}"
    )
    assert {200, 400, 422} <= set(statuses), "too tame or too wild to test anything"
    assert statuses[0] < MUTANTS / 2, "most of them are no whole requests"
    answer = server.client.post("/embed", content=picture(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    server.wait_until(lambda: server.metric("handful_queue_rows") == 0)
    server.wait_until(lambda: server.metric("handful_connections") == 1)  # the one that asks
    assert server.metric("handful_queue_bytes") == 0
    assert "Traceback" not in server.logged()
    assert "python_multipart" not in server.logged()
    assert "failed" not in server.logged()
