"""Connections that send a byte now and then: half of them headers, half bodies.

    python overload_slow.py URL COUNT

Says "ready" when all are open, goes on until it is ended, and opens another one for each that the
server closes.
"""

import asyncio
import contextlib
import resource
import sys
from urllib.parse import urlsplit

import uvloop

_PAUSE = 1.0  # seconds between two bytes
_HEADER = b"POST /embed HTTP/1.1\r\nHost: slow\r\nContent-Type: image/jpeg\r\n"
_ENDLESS = b"Content-Length: 100000\r\n\r\n"


async def _drip(host: str, port: int, begin: bytes, opened: asyncio.Semaphore) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(begin)
            opened.release()
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"d")
                await asyncio.sleep(_PAUSE)
            writer.close()
        await asyncio.sleep(_PAUSE)


async def _main(url: str, count: int) -> None:
    parts = urlsplit(url)
    opened = asyncio.Semaphore(0)
    begin = (_HEADER + b"X-Slow: ", _HEADER + _ENDLESS)
    async with asyncio.TaskGroup() as all_of_them:
        for n in range(count):
            drip = _drip(str(parts.hostname), int(parts.port or 0), begin[n % 2], opened)
            all_of_them.create_task(drip)
            await asyncio.sleep(0.001)  # not all at once: the listener's queue is bounded
        for _ in range(count):
            await opened.acquire()
        print("ready", flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
