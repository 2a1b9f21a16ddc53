"""Memory near its limit: new work is refused in time, and only as long."""

import mmap

import pytest

from handful_service import memory
from handful_service.memory import Ceiling, memory_used


def test_it_is_near_from_its_share_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near from the share of the limit on, no longer once less is in use, never without a limit;
    and it is looked at now and then only.
    """
    now, used, looks = [0.0], [0], []

    def look() -> int:
        looks.append(now[0])
        return used[0]

    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    ceiling = Ceiling(0.9, 1000, look)
    for value, near in ((0, False), (899, False), (900, True), (5000, True), (899, False)):
        used[0] = value
        now[0] += 1
        assert ceiling.near is near
        used[0] = 0 if near else 5000
        assert ceiling.near is near
    assert len(looks) == 5
    assert not Ceiling(0.9, None, lambda: 2**60).near
    assert not Ceiling(0.9, 1000, lambda: None).near


def test_memory_in_use_is_that_of_the_process() -> None:
    """It grows with what is allocated and touched."""
    before = memory_used()
    assert before is not None
    with mmap.mmap(-1, 2**26) as held:  # not of the heap, which may have as much free
        for _ in range(64):
            held.write(b"x" * 2**20)
        after = memory_used()
    assert after is not None
    assert 0.9 * 2**26 < after - before < 2**27


def test_requests_are_refused_and_probes_are_not(serve, bundle_dir, picture) -> None:
    """A service that holds more than its share answers 503 with Retry-After, and says so to
    nobody who only looks.
    """
    server = serve(bundle_dir, HANDFUL_MEMORY_SHARE="0.000001").wait_ready()
    answer = server.client.post("/embed", content=picture(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "overloaded"
    assert int(answer.headers["Retry-After"]) > 0
    assert server.status("/livez") == server.status("/readyz") == server.status("/model") == 200
