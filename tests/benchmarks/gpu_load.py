"""A closed-loop load from several Python processes: each connection sends, waits, sends again.

For machines that have no wrk; bodies may be large, and are the same bytes each time.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop

WARM_UP_SECONDS = 2.0
_END_OF_HEADER = b"\r\n\r\n"


class Done(NamedTuple):
    """What came of a load."""

    answered: int  # with 200, within the time
    failed: int
    seconds: float


class _Share(NamedTuple):
    """What one process does."""

    host: str
    port: int
    requests: Sequence[bytes]
    connections: int
    begin: float  # time.monotonic(), the same clock in all processes
    end: float


def drive(
    url: str, requests: Sequence[bytes], *, connections: int, seconds: float, processes: int
) -> Done:
    """Send `requests`, whole ones with their headers, in turn for `seconds` after a warm-up."""
    parts = urlsplit(url)
    processes = min(processes, connections)
    # Spawned: the parent may hold threads and a CUDA context. They take a moment to start.
    begin = time.monotonic() + 2 + WARM_UP_SECONDS
    shares = [
        _Share(
            parts.hostname or "", parts.port or 80, requests,
            connections // processes + (n < connections % processes), begin, begin + seconds,
        )
        for n in range(processes)
    ]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        counts = pool.map(_work, shares, chunksize=1)
    return Done(sum(c[0] for c in counts), sum(c[1] for c in counts), seconds)


def _work(share: _Share) -> tuple[int, int]:
    return uvloop.run(_send(share))


async def _send(share: _Share) -> tuple[int, int]:
    loop = asyncio.get_running_loop()
    clients = [_Client(share, turn) for turn in range(share.connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, share.host, share.port)
    await asyncio.sleep(share.end - time.monotonic())
    for client in clients:
        client.close()
    return sum(client.answered for client in clients), sum(client.failed for client in clients)


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, share: _Share, turn: int) -> None:
        self._share = share
        self._turn = turn
        self._head = b""
        self._left = 0  # bytes of the answer's body
        self._ok = False
        self._closing = False
        self.answered = self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            head, end, body = self._head.partition(_END_OF_HEADER)
            if not end:
                return
            self._head = b""
            self._ok = head.startswith(b"HTTP/1.1 200 ")
            found = head.lower().partition(b"content-length: ")[2]
            self._left = int(found.split(b"\r\n", 1)[0]) - len(body)
        if self._left <= 0:
            self._count()
            self._next()

    def connection_lost(self, _: Exception | None) -> None:
        self.failed += not self._closing

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def _count(self) -> None:
        if self._share.begin <= time.monotonic() < self._share.end:
            self.answered += self._ok
            self.failed += not self._ok

    def _next(self) -> None:
        requests = self._share.requests
        self._transport.write(requests[self._turn % len(requests)])
        self._turn += self._share.connections
