"""What Handful costs by the images' size, and what a thousand connections that wait cost."""

import asyncio
import resource
import time
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

from serving_cases import Case, of_size
from serving_costs import limit
from serving_load import ServerFailed, cpu_seconds, drive, memory_mib
from serving_open_loop import answer, written
from serving_peers import HANDFUL
from serving_plan import Plan
from serving_records import Key, Records, number, table
from serving_requests import SINGLES, bodies
from serving_start import Running, started

PART = "sizes"
IDLE = "idle connections"
SIDES = (32, 64, 128, 224)
WAITING = 1000  # connections
SETTLE_SECONDS = 2
IDLE_SECONDS = 8


def sizes(plan: Plan) -> None:
    """Measure in rounds, each size in turn, and print."""
    cases = [of_size(plan.work, side) for side in SIDES]
    for case in cases:
        plan.records.add(Key(PART, "limit", case.name), cpu_ms=limit(case, plan.cores[0]))
    for _ in range(plan.rounds):
        for case in cases:
            plan.records.attempt(HANDFUL.name, f"{PART} {case.name}", partial(_turn, plan, case))
    plan.records.attempt(HANDFUL.name, IDLE, partial(_idle, plan, cases[0]))
    print("### Handful by size, one core, one image a request: images/s and CPU ms per image\n")
    print(report(plan.records, cases))
    kib, share = (
        plan.records.median(Key(IDLE, HANDFUL.name), figure) for figure in ("kib", "idle_share")
    )
    print(
        f"\nMedians, rounds: {plan.rounds}. {WAITING:,} connections that have had an answer and "
        f"wait: {number(kib, '.1f')} KiB each, {number(share, '.1%')} of a core in all.\n",
        flush=True,
    )


def _turn(plan: Plan, case: Case) -> None:
    with started(HANDFUL, case, plan.work, plan.cores[:1]) as running:
        for load in SINGLES:
            cost = drive(
                running.url, bodies(load, case.pictures, HANDFUL.form), load.images,
                running.process, connections=load.connections, seconds=plan.seconds,
                core=plan.cores[-1],
            )  # fmt: skip
            plan.records.keep(Key(PART, HANDFUL.name, case.name, load.name), cost)


def _idle(plan: Plan, case: Case) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WAITING + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ServerFailed(f"{WAITING} connections need `ulimit -n {wanted}`; {hard} is the most")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with started(HANDFUL, case, plan.work, plan.cores[:1]) as running:
        request = written(HANDFUL.form(case.pictures[:1]))
        asyncio.run(_hold(running, request, 32))  # what the first connections leave behind for good
        before = memory_mib(running.process)
        after, spent = asyncio.run(_hold(running, request, WAITING))
        plan.records.add(
            Key(IDLE, HANDFUL.name),
            kib=1024 * (after - before) / WAITING,
            idle_share=spent / IDLE_SECONDS,
        )


async def _hold(running: Running, request: bytes, count: int) -> tuple[float, float]:
    """Open connections, have one answer on each, and wait.

    Returns:
        MiB that the server holds then, and CPU seconds that it spends meanwhile.
    """
    parts = urlsplit(running.url)
    async with AsyncExitStack() as stack:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            stack.callback(writer.close)
            writer.write(request)
            await answer(reader)
        await asyncio.sleep(SETTLE_SECONDS)
        before = cpu_seconds(running.process)
        begun = time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        spent = (cpu_seconds(running.process) - before) * IDLE_SECONDS
        return memory_mib(running.process), spent / (time.monotonic() - begun)


def report(records: Records, cases: list[Case]) -> str:
    """Return the table."""
    head = ["pixels", "file, kB", "limit, ms"]
    for load in SINGLES:
        head += [f"{load.connections} conn., images/s", "ms"]
    body = []
    for case in cases:
        size = sum(map(len, case.pictures)) / len(case.pictures) / 1000
        least = records.median(Key(PART, "limit", case.name), "cpu_ms")
        row = [case.name.removesuffix("px"), f"{size:.1f}", number(least, ".3f")]
        for load in SINGLES:
            key = Key(PART, HANDFUL.name, case.name, load.name)
            row.append(number(records.median(key, "images_per_second"), ",.0f"))
            row.append(number(records.median(key, "cpu_ms"), ".3f"))
        body.append(row)
    return table(head, body)
