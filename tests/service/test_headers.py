"""What every response bears, and what the probes and /model say."""

import json
import re
from pathlib import Path

import pytest

from handful_bundle.bundle import Bundle


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/model", "/nowhere"])
def test_every_response_bears_its_headers(server, bundle_dir, path) -> None:
    """Id, model version, space and timings are on every response, also on a 404."""
    headers = server.client.get(path).headers
    manifest = json.loads((bundle_dir / "manifest.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Request-ID"])
    assert re.fullmatch(r"[0-9a-f]{12}", headers["X-Model-Version"])
    assert headers["X-Embedding-Space"] == manifest["space"]
    assert re.search(r"total;dur=[\d.]+$", headers["Server-Timing"])


def test_timings_name_the_phases(server, picture) -> None:
    """Server-Timing of an inference says where the time went."""
    headers = server.client.post(
        "/embed", content=picture(), headers={"Content-Type": "image/jpeg"}
    ).headers
    names = re.findall(r"(\w+);dur=", headers["Server-Timing"])
    assert names == ["read", "decode", "queue", "model", "total"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-DEF_1.2", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("<x>", False)],
)
def test_request_id(server, given, kept) -> None:
    """A safe X-Request-ID comes back in header and problem; any other is replaced."""
    answer = server.client.get("/nowhere", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) is kept
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_model(server, bundle_dir: Path) -> None:
    """/model tells manifest, version, provider really in use and limits, and no path."""
    answer = server.client.get("/model")
    found = answer.json()
    bundle = Bundle.load(bundle_dir, device="cpu", threads=1)
    assert found["manifest"] == bundle.manifest.model_dump(mode="json")
    assert found["model"]["version"] == answer.headers["X-Model-Version"]
    assert found["provider"] == "cpu"
    assert found["labels"] == ["cat", "dog", "owl"]
    assert found["settings"]["max_images"] == 4096
    assert str(bundle_dir) not in answer.text
    assert "cache" not in found["settings"]


def test_metrics(server) -> None:
    """Every metric of ours is prefixed, counters end in _total, times are in seconds."""
    text = server.client.get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    ours = {
        name: kind for name, kind in kinds.items() if not name.startswith(("python_", "process_"))
    }
    assert ours
    assert all(name.startswith("handful_") for name in ours)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in ours.items())
    assert not re.search("millisecond|_ms|kilobyte|_created", text)
    assert server.metric("handful_ready") == 1
    assert 'provider="cpu"' in text
    server.client.get("/no/such/path/at-all")
    text = server.client.get("/metrics").text
    assert "at-all" not in text  # a label's values are bounded
    assert 'route="unmatched",status="404"' in text


def test_log_lines(serve, bundle_dir) -> None:
    """Each event is one JSON line with the request's id, and nothing that was sent."""
    server = serve(bundle_dir, HANDFUL_LOG_FORMAT="json").wait_ready()
    server.client.get(
        "/private-path?q=private-query",
        headers={"X-Request-ID": "known-id", "User-Agent": "private-agent"},
    )
    server.stop()
    entries = [json.loads(line) for line in server.logged().splitlines()]
    (entry,) = (entry for entry in entries if entry.get("request_id") == "known-id")
    assert entry["message"] == "GET unmatched 404"
    assert entry["milliseconds"] > 0
    assert "private" not in server.logged()
