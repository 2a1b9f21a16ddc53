"""`make overload`: what the service does when more is asked of it than it can do.

Requests come at random (Poisson) and do not wait for answers; latencies count from when each was
due. The server has one core and the load another. Peak is what a closed loop of 32 connections
gets. Figures leave out the first `SETTLE` seconds of a load, in which the queue finds its length.

    make overload ARGS="--seconds 10 --slow 500"

Ends with status 1 if a target is missed: run it where nothing else runs.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from serving_cases import large, small
from serving_load import memory_mib

HERE = Path(__file__).parent
SERVE = Path(sys.executable).with_name("handful-serve")
SETTLE = 6.0
AFTERWARDS, RECOVER_BIN = 6.0, 0.5  # seconds at half of the peak when the load is over
TENANTS = ("victim", "neighbour")
PATIENCE = 60.0


class Outcome(NamedTuple):
    """What became of the requests of one load."""

    due: NDArray[np.float64]  # [n] seconds
    sent: NDArray[np.float64]
    answered: NDArray[np.float64]
    status: NDArray[np.int64]

    @property
    def milliseconds(self) -> NDArray[np.float64]:
        """From when each was due to its answer."""
        return 1000 * (self.answered - self.due)

    def goodput(self, begin: float, end: float) -> float:
        """Answers of status 200 a second."""
        good = (self.status == 200) & (self.answered >= begin) & (self.answered < end)
        return float(good.sum() / (end - begin))

    def settled(self, end: float) -> "Outcome":
        """Return the requests that were due after the first seconds and before `end`."""
        these = (self.due >= SETTLE) & (self.due < end)
        return Outcome(*(column[these] for column in self))

    def p99(self, *statuses: int) -> float:
        """Milliseconds that 1 in 100 answers of these statuses took; NaN, which meets no target,
        where there are none.
        """
        found = self.milliseconds[np.isin(self.status, statuses)]
        return float(np.percentile(found, 99)) if len(found) else float("nan")

    def count(self, *statuses: int) -> int:
        """Answers of these statuses."""
        return int(np.isin(self.status, statuses).sum())


class Bench:
    """One server on one core, loads on another, and what was found."""

    def __init__(self, url: str, server: psutil.Process, pictures: Path, core: int) -> None:
        self.url = url
        self._server = server
        self._pictures = pictures
        self.core = core
        self.memory = 0.0  # MiB, the most that was seen

    def load(self, *loads: Mapping[str, Any]) -> list[Outcome]:
        """Put loads on the server at the same time; see the flags of overload_load.py."""
        script = HERE / "overload_load.py"
        with tempfile.TemporaryDirectory() as folder:
            outs = [Path(folder, f"{n}.npz") for n in range(len(loads))]
            running = []
            for out, flags in zip(outs, loads, strict=True):
                words = [word for name, value in flags.items() for word in (f"--{name}", value)]
                command = ["taskset", "-c", self.core, sys.executable, script, self.url]
                line = map(str, [*command, self._pictures, out, *words])
                running.append(subprocess.Popen(list(line)))
            while any(process.poll() is None for process in running):
                self.memory = max(self.memory, memory_mib(self._server))
                time.sleep(0.2)
            if any(process.returncode for process in running):
                sys.exit("a load ended with an error")
            found = [np.load(out) for out in outs]
        return [Outcome(*(one[name] for name in Outcome._fields)) for one in found]

    def peak(self, seconds: float) -> float:
        """Return answers a second in a closed loop."""
        (outcome,) = self.load({"seconds": seconds, "connections": 32})
        return outcome.goodput(1, seconds)


class Verdicts:
    """Targets, each met or missed."""

    def __init__(self) -> None:
        self.missed = 0

    def say(
        self, what: str, value: float, unit: str, target: float, *, least: bool = False
    ) -> None:
        """Print one figure beside what it should be."""
        met = value >= target if least else value <= target
        self.missed += not met
        sign = "≥" if least else "≤"
        verdict = "" if met else "  MISSED"
        print(f"  {what}: {value:.3g}{unit}, wanted {sign} {target:.3g}{unit}{verdict}", flush=True)


@contextmanager
def served(root: Path, pictures: Path, **settings: str) -> Iterator[Bench]:
    """Serve a bundle on the first core."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                ["taskset", "-c", str(cores[0]), SERVE, "--model", root, "--port", "0"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "HANDFUL_THREADS": "1",
                     "HANDFUL_DECODE_THREADS": "1", **settings},
                stderr=stderr,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := re.search(r"listening on (http://[\w.:]+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the server did not start:\n{log.read_text()}")
                time.sleep(0.1)
            yield Bench(found[1], psutil.Process(process.pid), pictures, cores[-1])
        finally:
            process.terminate()
            process.wait(PATIENCE)


def overload(bench: Bench, seconds: float, verdicts: Verdicts) -> float:
    """Ask 0.8, 1, 4 and 10 times what can be done; return what can be done, a second."""
    bench.peak(3)
    peak = bench.peak(8)
    memory = bench.memory
    print(f"peak {peak:.0f} requests/s, memory {memory:.0f} MiB", flush=True)
    usual = 0.0
    for times in (0.8, 1, 4, 10):
        flags = {"rate": times * peak, "seconds": seconds, "then": peak / 2, "after": AFTERWARDS}
        (outcome,) = bench.load(flags)
        settled = outcome.settled(seconds)
        refused, other = settled.count(503), len(settled.due) - settled.count(200, 503)
        lag = np.percentile(1000 * (outcome.sent - outcome.due), 99)
        print(
            f"{times} × peak, {times * peak:.0f}/s for {seconds:.0f} s: {settled.count(200)} "
            f"answered, {refused} refused, {other} of {len(settled.due)} otherwise; p99 "
            f"{settled.p99(200):.0f} ms; 1 in 100 was sent {lag:.1f} ms late or later",
            flush=True,
        )
        if times == 0.8:
            usual = settled.p99(200)
        if times < 4:
            continue
        reach = 0.95 if times == 4 else 0.9
        goodput = outcome.goodput(SETTLE, seconds) / peak
        verdicts.say("goodput", 100 * goodput, " % of peak", 100 * reach, least=True)
        verdicts.say("p99 of who is let in", settled.p99(200) / usual, " × that at 0.8", 2)
        verdicts.say("p99 of refusals", settled.p99(503), " ms", 25)
        verdicts.say("recovery", recovery(outcome, seconds, 2 * usual), " s", 5)
    verdicts.say("memory beside that at peak", bench.memory - memory, " MiB", 64)
    return peak


def recovery(outcome: Outcome, end: float, usual: float) -> float:
    """Return the seconds after `end` until all are let in and wait no longer than `usual`, ms."""
    for begin in np.arange(end, end + AFTERWARDS, RECOVER_BIN):
        here = (outcome.due >= begin) & (outcome.due < begin + RECOVER_BIN)
        let_in = bool((outcome.status[here] == 200).all())
        if let_in and np.median(outcome.milliseconds[here]) <= usual:
            return float(begin + RECOVER_BIN - end)
    return float("inf")


def alternately(measure: Callable[[bool], Outcome], seconds: float) -> tuple[Outcome, Outcome]:
    """Measure without and with something, twice in turn."""
    found: dict[bool, list[Outcome]] = {False: [], True: []}
    for _ in range(2):
        for beside in (False, True):
            found[beside].append(measure(beside).settled(seconds))
    without, beside_it = (
        Outcome(*map(np.concatenate, zip(*found[beside], strict=True))) for beside in (False, True)
    )
    return without, beside_it


def tenants(
    bench: Bench, keys: Mapping[str, str], peak: float, seconds: float, v: Verdicts
) -> None:
    """Put a tenant with 20 % of peak beside one with 60 %, and beside one with 20 times as much."""
    refused: dict[int, int] = {}

    def measure(greedy: bool) -> Outcome:
        rates = 0.2 * peak, (4 if greedy else 0.6) * peak
        victim, neighbour = bench.load(
            *({"rate": rate, "seconds": seconds, "key": keys[name], "seed": n}
              for n, (name, rate) in enumerate(zip(TENANTS, rates, strict=True)))
        )  # fmt: skip
        if greedy:
            for status in (200, 429, 503):
                refused[status] = refused.get(status, 0) + neighbour.settled(seconds).count(status)
        return victim

    without, beside = alternately(measure, seconds)
    failed = len(beside.due) - beside.count(200)
    print(
        f"a tenant beside one that asks 20 times as much: {failed} of {len(beside.due)} failed, "
        f"p99 {without.p99(200):.0f} → {beside.p99(200):.0f} ms; of the other "
        + ", ".join(f"{count} were {status}" for status, count in refused.items()),
        flush=True,
    )
    v.say("failures of the modest one", failed, "", 0)
    v.say("503 of the greedy one", refused[503], "", 0)
    v.say("p99 of the modest one", beside.p99(200) / without.p99(200), " × that beside 60 %", 1.2)


def slow_clients(bench: Bench, count: int, peak: float, seconds: float, v: Verdicts) -> None:
    """Ask half of what can be done, alone and beside connections that send byte by byte."""

    def measure(beside: bool) -> Outcome:
        flags = {"rate": peak / 2, "seconds": seconds}
        if not beside:
            return bench.load(flags)[0]
        script = HERE / "overload_slow.py"
        command = ["taskset", "-c", str(bench.core), sys.executable, script, bench.url, str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as slow:
            try:
                assert slow.stdout is not None
                assert slow.stdout.readline() == "ready\n"
                return bench.load(flags)[0]
            finally:
                slow.terminate()

    without, beside = alternately(measure, seconds)
    failed = len(beside.due) - beside.count(200)
    print(
        f"beside {count} slow connections: {failed} of {len(beside.due)} failed, p99 "
        f"{without.p99(200):.0f} → {beside.p99(200):.0f} ms",
        flush=True,
    )
    v.say("failures", failed, "", 0)
    v.say("p99", beside.p99(200) / without.p99(200), " × that without", 1.2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="overload", description=__doc__)
    parser.add_argument("--case", choices=("S", "L"), default="L", help="32 px, or 640x480 to 128")
    parser.add_argument("--seconds", type=float, default=20, help="of each overload")
    parser.add_argument("--slow", type=int, default=2000, help="slow connections")
    parser.add_argument("--work", type=Path, default=Path("handful-work/bench/overload").absolute())
    options = parser.parse_args()
    case = (small if options.case == "S" else large)(options.work)
    pictures = options.work / f"{case.name}-sent"
    pictures.mkdir(parents=True, exist_ok=True)
    for n, picture in enumerate(case.pictures):
        (pictures / f"{n:03}.jpg").write_bytes(picture)
    verdicts = Verdicts()
    with served(case.root, pictures) as bench:
        peak = overload(bench, options.seconds, verdicts)
        slow_clients(bench, options.slow, peak, options.seconds / 2 + SETTLE, verdicts)
    keys = {name: secrets.token_urlsafe(32) for name in TENANTS}
    file = options.work / "keys"
    lines = (f"{sha256(key.encode()).hexdigest()}  {name}\n" for name, key in keys.items())
    file.write_text("".join(lines))
    with served(case.root, pictures, HANDFUL_API_KEYS_FILE=str(file)) as bench:
        bench.load({"seconds": 3, "connections": 8, "key": keys["victim"]})
        tenants(bench, keys, peak, options.seconds / 2 + SETTLE, verdicts)
    if verdicts.missed:
        sys.exit(f"{verdicts.missed} targets missed")


if __name__ == "__main__":
    main()
