"""Multipart bodies are read alike, whether cut at their boundaries or parsed byte by byte."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_service import multipart
from handful_service.decoding import EncodedImage
from handful_service.errors import ServiceError

DATA = st.one_of(
    st.binary(max_size=60),
    # what looks like the end of a part, and is none or is one
    st.lists(
        st.sampled_from([b"\r\n", b"--", b"BB", b"\r\n--BB", b"-", b"\r", b"a", b": "]), max_size=8
    ).map(b"".join),
)
KINDS = st.sampled_from(
    ["image/jpeg", "IMAGE/PNG", "application/octet-stream", "text/x; a=b", None]
)


def written(parts: list[tuple[bytes, str | None]]) -> bytes:
    body = b""
    for data, kind in parts:
        body += b'--BB\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        if kind is not None:
            body += f"Content-Type: {kind}\r\n".encode()
        body += b"\r\n" + data + b"\r\n"
    return body + b"--BB--\r\n"


def outcome(body: bytes, most: int = 99) -> list[EncodedImage] | str:
    try:
        return multipart.read_multipart(body, "multipart/form-data; boundary=BB", most)
    except ServiceError as error:
        return f"{error.code}: {error.detail}"


def parsed(body: bytes, most: int = 99) -> list[EncodedImage] | str:
    try:
        return multipart._read_any(body, b"BB", most)
    except ServiceError as error:
        return f"{error.code}: {error.detail}"


@given(st.lists(st.tuples(DATA, KINDS), min_size=1, max_size=5), st.integers(1, 6))
def test_both_ways_agree(parts: list[tuple[bytes, str | None]], most: int) -> None:
    """Whatever the parts hold, and however many may be sent, both ways find the same."""
    assert outcome(written(parts), most) == parsed(written(parts), most)


@given(st.lists(st.tuples(DATA, KINDS), min_size=1, max_size=3), st.data())
def test_both_ways_agree_on_damage(
    parts: list[tuple[bytes, str | None]], data: st.DataObject
) -> None:
    """So they do of bodies with bytes cut out, changed or put in."""
    body = bytearray(written(parts))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(st.sampled_from([b"", b"\r", b"\n", b"-", b'"', b"B", b" ", b"\x00"]))
        body[place : place + data.draw(st.integers(0, 3))] = piece
    assert outcome(bytes(body)) == parsed(bytes(body))


def test_what_a_client_library_writes_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies that httpx writes need no parser, and come back as they were."""
    monkeypatch.setattr(multipart, "_read_any", None)
    sent = [b"\xff\xd8 one", b"\r\n--two--\r\n", b""]
    files = [("images", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(sent)]
    request = httpx.Request("POST", "http://x", files=files)
    found = multipart.read_multipart(request.read(), request.headers["content-type"], 3)
    assert found == [EncodedImage(data, "image/jpeg") for data in sent]


@pytest.mark.parametrize(
    "extended",
    ["name*=utf-8''images", "name*0=ima; name*1=ges", "name*=a; name*0=b", f"name*{'9' * 3000}=a"],
)
def test_extended_parameters_name_no_field(extended: str) -> None:
    """Parameters as in RFC 2231, which RFC 7578 forbids here, are never the field's name, mixed or
    absurd as they may be; beside a plain name they change nothing.
    """
    head = f"--BB\r\nContent-Disposition: form-data; {extended}"
    end = "\r\n\r\ndata\r\n--BB--\r\n"
    assert str(outcome((head + end).encode())).startswith("multipart_invalid")
    assert outcome((head + "; name=images" + end).encode()) == [EncodedImage(b"data", None)]
