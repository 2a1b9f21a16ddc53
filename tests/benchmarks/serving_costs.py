"""CPU milliseconds per image, on one core: the limit, HTTP alone, ours, and the peers'."""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from serving_cases import Case
from serving_load import drive
from serving_peers import CONSTANT, HANDFUL, Server
from serving_plan import Plan
from serving_records import NOTHING, Key, Records, number, table
from serving_requests import BATCHES, PIXELS, SINGLES, Load, bodies, npy
from serving_start import started

PART = "costs"
LIMIT = "limit"


def costs(plan: Plan, case: Case, peers: Sequence[Server]) -> None:
    """Measure in rounds, everybody in turn, and print."""
    for _ in range(plan.rounds):
        milliseconds = limit(case, plan.cores[0])
        plan.records.add(Key(PART, LIMIT, case.name), cpu_ms=milliseconds)
        for server in (CONSTANT, HANDFUL, *peers):
            plan.records.attempt(
                server.name, f"{PART} {case.name}", partial(_turn, plan, case, server)
            )
    size = sum(map(len, case.pictures)) / len(case.pictures) / 1000
    print(f"### {case.name}: JPEGs of {size:.1f} kB, CPU ms per image\n")
    print(report(plan.records, case.name, [peer.name for peer in peers]))
    busiest = plan.records.highest("generator_share", PART, case.name)
    if busiest is not None:
        key, share = busiest
        print(
            f"\nMedians, rounds: {plan.rounds}. “To the limit”: as a ratio to limit + HTTP alone; "
            "of 32 images to the limit. “Best peer”: how many times as much it takes. "
            f"{plan.records.total('failed', PART, case.name):.0f} of "
            f"{plan.records.total('requests', PART, case.name):,.0f} requests failed. The load "
            f"generator used at most {share:.0%} of its core ({key.server}, {key.load}).\n",
            flush=True,
        )


def _turn(plan: Plan, case: Case, server: Server) -> None:
    loads: list[Load] = [*SINGLES]
    if server.batches:
        loads.append(BATCHES)
    if server is HANDFUL:
        loads.append(PIXELS)
    with started(server, case, plan.work, plan.cores[:1]) as running:
        for load in loads:
            if load is PIXELS:
                requests = [npy(case.pixels[: load.images])]
            else:
                requests = bodies(load, case.pictures, server.form)
            cost = drive(
                running.url, requests, load.images, running.process,
                connections=load.connections, seconds=plan.seconds, core=plan.cores[-1],
            )  # fmt: skip
            plan.records.keep(Key(PART, server.name, case.name, load.name), cost)


def limit(case: Case, core: int) -> float:
    """Return the CPU milliseconds per image of one process without HTTP."""
    script = Path(__file__).with_name("serving_limit.py")
    pictures = case.root.with_name("pictures")
    command: list[str | Path] = ["taskset", "-c", str(core)]
    command += [sys.executable, script, case.root, pictures]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def report(records: Records, case: str, peers: Sequence[str]) -> str:
    """Return the table of one case."""

    def milliseconds(server: str, load: str) -> float | None:
        return records.median(Key(PART, server, case, load), "cpu_ms")

    least = statistics.median(records.values(Key(PART, LIMIT, case), "cpu_ms"))
    body = []
    for load in (*SINGLES, BATCHES, PIXELS):
        ours, alone = milliseconds(HANDFUL.name, load.name), milliseconds(CONSTANT.name, load.name)
        theirs = [milliseconds(peer, load.name) for peer in peers]
        known = [value for value in theirs if value is not None]
        to_limit = ours and ours / (least + (alone or 0))
        best = ours and known and min(known) / ours
        body.append(
            [load.name, f"{least:.3f}", number(alone, ".3f"), number(ours, ".3f"),
             number(to_limit or None, ".2f"), f"{best:.1f} times" if best else NOTHING,
             *(number(value, ".3f") for value in theirs)]
        )  # fmt: skip
    return table(["", "limit", "HTTP alone", "Handful", "to the limit", "best peer", *peers], body)
