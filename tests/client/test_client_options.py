"""Settings, secrets, and the likeness of the two clients."""

import inspect

import pytest

from handful_client import AsyncHandful, Handful, errors

IMAGE = b"\xff\xd8\xff"
KEY = "s3cret-k3y"


def test_the_two_clients_have_the_same_methods():
    """Every public method of one exists on the other, with the same parameters and defaults."""

    def interface(kind):
        methods = inspect.getmembers(kind, inspect.isroutine)
        return {
            name: [
                (parameter.name, parameter.kind, parameter.default)
                for parameter in inspect.signature(method).parameters.values()
            ]
            for name, method in methods
            if not name.startswith("_") or name == "__init__"
        }

    assert interface(Handful) == interface(AsyncHandful)


def test_the_environment_stands_in(monkeypatch, server, behave):
    """`HANDFUL_URL` and `HANDFUL_API_KEY` are used where nothing is given; arguments win."""
    assert repr(Handful()) == "Handful('http://127.0.0.1:8000')"
    monkeypatch.setenv("HANDFUL_URL", server.url + "/")
    monkeypatch.setenv("HANDFUL_API_KEY", KEY)
    server.does(behave.answer(200, behave.embeddings_of(1)))
    with Handful() as client:
        client.embed(IMAGE)
    with Handful(api_key="other") as client:
        client.embed(IMAGE)
    keys = [f"authorization: Bearer {key}".encode() for key in (KEY, "other")]
    assert [key in request for key, request in zip(keys, server.requests, strict=True)] == [
        True
    ] * 2


def test_no_key_no_header(server, behave):
    """Without a key nothing of the kind is sent."""
    server.does(behave.answer(200, behave.embeddings_of(1)))
    with Handful(server.url) as client:
        client.embed(IMAGE)
    assert b"authorization" not in server.requests[0].lower()


def test_the_key_is_never_shown(server, behave, caplog):
    """Neither representations nor errors nor logs hold the key."""
    caplog.set_level("DEBUG")
    server.does(behave.problem(401, "unauthorized"))
    with Handful(server.url, api_key=KEY) as client:
        with pytest.raises(errors.Unauthorized) as caught:
            client.embed(IMAGE)
        shown = [repr(client), str(caught.value), repr(vars(caught.value)), repr(client._options)]
    with pytest.raises(errors.InputError) as caught:
        Handful(api_key=KEY + "\r\nX-Injected: 1")
    assert KEY not in " ".join([*shown, str(caught.value), caplog.text])


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://u:p@host"])
def test_urls_that_lead_nowhere(url, monkeypatch):
    """A URL that cannot be a service's is refused at once."""
    monkeypatch.setenv("HANDFUL_URL", url)
    if url:
        with pytest.raises(errors.InputError):
            Handful()
    else:
        assert "127.0.0.1" in repr(Handful())  # an empty variable counts as none


@pytest.mark.parametrize("options", [{"timeout": 0}, {"max_retries": -1}])
def test_options_that_make_no_sense(options):
    """Impossible options are refused, also by `with_options`."""
    with pytest.raises(errors.InputError):
        Handful(**options)
    with Handful() as client, pytest.raises(errors.InputError):
        client.with_options(**options)


def test_with_options_shares_connections(service, photos):
    """A client with other options uses the same pool and leaves the first one as it was."""
    with Handful(service) as client:
        patient = client.with_options(timeout=99, max_retries=7)
        assert patient._transport is client._transport
        assert (patient._options.timeout, patient._options.max_retries) == (99, 7)
        assert (client._options.timeout, client._options.max_retries) == (30, 2)
        assert len(patient.embed(photos)) == len(client.embed(photos)) == len(photos)


def test_a_path_before_the_routes(server, behave):
    """A service behind a path of a proxy is reached there."""
    server.does(behave.answer(200, behave.embeddings_of(1)))
    with Handful(server.url + "/handful/") as client:
        client.embed(IMAGE)
    assert server.requests[0].startswith(b"POST /handful/embed HTTP/1.1")


def test_file_names_stay_here(server, behave, tmp_path):
    """Names and folders of files are not sent to the service."""
    path = tmp_path / "private-name.jpg"
    path.write_bytes(IMAGE)
    server.does(behave.answer(200, behave.embeddings_of(2)))
    with Handful(server.url) as client:
        client.embed([path, path])
    assert b"private" not in server.requests[0]
    assert tmp_path.name.encode() not in server.requests[0]


def test_this_machine_needs_no_proxy(monkeypatch, server, behave):
    """A proxy of the environment is not asked for a service on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.does(behave.answer(200, behave.embeddings_of(1)))
    with Handful(server.url) as client:
        assert len(client.embed(IMAGE)) == 1
