"""Nobody asks, nothing runs: no thread looks again and again whether there is work."""

import time
from pathlib import Path
from typing import Any

SECONDS, MOST = 3.0, 90  # uvicorn looks ten times a second whether it shall stop


def wake_ups(server: Any) -> int:
    """How often the threads of the process that serves have gone to sleep so far."""
    texts = [(one / "status").read_text() for one in Path(f"/proc/{server.pid}/task").iterdir()]
    return sum(int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts)


def test_an_idle_service_sleeps(server, picture) -> None:
    """After a request all threads together wake up less than 30 times a second."""
    answer = server.client.post("/embed", content=picture(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    time.sleep(1)
    before = wake_ups(server)
    time.sleep(SECONDS)
    assert wake_ups(server) - before < MOST


def test_the_count_counts(server) -> None:
    """Requests, one after the other, wake it up: all but those that come while it is awake."""
    before = wake_ups(server)
    for _ in range(200):
        server.status("/livez")
    assert wake_ups(server) - before >= 100
