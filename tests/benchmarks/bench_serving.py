"""From bytes to answer: what serving costs above decoding and the model, and beside other servers.

Costs are CPU milliseconds of all the server's processes per image (the same number as CPU seconds
per 1,000 images), on one core, wrk on another. Every figure is the median of rounds in which
everybody has a turn. Every server's answers are compared with the offline embeddings each time that
it is started, before it is measured.

make bench ARGS="serving --peers all"
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from serving_cases import large, small
from serving_cores import cores
from serving_costs import costs
from serving_peers import HANDFUL, PEER_SERVERS, PROCESSES, ROUTE, Server
from serving_plan import Plan
from serving_records import Records
from serving_rest import rest
from serving_sizes import sizes
from serving_venvs import VERSIONS, interpreter

CASES = {"S": small, "L": large}
PARTS = ("costs", "rest", "cores", "sizes")


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print; exit with 1 if Handful itself failed."""
    options = _options(arguments)
    begun = time.monotonic()
    work: Path = options.work.absolute()
    records = Records(work / "records.csv")
    plan = Plan(work, sorted(os.sched_getaffinity(0)), options.rounds, options.seconds, records)
    peers = _installed(options.peers, plan)
    made = {name: make(work) for name, make in CASES.items()}
    if "costs" in options.parts:
        for name in options.cases:
            costs(plan, made[name], peers)
    several = [HANDFUL, PROCESSES] if len(plan.cores) > 1 else [HANDFUL]
    if "rest" in options.parts:
        rest(plan, made["S"], [*several, *peers])
    if "cores" in options.parts:
        cores(plan, made["S"], [*several, *peers], len(several))
    if "sizes" in options.parts:
        sizes(plan)
    _close(plan, peers, time.monotonic() - begun)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving", description=__doc__)
    known = [server.name for server in PEER_SERVERS]
    parser.add_argument(
        "--peers", type=_several(known), default=[ROUTE.name],
        help=f"all, none, or of {','.join(known)}",
    )  # fmt: skip
    parser.add_argument(
        "--parts", type=_several(PARTS), default=list(PARTS), help=f"all, or of {','.join(PARTS)}"
    )
    parser.add_argument(
        "--cases", type=_several(list(CASES)), default=list(CASES), help="of costs: S, L or all"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each load in each round")
    parser.add_argument("--work", type=Path, default=Path("handful-work/bench/serving"))
    return parser.parse_args(list(arguments))


def _several(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what reads names that stand between commas."""

    def names(text: str) -> list[str]:
        if text in ("all", "none"):
            return list(known) if text == "all" else []
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return found

    return names


def _installed(names: Sequence[str], plan: Plan) -> list[Server]:
    """Return the peers that can be installed: now, not while others are measured."""
    found: list[Server] = []

    def install(server: Server) -> None:
        if server.peer is not None:
            interpreter(server.peer, plan.work)
        found.append(server)

    for server in PEER_SERVERS:
        if server.name in names:
            plan.records.attempt(server.name, "its installation", partial(install, server))
    return found


def _close(plan: Plan, peers: Sequence[Server], seconds: float) -> None:
    versions = [f"{s.name} {VERSIONS[s.peer]}" for s in peers if s.peer is not None]
    print(", ".join([platform.machine(), f"{len(plan.cores)} cores", *versions]))
    print(f"{seconds / 60:.0f} minutes. All figures: {plan.work / 'records.csv'}")
    for failure in plan.records.failures:
        print(f"\n**Failed**: {failure}")
    if any(failure.startswith(HANDFUL.name) for failure in plan.records.failures):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
