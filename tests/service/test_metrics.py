"""Laws of the metrics that alarms are made of."""

import httpx
import pytest

from handful_service.errors import KINDS
from handful_service.memory import memory_limit


def test_each_problem_is_counted_by_its_code(server) -> None:
    """A request that is answered with a problem counts once, by route and code; others do not."""

    def refused(route: str, code: str) -> float:
        series = f'handful_problems_total{{code="{code}",route="{route}"}} '
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))

    asked = {
        ("/embed", "image_unsupported"): lambda: server.client.post(
            "/embed", content=b"text", headers={"Content-Type": "image/png"}
        ),
        ("/sample", "label_unknown"): lambda: server.client.post(
            "/sample", json={"count": 1, "label": "unicorn"}
        ),
        ("unmatched", "not_found"): lambda: server.client.get("/no/such/path"),
    }
    for (route, code), ask in asked.items():
        before = refused(route, code)
        answer: httpx.Response = ask()
        assert answer.json()["code"] == code
        assert answer.status_code == KINDS[code].status
        assert refused(route, code) == before + 1
    before = server.metric("handful_problems_total")
    assert server.client.get("/model").status_code == 200
    assert server.metric("handful_problems_total") == before


def test_limits_stand_beside_what_they_bound(serve, bundle_dir) -> None:
    """The queue's limits are the settings' ones, and memory in use is below its limit."""
    server = serve(
        bundle_dir, HANDFUL_QUEUE_ROWS="200", HANDFUL_QUEUE_BYTES="200000000"
    ).wait_ready()
    assert server.metric("handful_queue_rows_limit") == 200
    assert server.metric("handful_queue_bytes_limit") == 200_000_000
    used = server.metric("process_resident_memory_bytes")
    assert 0 < used < server.metric("handful_memory_limit_bytes")
    assert server.metric("handful_model_behind") == 0  # a folder has no newer version


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "1048576\n", 1048576),
        ("memory/memory.limit_in_bytes", "2097152\n", 2097152),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),  # none, in version 1
    ],
)
def test_the_memory_limit_is_the_control_groups(tmp_path, file, text, limit) -> None:
    """The control group's limit counts where there is one, else the machine's memory."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert memory_limit(tmp_path) == (limit or memory_limit(tmp_path / "no-such-folder"))
