"""Latencies at a given rate, counted from when each request was due, whether it could start or not.

A closed loop waits for slow answers and so asks for fewer of them ("coordinated omission").
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
import uvloop
from numpy.typing import NDArray
from serving_load import Request

CONNECTIONS = 64


def latencies(
    url: str, requests: Sequence[Request], rate: float, seconds: float
) -> NDArray[np.float64]:
    """Return the milliseconds of each request, [n]; one that fails takes for ever."""
    return uvloop.run(_latencies(url, [_written(r) for r in requests], rate, seconds))


async def _latencies(
    url: str, requests: Sequence[bytes], rate: float, seconds: float
) -> NDArray[np.float64]:
    parts = urlsplit(url)
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    found: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (one := await due.get()) is not None:
            at, request = one
            writer.write(request)
            try:
                await _answer(reader)
            except (OSError, ValueError, asyncio.IncompleteReadError):
                found.append(float("inf"))
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            else:
                found.append(1000 * (time.perf_counter() - at))
        writer.close()

    tasks = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    begun = time.perf_counter() + 0.2
    for n in range(int(rate * seconds)):
        at = begun + n / rate
        if (left := at - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        due.put_nowait((at, requests[n % len(requests)]))
    for _ in tasks:
        due.put_nowait(None)
    await asyncio.gather(*tasks)
    return np.array(found)


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head)
    _, found, rest = head.partition(b"content-length: ")
    if found:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):  # chunked
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")


def _written(request: Request) -> bytes:
    headers = {"Host": "bench", **request.headers, "Content-Length": str(len(request.body))}
    lines = [f"POST {request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + request.body
