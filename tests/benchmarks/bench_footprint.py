"""What the service takes of a machine: start, memory before and after load, idle time, connections.

Start: `handful-serve` with a bundle folder, until its first answer. Memory (RSS) is that of the
process that serves; the largest requests are the largest that the limits of a bare `handful-serve`
let in, 16 at once. "After" is ten seconds later. Idle time is CPU time.

make bench ARGS="footprint --connections 1000,10000"
"""

import argparse
import base64
import dataclasses
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soak_load
import soak_requests
from pictures import encode, photo
from serving_cases import Case, large, small
from serving_load import cpu_seconds
from serving_peers import HANDFUL
from serving_records import table
from serving_start import Running, started
from soak_requests import CUT, JSON, NPY, Kind

BODY_BYTES, IMAGES, SIDE = 60 * 10**6, 4096, 5000  # near the limits of a request
AT_ONCE, REST_SECONDS = 16, 10
WANTED_SECONDS, WANTED_MIB, WANTED_IDLE = 2, 250, 0.005
MIB = 2**20
PATIENCE = 600.0  # seconds for the largest requests
ROOM = dataclasses.replace(
    HANDFUL,
    command=lambda place: ["env", "HANDFUL_MAX_CONNECTIONS=16000", *HANDFUL.command(place)],
)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="footprint", description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000, help="small ones of a mixed load")
    parser.add_argument("--idle-seconds", type=int, default=30)
    parser.add_argument("--connections", default="1000,10000", help="idle ones, commas between")
    parser.add_argument("--work", type=Path, default=Path("handful-work/bench/serving").absolute())
    options = parser.parse_args(list(arguments))
    options.work.mkdir(parents=True, exist_ok=True)
    for make in (small, large):
        _print(_of_case(make(options.work), options))
    _print(_connections(small(options.work), options))


def _print(rows: Iterator[list[str]]) -> None:
    print(table(["", "measured", "wanted"], list(rows)), "\n", flush=True)


def _of_case(case: Case, options: argparse.Namespace) -> Iterator[list[str]]:
    cores = sorted(os.sched_getaffinity(0))
    name = f"{case.pixels.shape[1]} px"
    walls, spent = [], []
    for _ in range(options.starts):
        with started(HANDFUL, case, options.work, cores) as running:
            walls.append(running.seconds)
            spent.append(cpu_seconds(running.process))
    yield [
        f"{name}: seconds to the first answer, median of {options.starts} (CPU seconds)",
        f"{statistics.median(walls):.2f} ({statistics.median(spent):.2f})",
        f"≤ {WANTED_SECONDS}",
    ]
    with started(HANDFUL, case, options.work, cores) as running:
        yield [f"{name}: MiB at rest", _mib(running), ""]
        kinds = list(_small(case))
        _send(running, kinds, options.requests, 64)
        yield [f"{name}: MiB with the last of {options.requests} small requests", _mib(running), ""]
        time.sleep(REST_SECONDS)
        yield [f"{name}: MiB after them", _mib(running), _most()]
        kinds = list(_largest(case))
        answered = _send(running, kinds, 3 * AT_ONCE, AT_ONCE)
        time.sleep(REST_SECONDS)
        told = ", ".join(f"{count} of status {status}" for status, count in answered.items())
        yield [f"{name}: MiB after {3 * AT_ONCE} of the largest ({told})", _mib(running), _most()]
        before, switches = cpu_seconds(running.process), _switches(running)
        time.sleep(options.idle_seconds)
        share = (cpu_seconds(running.process) - before) / options.idle_seconds
        wakes = (_switches(running) - switches) / options.idle_seconds
        yield [
            f"{name}: CPU while idle, {options.idle_seconds} s, of a core (wake-ups per second)",
            f"{share:.2%} ({wakes:.1f})",
            f"≤ {WANTED_IDLE:.1%}",
        ]


def _connections(case: Case, options: argparse.Namespace) -> Iterator[list[str]]:
    cores = sorted(os.sched_getaffinity(0))
    for count in map(int, options.connections.split(",")):
        with started(ROOM, case, options.work, cores) as running, ExitStack() as stack:
            _hold(running, 64, stack)  # what the first ones leave for good
            before = soak_load.held(_serving(running)).anonymous
            _hold(running, count, stack)
            held = soak_load.held(_serving(running)).anonymous - before
        yield [f"KiB for each of {count:,} idle connections", f"{held / count / 1024:.1f}", ""]


def _hold(running: Running, count: int, stack: ExitStack) -> None:
    """Open connections, have one answer on each, and keep them."""
    parts = urlsplit(running.url)
    for _ in range(count):
        one = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        stack.enter_context(one)
        one.sendall(b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n")
        if not one.recv(4096).startswith(b"HTTP/1.1 200 "):
            sys.exit("a connection is refused; what is `ulimit -n`?")


def _small(case: Case) -> Iterator[Kind]:
    for file in case.pictures:
        yield Kind("raw", soak_requests.raw("/embed", file, "JPEG"))
    for rows in soak_requests.BATCHES:
        body = soak_requests.npy(case.pixels[:rows])
        yield Kind("npy", soak_requests.post("/embed", NPY, body))
        yield Kind("parts", _parts(case.pictures[:rows]))


def _largest(case: Case) -> Iterator[Kind]:
    rows = min(IMAGES, BODY_BYTES // case.pixels[0].size)
    body = soak_requests.npy(np.resize(case.pixels, (rows, *case.pixels.shape[1:])))
    yield Kind("npy", soak_requests.post("/embed", NPY, body, f"Accept: {NPY}"))
    files = _repeated(case.pictures, BODY_BYTES)
    yield Kind("parts", _parts(files))
    texts = [base64.b64encode(file).decode() for file in _repeated(files, BODY_BYTES * 3 // 4)]
    yield Kind("JSON", soak_requests.post("/embed", JSON, json.dumps({"images": texts}).encode()))
    wide = photo(np.random.default_rng(0), SIDE, SIDE)
    for kind in ("JPEG", "PNG", "WEBP"):
        yield Kind(kind, soak_requests.raw("/embed", encode(wide, kind), kind))


def _repeated(files: Sequence[bytes], size: int) -> list[bytes]:
    """Return files, again and again, of `size` bytes together and `IMAGES` of them at most."""
    each = sum(map(len, files)) / len(files)
    return [files[n % len(files)] for n in range(min(IMAGES, int(size / each)))]


def _parts(files: Sequence[bytes]) -> bytes:
    return soak_requests.post("/embed", CUT, soak_requests.multipart(list(files)))


def _send(running: Running, kinds: list[Kind], count: int, connections: int) -> dict[int, int]:
    send: Callable[..., soak_load.Report] = soak_load.send
    report = send(
        running.url, kinds, count=count, connections=connections, seed=0, patience=PATIENCE
    )
    if not report.answered[200]:
        sys.exit(f"nothing was answered: {report.wrong[:3]}")
    return dict(sorted(report.answered.items()))


def _serving(running: Running) -> int:
    """Return the process that serves, below its supervisor."""
    children = running.process.children()
    return children[0].pid if children else running.process.pid


def _mib(running: Running) -> str:
    return f"{soak_load.held(_serving(running)).rss / MIB:.0f}"


def _most() -> str:
    return f"≤ {WANTED_MIB}"


def _switches(running: Running) -> int:
    """Return how often the threads of the process that serves have gone to sleep so far."""
    threads = Path(f"/proc/{_serving(running)}/task").iterdir()
    texts = [(thread / "status").read_text() for thread in threads]
    return sum(int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts)


if __name__ == "__main__":
    main(sys.argv[1:])
