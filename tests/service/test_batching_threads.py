"""In which thread a batch runs: the dispatcher's, or that of who is alone."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handful_service.batching import MicroBatcher
from handful_service.work import Answer, Make


class Reply:
    """Where the answer to one brought row goes."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self.answered.done()

    def cancel(self) -> bool:
        return self.answered.cancel()

    def set_result(self, result: Answer, /) -> None:
        self.answered.set_result(result)

    def set_exception(self, exception: Exception, /) -> None:
        self.answered.set_exception(exception)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def settled(batcher: MicroBatcher, ledger: Any) -> None:
    """Let the dispatcher have nothing to do, and know it."""
    await batcher.submit(ledger.double, np.array([7]))
    await asyncio.to_thread(wait_until, lambda: batcher._waiting)
    ledger.batches.clear()
    ledger.threads.clear()


def bring(batcher: MicroBatcher, ledger: Any, row: int) -> Reply:
    """Bring one row in a thread of its own."""
    reply = Reply()
    send(batcher, reply, ledger, lambda: np.array([row]))
    return reply


def send(
    batcher: MicroBatcher, reply: Reply, ledger: Any, make: Make, *, here: bool = True
) -> None:
    """Bring what `make` gives in a thread of its own."""
    bring = functools.partial(batcher.bring, here=lambda: here)
    threading.Thread(target=bring, args=(reply, ledger.double, make)).start()


def test_lone_quick_rows_run_in_the_event_loop(lanes) -> None:
    """Where nothing waits or runs, quick rows are spared the dispatcher; slow or many are not."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        here = threading.get_ident()
        for quick in (True, False, True):
            await settled(batcher, ledger)
            await batcher.submit_later(ledger.double, lambda: np.array([1]), 1, here=quick)
            assert (ledger.threads == [here]) == quick
        await settled(batcher, ledger)
        many = [
            batcher.submit_later(ledger.double, lambda row=row: np.array([row]), 1, here=True)
            for row in range(3)
        ]
        await asyncio.gather(*many)
        assert here not in ledger.threads
        assert sorted(row for _, rows in ledger.batches for row in rows) == [0, 1, 2]

    lanes.run(body)


def test_quick_rows_wait_their_turn_all_the_same(lanes) -> None:
    """While a batch runs, the event loop takes none of the dispatcher's work."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        reply = batcher.submit_later(ledger.double, lambda: np.array([1]), 1, here=True)
        await asyncio.sleep(0.05)
        assert not reply.done()
        ledger.gate.set()
        await asyncio.gather(blocker, reply)
        assert threading.get_ident() not in ledger.threads

    lanes.run(body)


def test_brought_rows_run_where_they_come_from(lanes) -> None:
    """A thread that brings rows to an idle batcher runs them; what comes meanwhile runs after them,
    together, in the dispatcher.
    """

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        await settled(batcher, ledger)
        ledger.gate.clear()
        ledger.entered.clear()
        first = bring(batcher, ledger, 1)
        assert await asyncio.to_thread(ledger.entered.wait, 30)
        assert not batcher.alive(0)  # a batch that hangs there shows as well
        others = [bring(batcher, ledger, 2), bring(batcher, ledger, 3)]
        mine = batcher.submit_later(ledger.double, lambda: np.array([4]), 1, here=True)
        wait_until(lambda: len(batcher._queue) == 2)
        await asyncio.sleep(0)
        assert len(batcher._queue) == 3
        ledger.gate.set()
        await asyncio.gather(mine, *(reply.answered for reply in (first, *others)))
        assert (await first.answered).columns[0].tolist() == [2]
        assert [sorted(rows) for _, rows in ledger.batches] == [[1], [2, 3, 4]]
        assert ledger.threads[0] not in {threading.get_ident(), ledger.threads[1]}

    lanes.run(body)


def test_closing_waits_for_who_runs_a_batch(lanes) -> None:
    """What another thread runs is finished and answered; what it brings afterwards is cancelled."""

    async def main() -> None:
        ledger = lanes.Ledger()
        batcher = MicroBatcher(max_rows=lanes.MAX_ROWS, observer=ledger)
        batcher.start()
        await settled(batcher, ledger)
        ledger.gate.clear()
        ledger.entered.clear()
        running = bring(batcher, ledger, 1)
        assert await asyncio.to_thread(ledger.entered.wait, 30)
        threading.Timer(0.1, ledger.gate.set).start()
        batcher.close()
        assert ledger.batches == [("double", [1])]
        assert (await running.answered).columns[0].tolist() == [2]
        late = bring(batcher, ledger, 2)
        with pytest.raises(asyncio.CancelledError):
            await late.answered

    asyncio.run(main())


WAYS = st.sampled_from(["here", "elsewhere", "none", "fail", "quick"])


@given(st.lists(st.tuples(WAYS, st.booleans()), min_size=1, max_size=20))
@settings(deadline=None)
def test_whoever_runs_them_every_row_gets_its_own_answer(
    lanes, requests: list[tuple[str, bool]]
) -> None:
    """Rows brought by threads and quick ones, at once or one after the other, are each answered
    with their own; never do two batches run at once; making none or failing is told.
    """

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        replies: list[asyncio.Future[Any]] = []

        def make(row: int, kind: str) -> NDArray[Any]:
            if kind == "fail":
                raise ZeroDivisionError
            return np.array([] if kind == "none" else [row])

        for row, (kind, pause) in enumerate(requests):
            rows = functools.partial(make, row, kind)
            if kind == "quick":
                replies.append(batcher.submit_later(ledger.double, rows, 1, here=True))
            else:
                reply = Reply()
                send(batcher, reply, ledger, rows, here=kind != "elsewhere")
                replies.append(reply.answered)
            if pause:
                await asyncio.wait(replies)
        answers = await asyncio.gather(*replies, return_exceptions=True)
        for row, ((kind, _), answer) in enumerate(zip(requests, answers, strict=True)):
            if kind == "fail":
                assert isinstance(answer, ZeroDivisionError)
            elif kind == "none":
                assert answer.columns == ()
            else:
                assert answer.columns[0].tolist() == [2 * row]

    lanes.run(body)
