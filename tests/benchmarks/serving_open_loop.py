"""Latencies at a given rate, counted from when each request was due, whether it could start or not.

A closed loop waits for slow answers and so asks for fewer of them ("coordinated omission", Gil
Tene). The event loop here waits with `select`, whose timeouts are exact to some 50 microseconds:
those of epoll, and so of uvloop, are whole milliseconds, as much as a fast server takes.
"""

import asyncio
import selectors
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from serving_load import Request, ServerFailed

CONNECTIONS = 64


class Waited(NamedTuple):
    """How long answers took."""

    milliseconds: NDArray[np.float64]  # per request, [n]; one that failed took for ever
    late: float  # milliseconds, p99: how long after they were due this client asked
    behind: float  # seconds from the last request's due time to the last answer


def latencies(url: str, requests: Sequence[Request], rate: float, seconds: float) -> Waited:
    """Send `requests` in turn at `rate` a second, over up to 64 connections at once.

    Raises:
        ServerFailed: it takes no connections.
    """
    bodies = [written(request) for request in requests]
    try:
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            return runner.run(_latencies(url, bodies, rate, seconds))
    except* OSError as errors:
        raise ServerFailed(f"{url} takes no connections: {errors.exceptions[0]}") from errors


def _precise_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _latencies(url: str, requests: Sequence[bytes], rate: float, seconds: float) -> Waited:
    parts = urlsplit(url)
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    found: list[float] = []
    late: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (one := await due.get()) is not None:
            at, request = one
            try:
                writer.write(request)
                await answer(reader)
            except (OSError, ValueError, EOFError):
                found.append(float("inf"))
                writer.close()
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            else:
                found.append(1000 * (time.perf_counter() - at))
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(connection())
        begun = time.perf_counter() + 0.2
        for n in range(int(rate * seconds)):
            at = begun + n / rate
            if (left := at - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            late.append(1000 * (time.perf_counter() - at))
            due.put_nowait((at, requests[n % len(requests)]))
        for _ in range(CONNECTIONS):
            due.put_nowait(None)
    behind = time.perf_counter() - at
    return Waited(np.array(found), float(np.percentile(late, 99)), behind)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next answer.

    Raises:
        ValueError: it is not a 200.
        EOFError: the connection ended before it did.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head)
    _, found, rest = head.partition(b"content-length: ")
    if found:
        return await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):  # chunked
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


def written(request: Request) -> bytes:
    """Return a request as it goes over the wire."""
    headers = {"Host": "bench", **request.headers, "Content-Length": str(len(request.body))}
    lines = [f"POST {request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + request.body
