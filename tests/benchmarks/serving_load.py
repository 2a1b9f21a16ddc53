"""Requests from wrk, and what they cost the server: CPU seconds of all its processes.

CPU time and not requests a second: beside the load generator, and on a machine that is shared, it
is what stays the same. The load generator's own CPU time is told too: near a whole core it is what
limits, the server waits for it, and wakes up more often than it would need to.
"""

import http.client
import os
import resource
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
WARM_UP_SECONDS = 1  # every answer has been checked before


class ServerFailed(Exception):
    """A server could not be installed or started, or did not answer as it should."""


class Request(NamedTuple):
    """A body as a server takes it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Run(NamedTuple):
    """What one run of wrk tells."""

    done: int
    failed: int
    seconds: float
    cpu_share: float  # of one core, that wrk itself used


class Cost(NamedTuple):
    """What a load cost."""

    cpu_ms: float  # of the server, per image
    images_per_second: float
    requests: int
    failed: int  # of them
    generator_share: float  # of one core, that the load generator used


def send(url: str, request: Request) -> bytes:
    """Send one request and return the answer's body.

    Raises:
        ServerFailed: it is anything but a 200.
        OSError: nobody answers.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ServerFailed(f"{url}{request.path}: no whole answer ({error!r})") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ServerFailed(f"{url}{request.path} answered {answer.status}: {body[:500]!r}")
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

    Raises:
        ServerFailed: none was answered.
    """
    with _files(requests) as environment:
        _wrk(url, environment, connections, WARM_UP_SECONDS, core)
        before = cpu_seconds(server)
        run = _wrk(url, environment, connections, seconds, core)
        spent = cpu_seconds(server) - before
    if not run.done:
        raise ServerFailed(f"nothing was answered in {seconds} s; {run.failed} requests failed")
    total = run.done * images
    return Cost(1000 * spent / total, total / run.seconds, run.done, run.failed, run.cpu_share)


def cpu_seconds(server: psutil.Process) -> float:
    """Return what a process and its children have spent, the ended ones included.

    Raises:
        ServerFailed: it has ended.
    """
    times = [one.cpu_times() for one in _family(server)]
    ended = server.cpu_times()
    return float(
        sum(t.user + t.system for t in times) + ended.children_user + ended.children_system
    )


def memory_mib(server: psutil.Process) -> float:
    """Return what a process and its children hold in memory, shared pages once.

    Raises:
        ServerFailed: it has ended.
    """
    return float(sum(one.memory_full_info().pss for one in _family(server)) / 2**20)


def _family(server: psutil.Process) -> list[psutil.Process]:
    try:
        found = [server, *server.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise ServerFailed("the server ended while it was measured") from None
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


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
) -> Run:
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    before = _children_seconds()
    done = subprocess.run(
        [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s",
         "-s", str(SCRIPT), url],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServerFailed(f"wrk cannot reach {url}: {done.stderr.strip()[-300:]}")
    return parse(done.stdout, _children_seconds() - before)


def parse(output: str, cpu: float) -> Run:
    """Read the line that `serving_load.lua` ends with: DONE requests failures microseconds.

    Args:
        output: of wrk.
        cpu: seconds that wrk spent.

    Raises:
        ServerFailed: there is no such line.
    """
    lines = [line for line in output.splitlines() if line.startswith("DONE ")]
    if len(lines) != 1:
        raise ServerFailed(f"wrk did not say what it did: {output[-300:]!r}")
    count, failed, microseconds = map(int, lines[0].split()[1:])
    seconds = microseconds / 1e6
    return Run(count, failed, seconds, cpu / seconds)


def _children_seconds() -> float:
    """Return the CPU seconds of children that have been waited for; a running server is not."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
