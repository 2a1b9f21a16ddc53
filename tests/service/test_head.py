"""Heads of requests: what two programs could read in two ways, or has no end, is refused once, and
nothing behind it is believed.
"""

import re

import pytest

MODEL = b"GET /model HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKED = POST + TE + b"\r\n"
NEXT = MODEL + b"\r\n"  # whatever comes before: this is not to be answered
MANY = b"X-A: b\r\n" * 5000
LONG = b"a" * 40_000

# what is sent before NEXT, and the status of the only answer
REFUSED = {
    "no Host": (b"GET /model HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (MODEL + b"Host: y\r\n\r\n", 400),
    "a Host that is none": (b"GET /model HTTP/1.1\r\nHost: x y/@\r\n\r\n", 400),
    "TE beside CL": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    "CL beside TE": (
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "a length with a sign": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "a length in hex": (POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "a length beyond 64 bits": (POST + b"Content-Length: 18446744073709551619\r\n\r\nabc", 400),
    "a space before the colon": (POST + b"Content-Length : 3\r\n\r\nabc", 400),
    "a coding unlike chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 415),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 415),
    "chunked twice": (POST + TE * 2 + b"\r\n0\r\n\r\n", 400),
    "NUL in a name": (MODEL + b"X-A\0: b\r\n\r\n", 400),
    "NUL in a value": (MODEL + b"X-A: b\0c\r\n\r\n", 400),
    "NUL in the path": (b"GET /mo\0del HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a folded line": (MODEL + b"X-A: b\r\n c\r\n\r\n", 400),
    "a folded coding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "bare LF": (b"GET /model HTTP/1.1\nHost: x\n\n", 400),
    "bare LF after a field": (MODEL + b"X-A: b\nX-B: c\r\n\r\n", 400),
    "bare CR": (MODEL + b"X-A: b\rX-B: c\r\n\r\n", 400),
    "no colon": (MODEL + b"X-A\r\n\r\n", 400),
    "a space first": (b"GET /model HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /model\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "chunk extension, LF": (CHUNKED + b"3;a\nabc\r\n0\r\n\r\n", 400),
    "chunk extension, NUL": (CHUNKED + b"3;\0\r\nabc\r\n0\r\n\r\n", 400),
    "chunk of 2^64 + 3": (CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    "chunk of -1": (CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n", 400),
    "chunk of 0x3": (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "chunk shorter than said": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "chunk without an end": (CHUNKED + b"3\r\nabc0\r\n\r\n", 400),
    "chunks with bare LF": (CHUNKED + b"3\nabc\n0\n\n", 400),
    "a length after the body": (CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n", 400),
    "a long field": (MODEL + b"X-A: " + LONG + b"\r\n\r\n", 431),
    "a long name": (MODEL + LONG + b": b\r\n\r\n", 431),
    "a long path": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "many fields": (MODEL + MANY + b"\r\n", 431),
}


def talk(server, data: bytes) -> bytes:
    """Return all that is said to `data` before the other side closes."""
    said = b""
    with server.connect() as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                said += piece
        except ConnectionError:  # closed while there was more to send
            pass
    return said


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_heads(server, name) -> None:
    """What can be read in two ways, or has no end, is refused by one problem; the connection ends,
    and what comes behind is not taken for a request.
    """
    data, status = REFUSED[name]
    said = talk(server, data + NEXT)
    assert statuses(said) == [status]
    assert b"application/problem+json" in said
    assert b"x-model-version: none" in said.lower()


def test_a_header_has_an_end(server) -> None:
    """A header that never ends is refused at 32 KiB, and the rest of it is not waited for."""
    sent = 0
    with server.connect() as connection:
        connection.sendall(MODEL)
        try:
            while sent < 2**24:
                sent += connection.send(b"X-A: " + b"a" * 2000 + b"\r\n")
        except ConnectionError:
            pass
    assert sent < 2**24
    assert server.metric("handful_queue_rows") == 0


def test_a_head_of_30_kib_is_taken(server) -> None:
    """Below the limit a header is taken, also with a body of megabytes right behind it."""
    field = b"X-A: " + b"a" * 30_000 + b"\r\n"
    body = b"\xff\xd8\xff" + b"x" * 2_000_000
    length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    assert statuses(talk(server, POST + field + length + body)) == [422]
    last = MODEL + b"Connection: close\r\n\r\n"
    assert statuses(talk(server, (MODEL + field + b"\r\n") * 20 + last)) == [200] * 21


def test_what_follows_a_body_is_no_header(server) -> None:
    """Fields after a chunked body are not believed: they change nothing of the request."""
    chunks = CHUNKED + b"3\r\nabc\r\n0\r\n"
    trailers = b"X-Request-ID: of-the-trailer\r\nX-Request-Timeout-Ms: nonsense\r\n"
    last = MODEL + b"Connection: close\r\n\r\n"
    said = talk(server, chunks + trailers * 1000 + b"\r\n" + last)
    assert statuses(said) == [415, 200]
    assert b"of-the-trailer" not in said
    assert b"image_unsupported" in said


def test_an_answer_under_way_comes_before_a_refusal(server, slow_picture) -> None:
    """A bad head behind a request that is still being answered does not go before its answer."""
    kind = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    first = kind + b"Content-Length: %d\r\n\r\n" % len(slow_picture) + slow_picture
    said = talk(server, first + b"GET /model HTTP/1.1\r\n\r\n")
    assert statuses(said) == [200]


def test_http_1_0_needs_no_host(server) -> None:
    """HTTP/1.0 knows no Host."""
    assert statuses(talk(server, b"GET /model HTTP/1.0\r\n\r\n")) == [200]


def test_only_the_names_that_are_listed(serve, bundle_dir) -> None:
    """Where names are listed, asking by another is 400, whatever is asked but the probes; ports and
    capitals do not matter.
    """
    named = serve(bundle_dir, HANDFUL_HOSTS="127.0.0.1, Pictures.example.org,[::1]").wait_ready()
    client = named.client
    for good in ("pictures.example.org", "PICTURES.example.org:8000", "127.0.0.1:1", "[::1]:80"):
        assert client.get("/model", headers={"Host": good}).status_code == 200
    for bad in ("evil.example", "pictures.example.org.evil.example", "", "pictures.example.org."):
        for path in ("/model", "/metrics", "/openapi.json", "/docs", "/nothing"):
            answer = client.get(path, headers={"Host": bad})
            assert (answer.status_code, answer.json()["code"]) == (400, "host_unknown"), (bad, path)
        answer = client.post("/embed", content=b"x", headers={"Host": bad})
        assert answer.json()["code"] == "host_unknown"
        assert client.get("/livez", headers={"Host": bad}).status_code == 200
        assert client.get("/readyz", headers={"Host": bad}).status_code == 200


def test_ranges_are_passed_over(server) -> None:
    """A flood of ranges costs nothing: no answer is given in parts, as HTTP leaves open (RFC 9110,
    section 14.2).
    """
    flood = "bytes=" + ",".join(["0-"] * 4000)
    for path in ("/openapi.json", "/docs", "/model"):
        whole = server.client.get(path)
        answer = server.client.get(path, headers={"Range": flood})
        assert (answer.status_code, len(answer.content)) == (200, len(whole.content))
