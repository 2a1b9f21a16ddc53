"""API keys: who bears a live one may ask, and nobody else; the file changes without a restart."""

import secrets
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from handful_service.context import RequestContext
from handful_service.errors import ServiceError
from handful_service.keys import Keys, KeysUnusable

FIRST, SECOND = secrets.token_urlsafe(32), secrets.token_urlsafe(32)


def line(key: str, whose: str = "") -> str:
    return f"{sha256(key.encode()).hexdigest()}  {whose}\n"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of the lab\n\n{line(FIRST, 'microscope')}")
    return path


@pytest.fixture
def keyed(serve, bundle_dir, file):
    return serve(bundle_dir, HANDFUL_API_KEYS_FILE=str(file)).wait_ready()


def embed(server, picture, headers: dict[str, str]) -> httpx.Response:
    headers = {"Content-Type": "image/jpeg", **headers}
    return server.client.post("/embed", content=picture(), headers=headers)


def test_only_a_live_key_may_ask(keyed, picture) -> None:
    """Without a key, with another, or with the digest itself, every route but the probes and the
    documentation is 401, whatever was sent; with a live key all is as ever.
    """
    digest = sha256(FIRST.encode()).hexdigest()
    bad = [
        {},
        bearer(SECOND),
        bearer(digest),
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {FIRST}"},
    ]
    for headers in bad:
        for answer in (
            embed(keyed, picture, headers),
            keyed.client.post("/classify", headers=headers),
            keyed.client.post("/decode", json={"latents": [[0.0]]}, headers=headers),
            keyed.client.get("/model", headers=headers),
            keyed.client.get("/metrics", headers=headers),
            keyed.client.get("/nowhere", headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.json()["code"] == "unauthorized"
            assert answer.json()["retryable"] is False
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert FIRST not in answer.text
            assert digest not in answer.text
        for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
            assert keyed.client.get(path, headers=headers).status_code == 200
    assert embed(keyed, picture, bearer(FIRST)).status_code == 200
    assert embed(keyed, picture, {"authorization": f"bearer {FIRST}"}).status_code == 200
    assert keyed.client.get("/metrics", headers=bearer(FIRST)).status_code == 200
    assert FIRST not in keyed.logged()


def test_keys_change_without_a_restart(keyed, picture, file) -> None:
    """Two keys live at once while clients move over; the one that is taken out is refused soon; a
    file that is broken or gone changes nothing.
    """

    def statuses() -> list[int]:
        return [embed(keyed, picture, bearer(key)).status_code for key in (FIRST, SECOND)]

    file.write_text(line(FIRST, "microscope") + line(SECOND, "microscope"))
    keyed.wait_until(lambda: statuses() == [200, 200])
    file.write_text(line(SECOND))
    keyed.wait_until(lambda: statuses() == [401, 200])
    file.write_text(FIRST)
    keyed.wait_until(lambda: statuses() == [401, 200] and "stay live" in keyed.logged())
    assert FIRST not in keyed.logged()
    file.unlink()
    keyed.wait_until(lambda: statuses() == [401, 200] and "cannot be read" in keyed.logged())


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "holds no key"),
        (b"# none yet\n", "holds no key"),
        (b"secret\n", "line 1"),
        (b"\xff", "plain text"),
        (None, "cannot be read"),
        (b"#" * 2**21, "larger"),
    ],
)
def test_unusable_files(tmp_path, content, remedy) -> None:
    """A file without keys, with something else or none at all is refused, and not repeated."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysUnusable, match=remedy) as raised:
        Keys(path)
    assert "secret\n" not in str(raised.value)


def test_each_of_many_keys_is_live(tmp_path) -> None:
    """The first, the last and every key between pass, one bit beside them does not."""
    keys = [secrets.token_urlsafe(32) for _ in range(50)]
    path = tmp_path / "keys"
    path.write_text("".join(map(line, keys)))
    known = Keys(path)

    def context(key: str) -> RequestContext:
        return RequestContext("id", {b"authorization": b"Bearer " + key.encode()}, None)  # type: ignore[arg-type]

    for key in keys:
        known.check(context(key))
        with pytest.raises(ServiceError):
            known.check(context(key[:-1] + chr(ord(key[-1]) ^ 1)))
