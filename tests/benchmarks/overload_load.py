"""Sends requests when they are due, whether those before are answered or not; writes what came.

A process of its own, so that the load costs the server nothing but sockets:

    python overload_load.py URL FOLDER OUT.npz --rate 800 --seconds 20 --then 20 --after 6

FOLDER holds JPEG files. OUT.npz holds one number per request: `due`, `sent` and `answered` in
seconds from the beginning, and `status`; 0 where the connection broke, -1 where no answer came.
"""

import argparse
import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop
from numpy.typing import NDArray

PATIENCE = 35.0  # seconds for the last answers: longer than the service lets anyone wait
_AT_ONCE = 16  # requests that start before answers are looked at, when behind


class Load:
    """Requests on their way, over as many connections as it takes.

    Args:
        requests: as they are written, sent in turn.
        due: seconds from the beginning, [n], sorted.
        most: connections.
        closed: a request is due when one before is answered, this many at once; `due` counts them.
    """

    def __init__(
        self, requests: Sequence[bytes], due: NDArray[np.float64], most: int, *, closed: bool
    ) -> None:
        self.requests = requests
        self.due = due
        self.sent = np.full(len(due), np.nan)
        self.answered = np.full(len(due), np.nan)
        self.status = np.full(len(due), -1)
        self._most = most
        self._closed = closed
        self._open = 0
        self._begun = 0
        self._left = len(due)
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, host: str, port: int, seconds: float) -> None:
        """Send everything; in a closed loop as much as `seconds` allow."""
        self._loop = asyncio.get_running_loop()
        self._address = host, port
        self._zero = self._loop.time()
        self._until = seconds
        if self._closed:
            for _ in range(self._most):
                self._next()
            await asyncio.sleep(seconds)
        else:
            await self._on_time()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._done.wait()
        except TimeoutError:
            pass  # they keep the status that says so

    async def _on_time(self) -> None:
        for n, at in enumerate(self.due):
            if (left := at - self.now()) > 0:
                await asyncio.sleep(left)
            elif n % _AT_ONCE == 0:
                await asyncio.sleep(0)
            self._start(n)

    def _next(self) -> None:
        if self.now() < self._until and self._begun < len(self.due):
            n, self._begun = self._begun, self._begun + 1
            self.due[n] = self.now()
            self._start(n)
        elif self._left == len(self.due) - self._begun:
            self._done.set()

    def now(self) -> float:
        """Seconds since the beginning."""
        return self._loop.time() - self._zero

    def _start(self, n: int) -> None:
        if self._idle:
            self._idle.pop().send(n)
        elif self._open < self._most:
            self._open += 1
            task = self._loop.create_task(self._connect(n))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._waiting.append(n)

    async def _connect(self, n: int) -> None:
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self), *self._address
            )
        except OSError:
            self._open -= 1
            self.end(n, 0)
        else:
            connection.send(n)

    def end(self, n: int, status: int) -> None:
        """Note what became of request `n`."""
        self.status[n] = status
        self.answered[n] = self.now()
        self._left -= 1
        if self._closed:
            self._next()
        elif not self._left:
            self._done.set()

    def free(self, connection: "Connection") -> None:
        """Use a connection again."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "Connection") -> None:
        """Do without a connection."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._start(self._waiting.popleft())


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request: int | None = None
        self._said = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Be open."""
        self._transport = transport

    def send(self, n: int) -> None:
        """Send request `n`."""
        load = self._load
        self._request = n
        load.sent[n] = load.now()
        self._transport.write(load.requests[n % len(load.requests)])

    def data_received(self, data: bytes) -> None:
        """Wait for the whole of an answer with a Content-Length."""
        self._said += data
        head, found, body = self._said.partition(b"\r\n\r\n")
        if not found or self._request is None:
            return
        lower = head.lower()
        if len(body) < int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        n, self._request, self._said = self._request, None, b""
        self._load.end(n, int(head[9:12]))
        if b"connection: close" in lower:
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waited."""
        del exc
        self._load.lost(self)
        if self._request is not None:
            self._load.end(self._request, 0)


def poisson(
    rate: float, seconds: float, then: float, after: float, seed: int
) -> NDArray[np.float64]:
    """Return random times, independent of each other: `rate` a second, and `then` at the end."""
    rng = np.random.default_rng(seed)

    def times(rate: float, seconds: float) -> NDArray[np.float64]:
        return np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))

    return np.concatenate([times(rate, seconds), seconds + times(then, after)])


def main() -> None:
    """Send and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=float, help="requests a second; without it a closed loop")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--then", type=float, default=0, help="requests a second after that")
    parser.add_argument("--after", type=float, default=0, help="seconds of it")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--key", help="API key")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    key = f"Authorization: Bearer {options.key}\r\n" if options.key else ""
    requests = []
    for path in sorted(options.folder.iterdir()):
        body = path.read_bytes()
        requests.append(
            f"POST /embed HTTP/1.1\r\nHost: load\r\nContent-Type: image/jpeg\r\n{key}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    closed = options.rate is None
    if closed:
        due = np.full(int(100_000 * options.seconds), np.nan)
    else:
        due = poisson(options.rate, options.seconds, options.then, options.after, options.seed)
    parts = urlsplit(options.url)

    async def run() -> Load:
        load = Load(requests, due, options.connections, closed=closed)
        await load.run(str(parts.hostname), int(parts.port or 0), options.seconds)
        return load

    load = uvloop.run(run())
    made = ~np.isnan(load.due)
    np.savez(
        options.out, due=load.due[made], sent=load.sent[made], answered=load.answered[made],
        status=load.status[made],
    )  # fmt: skip


if __name__ == "__main__":
    main()
