"""Images a second on all cores, the load generator's among them, and latencies at one rate."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from serving_cases import Case
from serving_load import drive
from serving_open_loop import latencies
from serving_peers import Server
from serving_plan import Plan
from serving_records import NOTHING, Key, Records, number, table
from serving_requests import SINGLES, bodies
from serving_start import started

CLOSED = "all cores, closed loop"
OPEN = "all cores, open loop"
LOAD = SINGLES[-1]
SHARE = 0.7  # of what the slowest server manages: a rate that all can sustain
WARM_UP_SECONDS = 1
BEHIND = 1.0  # seconds after the last request was due: who answers later did not keep up


def cores(plan: Plan, case: Case, servers: Sequence[Server], ours: int) -> None:
    """Measure in rounds, everybody in turn, and print.

    Args:
        plan: how.
        case: what is served.
        servers: ours first, then the peers.
        ours: how many of them are.
    """
    for _ in range(plan.rounds):
        for server in servers:
            plan.records.attempt(server.name, CLOSED, partial(_closed, plan, case, server))
    rate = common_rate(plan.records, [server.name for server in servers])
    if rate is not None:
        for _ in range(plan.rounds):
            for server in servers:
                plan.records.attempt(server.name, OPEN, partial(_open, plan, case, server, rate))
    names = [server.name for server in servers]
    print(f"### {case.name} on {len(plan.cores)} cores, load generator included, 1 image each\n")
    print(report(plan.records, names, names[ours:], rate))
    late = plan.records.highest("late", OPEN)
    print(
        f"\nMedians, rounds: {plan.rounds}. Closed loop: {LOAD.connections} connections. Open "
        f"loop: {number(rate, '.0f')} requests a second for all, {SHARE:.0%} of what the slowest "
        f"manages, {plan.seconds} s in each round, waited from when each was due; "
        f"{plan.records.total('failed', OPEN):.0f} of {plan.records.total('requests', OPEN):,.0f} "
        "failed, and the client itself was at most "
        f"{number(late and late[1], '.1f')} ms late (p99). “To best”: as a ratio to the best "
        "peer's.\n",
        flush=True,
    )


def _closed(plan: Plan, case: Case, server: Server) -> None:
    with started(server, case, plan.work, plan.cores) as running:
        requests = bodies(LOAD, case.pictures, server.form)
        cost = drive(
            running.url, requests, LOAD.images, running.process,
            connections=LOAD.connections, seconds=plan.seconds, core=None,
        )  # fmt: skip
        plan.records.keep(Key(CLOSED, server.name), cost)


def common_rate(records: Records, servers: Sequence[str]) -> float | None:
    """Return requests a second that every server can sustain that answered at all."""
    speeds = [records.median(Key(CLOSED, name), "images_per_second") for name in servers]
    known = [speed for speed in speeds if speed is not None]
    return SHARE * min(known) if known else None


def _open(plan: Plan, case: Case, server: Server, rate: float) -> None:
    with started(server, case, plan.work, plan.cores) as running:
        requests = bodies(LOAD, case.pictures, server.form)
        latencies(running.url, requests, rate, WARM_UP_SECONDS)
        waited = latencies(running.url, requests, rate, plan.seconds)
    p50, p99 = np.percentile(waited.milliseconds, [50, 99])
    plan.records.add(
        Key(OPEN, server.name), p50=float(p50), p99=float(p99), late=waited.late,
        behind=waited.behind, requests=len(waited.milliseconds),
        failed=int(np.isinf(waited.milliseconds).sum()),
    )  # fmt: skip


def report(
    records: Records, servers: Sequence[str], peers: Sequence[str], rate: float | None
) -> str:
    """Return the table."""

    def found(part: str, name: str, figure: str) -> float | None:
        return records.median(Key(part, name), figure)

    def to_best(part: str, name: str, figure: str, best: Callable[[list[float]], float]) -> str:
        theirs = [found(part, peer, figure) for peer in peers]
        known = [value for value in theirs if value is not None]
        value = found(part, name, figure)
        return f"{value / best(known):.2f}" if value is not None and known else NOTHING

    body = []
    for name in servers:
        kept_up = all(
            value <= limit
            for figure, limit in (("behind", BEHIND), ("failed", 0))
            for value in records.values(Key(OPEN, name), figure)
        )
        note = "" if kept_up else " (did not keep up)"
        body.append(
            [name,
             number(found(CLOSED, name, "images_per_second"), ",.0f"),
             to_best(CLOSED, name, "images_per_second", max),
             number(found(OPEN, name, "p50"), ".1f") + note, to_best(OPEN, name, "p50", min),
             number(found(OPEN, name, "p99"), ".1f"), to_best(OPEN, name, "p99", min)]
        )  # fmt: skip
    at = f"at {number(rate, '.0f')} requests/s"
    head = ["server", "images/s", "to best", f"p50, ms, {at}", "to best", "p99, ms", "to best"]
    return table(head, body)
