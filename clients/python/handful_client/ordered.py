"""Many calls in flight, their results in order, memory bounded: once with threads, once with tasks.

At most `in_flight` calls have been started whose results were not yet taken. A consumer that stops
taking therefore stops the reading of input, too.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(
    jobs: Iterator[Job], call: Callable[[Job], Result], in_flight: int, stop: Callable[[], None]
) -> Generator[tuple[Job, Result], None, None]:
    """Yield each job with its result, in order; `stop` tells running calls to give up."""
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="handful")
    running: deque[tuple[Job, Future[Result]]] = deque()
    try:
        for job in jobs:
            running.append((job, pool.submit(call, job)))
            if len(running) >= in_flight:
                first, future = running.popleft()
                yield first, future.result()
        while running:
            first, future = running.popleft()
            yield first, future.result()
    finally:
        stop()
        pool.shutdown(cancel_futures=True)


async def in_tasks(
    jobs: AsyncIterator[Job], call: Callable[[Job], Awaitable[Result]], in_flight: int
) -> AsyncGenerator[tuple[Job, Result], None]:
    """Yield each job with its result, in order."""
    running: deque[tuple[Job, asyncio.Future[Result]]] = deque()
    try:
        async for job in jobs:
            running.append((job, asyncio.ensure_future(call(job))))
            if len(running) >= in_flight:
                first, task = running.popleft()
                yield first, await task
        while running:
            first, task = running.popleft()
            yield first, await task
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)
