"""A closed loop of mixed requests over connections that come and go, and what a process holds."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import psutil
import uvloop

PATIENCE = 60.0  # seconds for one answer on a busy machine
REQUESTS_OF_A_CONNECTION = 40  # about so many, then it is closed and another opened


class Kind(Protocol):
    """A request, see `soak_requests.Kind`."""

    @property
    def name(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def status(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def ends(self) -> bool: ...


@dataclass
class Report:
    """What became of requests."""

    sent: int = 0
    answered: Counter[int] = field(default_factory=Counter)  # by status; 0: broken off
    wrong: list[str] = field(default_factory=list)  # answers that are not those of their kind


class Held(NamedTuple):
    """What a process holds."""

    rss: int  # bytes in memory
    anonymous: int  # bytes of these that are its own, shared ones by their part
    files: int  # open descriptors
    threads: int


def send(
    url: str,
    kinds: Sequence[Kind],
    *,
    count: int,
    connections: int,
    seed: int,
    patience: float = PATIENCE,
) -> Report:
    """Send `count` requests, each connection one after the other, and return what came back.

    Each of `kinds` is sent at least once, and else as often as its weight says.

    Raises:
        TimeoutError: one takes longer than `patience`, or all as long and a fiftieth of a second
            for each.
    """
    report = Report()

    async def all_of_them() -> None:
        rng = random.Random(seed)
        weights = [kind.weight for kind in kinds]
        picked = [*kinds, *rng.choices(kinds, weights, k=count - len(kinds))]
        rng.shuffle(picked)
        chosen = iter(picked)
        lives = [_Connection(url, rng, report, patience) for _ in range(connections)]
        async with asyncio.timeout(patience + count / 50):
            await asyncio.gather(*(life.send_all(chosen) for life in lives))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them())
    return report


def held(pid: int) -> Held:
    """Return what the process `pid` holds now."""
    process = psutil.Process(pid)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {line.split()[0]: line.split()[1] for line in rollup.splitlines()[1:]}
    return Held(
        1024 * int(sizes["Rss:"]),
        1024 * int(sizes["Pss_Anon:"]),
        process.num_fds(),
        process.num_threads(),
    )


def settled(pid: int, files: int, patience: float = PATIENCE) -> Held:
    """Return what `pid` holds once the sockets of clients that are gone are closed.

    Args:
        pid: of the process.
        files: that it has open without them.
        patience: seconds after which it is returned as it is.
    """
    deadline = time.monotonic() + patience
    while (found := held(pid)).files > files and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


class _Connection:
    def __init__(self, url: str, rng: random.Random, report: Report, patience: float) -> None:
        address = urlsplit(url)
        self._address = address.hostname, address.port
        self._rng = rng
        self._report = report
        self._patience = patience
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send_all(self, kinds: Iterator[Kind]) -> None:
        try:
            for kind in kinds:
                async with asyncio.timeout(self._patience):
                    await self._send(kind)
                if self._rng.random() < 1 / REQUESTS_OF_A_CONNECTION:
                    self._close()
        finally:
            self._close()

    async def _send(self, kind: Kind) -> None:
        reader, writer = await self._opened()
        self._report.sent += 1
        writer.write(kind.data)
        if kind.status == 0:
            self._report.answered[0] += 1
            if self._rng.random() < 0.5:
                await asyncio.sleep(0.002)  # else it is gone before it is seen
            self._close(reset=self._rng.random() < 0.5)
            return
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        start = lower.index(b"content-length: ") + len(b"content-length: ")
        body = await reader.readexactly(int(lower[start : lower.index(b"\r", start)]))
        self._report.answered[status] += 1
        if status != kind.status or (kind.code and f'"code":"{kind.code}"'.encode() not in body):
            self._report.wrong.append(f"{kind.name}: {status} {body[:300]!r}")
        if kind.ends or b"connection: close" in lower:
            self._close()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    def _close(self, *, reset: bool = False) -> None:
        if self._streams is None:
            return
        _, writer = self._streams
        self._streams = None
        writer.transport.abort() if reset else writer.close()
