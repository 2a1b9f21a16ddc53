"""Requests leave nothing behind: no memory, object, task, thread, file or lease.

Counts of objects tell it after a few thousand requests of every kind; memory tells it after many:
`make soak` sends HANDFUL_SOAK=200000. Both are tried on a service that leaks on purpose, too.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful_bundle.bundle import read_manifest
from handful_service.backlog import Entry
from handful_service.body import _Incoming
from handful_service.context import RequestContext
from handful_service.express import Ride
from handful_service.pipeline import Lease, Results
from handful_service.routes.dependencies import Call
from handful_service.work import Answer, Work

WATCHED = (sys.executable, Path(__file__).with_name("watched_server.py"))
OF_A_REQUEST = (Answer, Call, Entry, Lease, RequestContext, Results, Ride, _Incoming, Work)
WARM_UP, COUNT = 1500, 1200  # requests
MORE_BLOCKS = 450  # of Python's allocator that may come late: caches, and the counters' numbers
MORE_OF_A_TYPE = 30  # what one more series of a metric is made of
SOON = 3.0  # seconds
AT_REST = 2.5  # seconds

SOAK = int(os.environ.get("HANDFUL_SOAK", "40000"))
SOAK_WARM_UP = 20_000  # until the heap has its shape
ROUNDS = 40
LEAK_BYTES = 100


@pytest.fixture(scope="module")
def kinds(soak_requests, bundle_dir):
    return soak_requests.kinds(read_manifest(bundle_dir))


def objects(server: Any) -> Counter[str]:
    """Everything that `server`, watched, holds now, by its name."""
    found = server.client.get("/objects").json()
    types = {f"type {name}": count for name, count in found.pop("objects").items()}
    files = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    return Counter(found | types | {"files": files})


def soaked(server: Any, soak_load: Any, kinds: Any) -> tuple[Counter[str], Counter[str]]:
    """Send `COUNT` requests after a warm-up; return what is held before and after."""
    files = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    held = [objects(server)]  # what the first look itself leaves behind
    for seed, count in enumerate((WARM_UP, COUNT)):
        report = soak_load.send(server.url, kinds, count=count, connections=8, seed=seed)
        assert (report.sent, report.wrong) == (count, [])
        assert soak_load.settled(server.pid, files).files <= files
        held.append(objects(server))
    deadline = time.monotonic() + SOON
    while grown(held[1], held[2]) and time.monotonic() < deadline:  # a thread may be about to end
        held[2] = objects(server)
    return held[1], held[2]


def grown(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """What there is too much more of."""
    allowed = {"blocks": MORE_BLOCKS, "files": 0, "tasks": 0, "threads": 0, "leases": 0}
    more = {name: count - before[name] for name, count in after.items()}
    return {name: n for name, n in more.items() if n > allowed.get(name, MORE_OF_A_TYPE)}


def test_nothing_stays(serve, soak_load, kinds, bundle_dir) -> None:
    """After 1,200 requests of every kind, good, bad and broken off, there are as many objects of
    each type, tasks, threads, files and leases as before them, and none that belongs to a request.
    """
    server = serve(bundle_dir, command=WATCHED).wait_ready()
    before, after = soaked(server, soak_load, kinds)
    assert grown(before, after) == {}
    left = {one.__name__: after[f"type {one.__name__}"] for one in OF_A_REQUEST}
    assert left == dict.fromkeys(left, 0)
    assert after["leases"] == 0
    assert server.metric("handful_queue_rows") == server.metric("handful_queue_bytes") == 0
    assert "Traceback" not in server.logged()


def test_what_stays_is_found(serve, soak_load, kinds, bundle_dir) -> None:
    """The same count tells of a service that keeps 100 bytes of each request that it refuses."""
    leak = {"WATCHED_LEAK": str(LEAK_BYTES), "WATCHED_LEAK_FROM": "400"}
    server = serve(bundle_dir, command=WATCHED, **leak).wait_ready()
    before, after = soaked(server, soak_load, kinds)
    assert "blocks" in grown(before, after)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_stays(serve, soak_load, leak_judge, kinds, bundle_dir) -> None:
    """`HANDFUL_SOAK` requests do not let memory grow by 1 %, nor files and threads by one."""
    held = _held(serve(bundle_dir).wait_ready(), soak_load, kinds)
    _print("handful-serve", held, leak_judge.growth)
    done = sorted(held)
    assert not leak_judge.leaks(done, [held[n].rss for n in done])
    for count in ("files", "threads"):
        values = [getattr(held[n], count) for n in done]
        assert min(values[-5:]) <= max(values[:5]), count


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_that_grows_is_found(serve, soak_load, leak_judge, kinds, bundle_dir) -> None:
    """The same load and judge tell of a service that keeps 100 bytes of each request."""
    leaking = serve(bundle_dir, command=WATCHED, WATCHED_LEAK=str(LEAK_BYTES)).wait_ready()
    held = _held(leaking, soak_load, kinds)
    _print(f"a control that keeps {LEAK_BYTES} bytes of each request", held, leak_judge.growth)
    done = sorted(held)
    assert leak_judge.leaks(done, [held[n].rss for n in done])


def _held(server: Any, soak_load: Any, kinds: Any) -> dict[int, Any]:
    """Return what `server` holds, by the requests that it has answered since the warm-up."""
    pid = server.pid
    files = soak_load.held(pid).files
    held = {}
    for seed in range(ROUNDS + 1):
        count = SOAK // ROUNDS if seed else SOAK_WARM_UP
        report = soak_load.send(server.url, kinds, count=count, connections=16, seed=seed)
        assert (report.sent, report.wrong) == (count, [])
        soak_load.settled(pid, files)
        time.sleep(AT_REST)  # what is free is given back when the last client has left
        held[seed * count if seed else 0] = soak_load.held(pid)
    return held


def _print(name: str, held: dict[int, Any], growth: Callable[..., float]) -> None:
    done = sorted(held)
    first, last = held[done[0]], held[done[-1]]
    print(f"\n{name}: {done[-1]} requests after {SOAK_WARM_UP}, {len(done)} measurements")
    for size in ("rss", "anonymous"):
        values = [getattr(held[n], size) for n in done]
        print(
            f"  {size}: {values[0] / 2**20:.1f} to {values[-1] / 2**20:.1f} MiB, growth "
            f"{100 * growth(done, values):.2f} %"
        )
    print(f"  files {first.files} to {last.files}, threads {first.threads} to {last.threads}")
