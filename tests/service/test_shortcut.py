"""The busy routes answer alike, in front of FastAPI's router and behind it."""

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

JSON = {"Content-Type": "application/json"}
JPEG = {"Content-Type": "image/jpeg"}
ACCEPT_NPY = {**JPEG, "Accept": "text/html, application/x-npy"}


def requests(picture: Callable[..., bytes]) -> dict[str, dict[str, Any]]:
    text = base64.b64encode(picture()).decode()
    files = [("images", (f"{n}.jpg", picture(n), "image/jpeg")) for n in range(11)]
    return {
        "raw": {"content": picture(), "headers": JPEG},
        "empty": {"content": b"", "headers": JPEG},
        "truncated": {"content": picture()[:300], "headers": JPEG},
        "mismatched": {"content": picture(), "headers": {"Content-Type": "image/png"}},
        "multipart": {"files": files},
        "json": {"json": {"images": [text, "x", text]}},
        "nonsense": {"content": b"{", "headers": JSON},
        "unsupported": {"content": b"a", "headers": {"Content-Type": "text/plain"}},
        "undeclared": {"content": picture()},
        "npy": {"content": picture(), "headers": ACCEPT_NPY},
        "compressed": {"content": b"a", "headers": {**JPEG, "Content-Encoding": "gzip"}},
    }


CASES = sorted(requests(lambda *_: b""))


def said(answer: httpx.Response) -> tuple[Any, ...]:
    varying = {"x-request-id", "server-timing", "date", "content-length"}
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    if "json" not in answer.headers["content-type"]:
        return answer.status_code, headers, answer.content
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, headers, body


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", ["/embed", "/embed?space=latent", "/classify"])
def test_both_ways_say_the_same(server, picture, path, case) -> None:
    """Status, headers and body are equal to the last digit, for what succeeds and what fails."""
    request = requests(picture)[case]
    longer = f"{path}{'&' if '?' in path else '?'}unknown=1"
    one, other = (said(server.client.post(p, **request)) for p in (path, longer))
    assert one == other


def test_both_ways_count_as_one_route(server, picture) -> None:
    """The metric knows one route, and no path or query that was sent."""
    name = 'handful_requests_total{route="/embed",status="200"}'
    before = server.metric(name)
    for path in ("/embed", "/embed?unknown=secret", "/embed?space=embedding"):
        assert server.client.post(path, content=picture(), headers=JPEG).status_code == 200
    assert server.metric(name) == before + 3
    assert "secret" not in server.client.get("/metrics").text


@pytest.mark.parametrize("path", ["/embed", "/classify", "/embed?space=latent"])
def test_other_methods_are_405(server, path) -> None:
    """Only POST goes there."""
    answer = server.client.get(path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


def test_parameters_are_checked(server, picture) -> None:
    """A space that is none is refused as everywhere."""
    answer = server.client.post("/embed?space=pixel", content=picture(), headers=JPEG)
    assert answer.status_code == 422
    assert answer.json()["code"] == "parameter_invalid"
