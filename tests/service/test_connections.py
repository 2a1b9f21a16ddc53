"""Connections that somebody holds: closed in time, while others are answered."""

import resource
import socket
import time

import pytest

from handful_service.connections import room_for

QUICK = {"HANDFUL_HEADER_SECONDS": "1", "HANDFUL_BODY_SECONDS": "2"}
HEADER = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


def until_the_end(connection: socket.socket) -> bytes:
    """Return all that is said before the other side closes."""
    said = b""
    while piece := connection.recv(65536):
        said += piece
    return said


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte now and then, until the other side closes; return what it said."""
    connection.settimeout(0.2)
    said = b""
    for byte in data:
        try:
            connection.send(bytes([byte]))
            said += connection.recv(4096) or b""
        except TimeoutError:
            continue
        except OSError:
            break
        if not said or b"\r\n\r\n" in said:
            break
    return said


@pytest.fixture(scope="module")
def quick(serve_session, bundle_dir):
    return serve_session(bundle_dir, **QUICK).wait_ready()


@pytest.mark.parametrize("begin", [b"", HEADER])
def test_slow_headers_are_closed(quick, begin) -> None:
    """Who sends nothing, or a header drop by drop, is closed in a few times the limit; the
    probes answer meanwhile.
    """
    with quick.connect() as connection:
        connection.sendall(begin)
        started = time.monotonic()
        said = drip(connection, (b"" if begin else HEADER) + b"X-Drop: " + b"d" * 200)
        assert time.monotonic() - started < 20
        assert said == b""
        assert quick.status("/readyz") == 200
    assert quick.metric('handful_connections_closed_total{reason="header"}') > 0


def test_a_slow_body_is_408(quick) -> None:
    """A body that comes drop by drop is refused when its time is over, and the connection ends."""
    with quick.connect() as connection:
        connection.sendall(HEADER + b"Content-Length: 400\r\n\r\n")
        assert drip(connection, b"d" * 200).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_reads_ends_too(quick) -> None:
    """A route that takes no body answers at once; who goes on dripping is closed all the same."""
    with quick.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        drip(connection, b"d" * 300)
        assert time.monotonic() - started < 20
    assert quick.metric('handful_connections_closed_total{reason="body"}') > 0


def test_idle_connections_make_room(serve, bundle_dir) -> None:
    """Beyond the limit the oldest idle connection is closed for the new one, so that probes and
    requests are answered however many connect and say nothing.
    """
    server = serve(bundle_dir, HANDFUL_MAX_CONNECTIONS="8").wait_ready()
    held = []
    try:
        held.extend(server.connect() for _ in range(50))
        server.client.close()
        with server.connect() as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert held[0].recv(1) == b""
    finally:
        for connection in held:
            connection.close()


def test_busy_connections_are_not_given_up(serve, bundle_dir) -> None:
    """Where all connections are busy the new one is 503 with Retry-After, and theirs go on."""
    server = serve(bundle_dir, HANDFUL_MAX_CONNECTIONS="2").wait_ready()
    server.client.close()
    with server.connect() as first, server.connect() as second:
        for busy in (first, second):
            busy.sendall(HEADER + b"Content-Length: 4\r\n\r\n")
        time.sleep(0.5)
        with server.connect() as third:
            said = third.recv(4096)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in said
            assert b'"code":"overloaded"' in said
            assert third.recv(1) == b""
        for busy in (first, second):
            busy.sendall(b"oops")
            assert busy.recv(4096).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        HEADER + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        HEADER + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEADER + b"X: a\x00b\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400(quick, request_) -> None:
    """Lengths that contradict each other, NUL and nonsense: one problem document, and the end."""
    with quick.connect() as connection:
        connection.sendall(request_)
        said = until_the_end(connection)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert b'"code":"bad_request"' in body
    assert said.count(b"HTTP/1.1 ") == 1


def test_nonsense_after_a_request_does_not_cost_its_answer(quick, picture) -> None:
    """A whole request is answered, whatever follows it on the connection, which then ends."""
    body = picture()
    request = HEADER + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for behind in (b"nonsense\r\n\r\n", b"\x00", b"GET /livez HTTP/9.9\r\n\r\n"):
        with quick.connect() as connection:
            connection.sendall(request + behind)
            said = until_the_end(connection)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in quick.logged()


def test_a_body_that_breaks_off_into_nonsense_is_400(quick) -> None:
    """A chunk whose length is no number ends the request that it belongs to."""
    with quick.connect() as connection:
        connection.sendall(HEADER + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n")
        said = until_the_end(connection)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in quick.logged()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "asked"),
    [
        (1024, 1024, 4096, 960, 1024),
        (1024, 2**20, 4096, 4096, 4160),
        (256, -1, 4096, 4096, 4160),
        (-1, -1, 4096, 4096, None),
        (8192, 8192, 4096, 4096, None),
        (70, 70, 4096, 6, 70),
    ],
)
def test_room_follows_the_limit_on_files(monkeypatch, soft, hard, wanted, room, asked) -> None:
    """The limit is raised as far as is needed and allowed; none at all (-1) bounds nothing."""
    set_to = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits[0]))
    assert resource.RLIM_INFINITY == -1
    assert room_for(wanted) == room
    assert set_to == ([] if asked is None else [asked])
