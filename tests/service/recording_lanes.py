"""Lanes that record what they are given, and a batcher to run rows through them."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_service.batching import MicroBatcher
from handful_service.work import Columns

MAX_ROWS = 8  # of a batch


class Ledger:
    """An observer and two lanes, all of which take notes."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []  # lane, rows
        self.threads: list[int] = []  # that they ran in
        self.running = 0  # at once; more than one is a fault
        self.observed: list[int] = []
        self.dropped = 0
        self.entered = threading.Event()
        self.gate = threading.Event()  # closed: the first batch waits
        self.gate.set()

    def batch_ran(self, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append(rows)

    def rows_dropped(self, rows: int) -> None:
        self.dropped += rows

    def double(self, *parts: NDArray[Any]) -> Columns:
        return self._run("double", np.concatenate(parts), 2)

    def triple(self, *parts: NDArray[Any]) -> Columns:
        return self._run("triple", np.concatenate(parts), 3)

    def _run(self, name: str, rows: NDArray[Any], factor: int) -> Columns:
        self.running += 1
        assert self.running == 1
        self.entered.set()
        assert self.gate.wait(30)
        self.running -= 1
        self.batches.append((name, rows.tolist()))
        self.threads.append(threading.get_ident())
        if (rows < 0).any():
            raise ValueError("poison")
        return rows * factor, rows + factor


def run(body: Callable[[MicroBatcher, Ledger], Coroutine[Any, Any, None]]) -> Ledger:
    """Run `body` with a batcher that has started, then close it."""
    ledger = Ledger()

    async def main() -> None:
        batcher = MicroBatcher(max_rows=MAX_ROWS, observer=ledger)
        batcher.start()
        try:
            await body(batcher, ledger)
        finally:
            ledger.gate.set()
            batcher.close()
        assert not batcher.alive(60)

    asyncio.run(main())
    return ledger


async def occupy(batcher: MicroBatcher, ledger: Ledger) -> "asyncio.Future[Any]":
    """Keep the dispatcher busy with one row until the gate opens."""
    ledger.gate.clear()
    ledger.entered.clear()
    reply = batcher.submit(ledger.double, np.array([1000]))
    assert await asyncio.to_thread(ledger.entered.wait, 30)
    return reply
