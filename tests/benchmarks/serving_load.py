"""Requests from wrk, and what they cost the server: CPU seconds of all its processes.

CPU time and not requests a second: beside the load generator, and on a machine that is shared, it
is what stays the same.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

SCRIPT = Path(__file__).with_name("serving_load.lua")
WARM_UP_SECONDS = 2


class Request(NamedTuple):
    """A body as a server takes it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Cost(NamedTuple):
    """What a load cost."""

    cpu_ms: float  # of the server, per image
    images_per_second: float
    p50: float  # milliseconds, closed loop
    p99: float


def send(url: str, request: Request) -> bytes:
    """Send one request and return the answer's body; anything but 200 ends the bench."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        sys.exit(f"{url}{request.path} answered {answer.status}: {body[:500]!r}")
    return body


def drive(
    url: str,
    requests: Sequence[Request],
    images: int,
    server: psutil.Process,
    *,
    connections: int,
    seconds: int,
    core: int | None,
) -> Cost:
    """Send `requests` in turn for `seconds`, in a closed loop.

    Args:
        url: of the server.
        requests: each as often as the others.
        images: in each of them.
        server: its first process.
        connections: that are open, each with one request at a time.
        seconds: after a warm-up.
        core: that wrk runs on; None: any.
    """
    with _files(requests) as environment:
        _wrk(url, environment, connections, WARM_UP_SECONDS, core)
        before = cpu_seconds(server)
        done, failed, seconds_spent, p50, p99 = _wrk(url, environment, connections, seconds, core)
        spent = cpu_seconds(server) - before
    if failed or not done:
        sys.exit(f"{failed} of {done + failed} requests to {url} failed")
    total = done * images
    return Cost(1000 * spent / total, total / seconds_spent, p50, p99)


def cpu_seconds(server: psutil.Process) -> float:
    """Return what a process and its children have spent, the ended ones included."""
    times = [p.cpu_times() for p in (server, *server.children(recursive=True))]
    ended = server.cpu_times()
    return sum(t.user + t.system for t in times) + ended.children_user + ended.children_system


def memory_mib(server: psutil.Process) -> float:
    """Return what a process and its children hold in memory, shared pages once."""
    processes = (server, *server.children(recursive=True))
    return sum(p.memory_full_info().pss for p in processes) / 2**20


@contextmanager
def _files(requests: Sequence[Request]) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        for n, request in enumerate(requests):
            Path(folder, f"{n}.body").write_bytes(request.body)
            lines = [request.path, *(f"{k}: {v}" for k, v in request.headers.items())]
            Path(folder, f"{n}.head").write_text("\n".join(lines) + "\n")
        yield {**os.environ, "REQUESTS": folder, "COUNT": str(len(requests))}


def _wrk(
    url: str, environment: Mapping[str, str], connections: int, seconds: int, core: int | None
) -> tuple[int, int, float, float, float]:
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    done = subprocess.run(
        [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s",
         "-s", str(SCRIPT), url],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("DONE "))
    count, failed, micro, p50, p99 = map(float, line.split()[1:])
    return int(count), int(failed), micro / 1e6, p50, p99
