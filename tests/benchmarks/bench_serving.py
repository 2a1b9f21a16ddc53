"""From bytes to answer: what serving costs above decoding and the model, and beside other servers.

Figures are CPU milliseconds of all the server's processes per image (the same number as CPU seconds
per 1,000 images), each the median of rounds in which everybody has a turn, on one core, wrk on
another. Every server's answers are compared with the offline embeddings before it is measured.

make bench ARGS="serving --peers all"
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from serving_cases import Case, large, small
from serving_load import Cost, Request, cpu_seconds, drive, memory_mib
from serving_open_loop import latencies
from serving_peers import CONSTANT, HANDFUL, OTHERS, ROUTE, Server, started

BATCH = 32
IDLE_SECONDS = 10
OPEN_LOOP_SECONDS = 10
OPEN_LOOP_SHARE = 0.7  # of what the slowest server manages
MULTIPART = "bench-boundary"


class Load(NamedTuple):
    """How requests come."""

    name: str
    images: int  # in each
    connections: int
    requests: Callable[[Case, Server], list[Request]]


def _singles(case: Case, server: Server) -> list[Request]:
    return [server.request(picture) for picture in case.pictures]


def _multipart(case: Case, _: Server) -> list[Request]:
    headers = {"Content-Type": f"multipart/form-data; boundary={MULTIPART}"}
    head = (
        f'--{MULTIPART}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    halves = case.pictures[:BATCH], case.pictures[-BATCH:]
    bodies = (b"".join(head + file + b"\r\n" for file in half) for half in halves)
    return [Request("/embed", headers, b + f"--{MULTIPART}--\r\n".encode()) for b in bodies]


def _npy(case: Case, _: Server) -> list[Request]:
    buffer = io.BytesIO()
    np.save(buffer, case.pixels[:BATCH])
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    return [Request("/embed", headers, buffer.getvalue())]


SINGLES = [Load(f"1 image, {c} connections", 1, c, _singles) for c in (1, 8, 64)]
BATCHES = [
    Load("32 images, multipart, 8 connections", BATCH, 8, _multipart),
    Load("32 images, pixels in npy, 8 connections", BATCH, 8, _npy),
]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    options = _options(arguments)
    cores = sorted(os.sched_getaffinity(0))
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    cases = [make(work) for make in (small, large)]
    peers = _peers(options.peers)
    for case in cases:
        if case.name in options.cases:
            _costs(case, peers, work, cores, options.rounds, options.seconds)
    _at_rest(cases[0], [HANDFUL, *peers], work, cores)
    _on_all_cores(cases[0], [HANDFUL, *peers], work, cores, options.seconds)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving", description=__doc__)
    known = ", ".join(server.name for server in OTHERS)
    parser.add_argument("--peers", default=ROUTE.name, help=f"all, none, or of {known}")
    parser.add_argument("--cases", default="S,L", help="S, L or both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each load in each round")
    parser.add_argument("--work", type=Path, default=Path("handful-work/bench/serving").absolute())
    return parser.parse_args(list(arguments))


def _peers(text: str) -> list[Server]:
    if text in ("all", "none"):
        return list(OTHERS) if text == "all" else []
    found = [server for server in OTHERS if server.name in text.split(",")]
    if len(found) < len(text.split(",")):
        sys.exit(f"--peers {text}: there are {', '.join(server.name for server in OTHERS)}")
    return found


def _costs(
    case: Case, peers: list[Server], work: Path, cores: list[int], rounds: int, seconds: int
) -> None:
    """Print what one image costs each, on one core."""
    size = sum(map(len, case.pictures)) / len(case.pictures) / 1000
    print(f"### {case.name}: JPEGs of {size:.1f} kB, CPU ms per image\n")
    limits: list[float] = []
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        limits.append(_limit(case, work, cores[0]))
        for server in (CONSTANT, HANDFUL, *peers):
            loads = [*SINGLES, *BATCHES] if server is HANDFUL else SINGLES
            with started(server, case, work, cores=cores[:1], threads=1) as running:
                for load in loads:
                    cost = drive(
                        running.url, load.requests(case, server), load.images, running.process,
                        connections=load.connections, seconds=seconds, core=cores[-1],
                    )  # fmt: skip
                    found.setdefault((server.name, load.name), []).append(cost.cpu_ms)
    limit = statistics.median(limits)
    middle = {key: statistics.median(values) for key, values in found.items()}
    names = [peer.name for peer in peers]
    print("|  | limit | HTTP alone | Handful | to the limit | best peer |"
          + "".join(f" {name} |" for name in names))  # fmt: skip
    print("|---|---|---|---|---|---|" + "---|" * len(names))
    for load in (*SINGLES, *BATCHES):
        ours = middle[HANDFUL.name, load.name]
        alone = middle.get((CONSTANT.name, load.name))
        least = limit + (alone or 0)
        theirs = [middle[name, load.name] for name in names if (name, load.name) in middle]
        best = f"{min(theirs) / ours:.1f} times" if theirs else "–"
        cells = [f"{middle[n, load.name]:.3f}" if (n, load.name) in middle else "–" for n in names]
        print(
            f"| {load.name} | {limit:.3f} | {'–' if alone is None else f'{alone:.3f}'} | "
            f"{ours:.3f} | {ours / least:.2f} | {best} |" + "".join(f" {cell} |" for cell in cells),
            flush=True,
        )
    print("\n“To the limit”: as a ratio to limit + HTTP alone; of 32 images to the limit.\n")


def _limit(case: Case, work: Path, core: int) -> float:
    folder = work / f"{case.name}-pictures"
    folder.mkdir(exist_ok=True)
    for n, picture in enumerate(case.pictures):
        (folder / f"{n:03}.jpg").write_bytes(picture)
    script = Path(__file__).with_name("serving_limit.py")
    command = ["taskset", "-c", str(core), sys.executable, script, case.root, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _at_rest(case: Case, servers: list[Server], work: Path, cores: list[int]) -> None:
    """Print what each costs while nobody asks."""
    print("### At rest\n")
    print("| server | seconds to its first answer | CPU while idle | memory, MiB |")
    print("|---|---|---|---|")
    for server in servers:
        with started(server, case, work, cores=cores, threads=len(cores)) as running:
            time.sleep(2)
            before = cpu_seconds(running.process)
            time.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(running.process) - before) / IDLE_SECONDS
            held = memory_mib(running.process)
            print(f"| {server.name} | {running.seconds:.1f} | {100 * idle:.1f} % | {held:.0f} |")
    print()


def _on_all_cores(
    case: Case, servers: list[Server], work: Path, cores: list[int], seconds: int
) -> None:
    """Print images a second with all cores, wrk among them, and latencies at one rate for all."""
    print(f"### On {len(cores)} cores with the load generator, one image a request\n")
    found: dict[str, Cost] = {}
    for server in servers:
        with started(server, case, work, cores=cores, threads=len(cores)) as running:
            found[server.name] = drive(
                running.url, _singles(case, server), 1, running.process, connections=64,
                seconds=seconds, core=None,
            )  # fmt: skip
    rate = OPEN_LOOP_SHARE * min(cost.images_per_second for cost in found.values())
    print(f"| server | images/s, closed loop | p50, ms, at {rate:.0f} requests/s | p99, ms |")
    print("|---|---|---|---|")
    for server in servers:
        with started(server, case, work, cores=cores, threads=len(cores)) as running:
            requests = _singles(case, server)
            latencies(running.url, requests, rate, 2)
            waited = latencies(running.url, requests, rate, OPEN_LOOP_SECONDS)
        p50, p99 = np.percentile(waited, [50, 99])
        speed = found[server.name].images_per_second
        print(f"| {server.name} | {speed:,.0f} | {p50:.1f} | {p99:.1f} |", flush=True)
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
