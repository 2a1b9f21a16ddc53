"""Attempts on a socket, by httpx. Knows no routes and no retries.

httpx bounds every single read; a server that drips bytes would pass that for ever. An attempt
here is bounded as a whole.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from handful_client.errors import ConnectionFailed, ConnectionLost, HandfulError, TimedOut
from handful_client.flow import Io, Reply, Send
from handful_client.options import CONNECT_TIMEOUT, Options


class SyncTransport:
    """A pool of connections that blocks. Thread-safe."""

    def __init__(self, options: Options, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=options.url, transport=transport, trust_env=not options.is_loopback
        )
        self._url = options.url

    def send(self, action: Send) -> Reply:
        """Make one attempt.

        Raises:
            ConnectionFailed: nobody answers.
            ConnectionLost: the connection broke.
            TimedOut: no whole answer in time.
        """
        deadline = time.monotonic() + action.timeout
        with (
            _translated(self._url, action),
            self._client.stream(**_arguments(action)) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > deadline:
                    raise _timed_out(self._url, action)
        return _reply(response, bytes(body))

    def wait(self, seconds: float) -> None:
        """Pause before the next attempt."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


class AsyncTransport:
    """A pool of connections that awaits. For asyncio."""

    def __init__(self, options: Options, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(
            base_url=options.url, transport=transport, trust_env=not options.is_loopback
        )
        self._url = options.url

    async def send(self, action: Send) -> Reply:
        """Make one attempt; raises as `SyncTransport.send`."""
        with _translated(self._url, action):
            async with (
                asyncio.timeout(action.timeout),
                self._client.stream(**_arguments(action)) as response,
            ):
                body = await response.aread()
        return _reply(response, body)

    async def wait(self, seconds: float) -> None:
        """Pause before the next attempt."""
        await asyncio.sleep(seconds)

    async def compute(self, function: Callable[[], Any]) -> Any:
        """Run a function in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(function)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class Stoppable:
    """A transport whose pauses end when its stream is given up."""

    def __init__(self, transport: Io) -> None:
        self._transport = transport
        self._stopped = threading.Event()

    def send(self, action: Send) -> Reply:
        """Make one attempt."""
        return self._transport.send(action)

    def wait(self, seconds: float) -> None:
        """Pause before the next attempt.

        Raises:
            ConnectionLost: nobody wants the answer any more.
        """
        if self._stopped.wait(seconds):
            raise ConnectionLost("the stream was given up before the answer came")

    def stop(self) -> None:
        """End all pauses, now and later."""
        self._stopped.set()


def _arguments(action: Send) -> dict[str, Any]:
    request = action.request
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "content": request.body,
        "headers": dict(action.headers),
        "timeout": httpx.Timeout(action.timeout, connect=min(CONNECT_TIMEOUT, action.timeout)),
    }


def _reply(response: httpx.Response, body: bytes) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


@contextmanager
def _translated(url: str, action: Send) -> Iterator[None]:
    request_id = action.headers.get("x-request-id")
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise ConnectionFailed(
            f"nobody answers at {url} ({error or type(error).__name__}); start the service with "
            "`handful-serve`, or set HANDFUL_URL to where it runs",
            request_id=request_id,
        ) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise _timed_out(url, action) from error
    except httpx.HTTPError as error:
        raise ConnectionLost(
            f"the connection to {url} broke before the answer was whole "
            f"({error or type(error).__name__}); send it again",
            request_id=request_id,
        ) from error


def _timed_out(url: str, action: Send) -> HandfulError:
    return TimedOut(
        f"no whole answer from {url} within {action.timeout:g} s; send fewer images at once, or "
        "allow more with `with_options(timeout=…)`",
        request_id=action.headers.get("x-request-id"),
    )
