"""What servers cost while nobody asks: seconds to the first answer, idle CPU, memory."""

import time
from collections.abc import Sequence
from functools import partial

from serving_cases import Case
from serving_load import cpu_seconds, memory_mib
from serving_peers import Server
from serving_plan import Plan
from serving_records import Key, Records, number, table
from serving_start import started

PART = "at rest"
SETTLE_SECONDS = 1
IDLE_SECONDS = 8


def rest(plan: Plan, case: Case, servers: Sequence[Server]) -> None:
    """Measure everybody once, on all cores, and print: at rest there is little noise."""
    for server in servers:
        plan.records.attempt(server.name, PART, partial(_turn, plan, case, server))
    print(f"### At rest, set up for {len(plan.cores)} cores, after some answers\n")
    print(report(plan.records, [server.name for server in servers]))
    print(
        f"\nOnce each; idle for {IDLE_SECONDS} s; memory of all processes, shared pages once.\n",
        flush=True,
    )


def _turn(plan: Plan, case: Case, server: Server) -> None:
    with started(server, case, plan.work, plan.cores) as running:
        time.sleep(SETTLE_SECONDS)
        before = cpu_seconds(running.process)
        time.sleep(IDLE_SECONDS)
        plan.records.add(
            Key(PART, server.name),
            start_seconds=running.seconds,
            idle_share=(cpu_seconds(running.process) - before) / IDLE_SECONDS,
            memory_mib=memory_mib(running.process),
        )


def report(records: Records, servers: Sequence[str]) -> str:
    """Return the table."""
    body = [
        [
            name,
            number(records.median(Key(PART, name), "start_seconds"), ".1f"),
            number(records.median(Key(PART, name), "idle_share"), ".1%"),
            number(records.median(Key(PART, name), "memory_mib"), ".0f"),
        ]
        for name in servers
    ]
    head = ["server", "seconds to its first answer", "CPU while idle, of a core", "memory, MiB"]
    return table(head, body)
