"""Laws of the micro-batcher, with lanes that record what they are given."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handful_service.batching import MicroBatcher
from handful_service.work import Answer, Columns, Make

MAX_ROWS = 8


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


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=20))
def test_every_row_gets_its_own_answer(requests: list[tuple[bool, int]]) -> None:
    """Whatever sizes and lanes come together, each request gets its rows' answers in order, each
    row runs once, and a batch is of one lane and never too large.
    """

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        sent, replies, first = [], [], 0
        for is_double, count in requests:
            rows = np.arange(first, first + count)
            first += count
            sent.append((2 if is_double else 3, rows))
            replies.append(batcher.submit(ledger.double if is_double else ledger.triple, rows))
        ledger.gate.set()
        for (factor, rows), answer in zip(sent, await asyncio.gather(*replies), strict=True):
            assert answer.columns[0].tolist() == (rows * factor).tolist()
            assert answer.columns[1].tolist() == (rows + factor).tolist()
        await blocker

    ledger = run(body)
    ran = [row for _, rows in ledger.batches[1:] for row in rows]
    assert sorted(ran) == list(range(sum(count for _, count in requests)))
    assert all(len(rows) <= MAX_ROWS for _, rows in ledger.batches)
    assert ledger.observed == [len(rows) for _, rows in ledger.batches]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, MAX_ROWS // 4), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    )
)
def test_rows_that_are_made_in_turn_are_like_others(
    requests: list[tuple[bool, int, int]],
) -> None:
    """Rows made by the dispatcher, mixed with rows that were there, each get their own answer;
    of those that make fewer, none or fail, the others notice nothing.
    """
    all_, none, broken = range(3)

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        replies, first = [], 0

        def later(rows: NDArray[Any], kind: int) -> NDArray[Any]:
            if kind == broken:
                raise ZeroDivisionError
            return rows if kind == all_ else rows[:0]

        for is_later, count, kind in requests:
            rows = np.arange(first, first + count)
            first += count
            if is_later:
                make = functools.partial(later, rows, kind)
                replies.append(batcher.submit_later(ledger.double, make, count))
            else:
                replies.append(batcher.submit(ledger.double, rows))
        ledger.gate.set()
        answers = await asyncio.gather(*replies, return_exceptions=True)
        first = 0
        for (is_later, count, kind), answer in zip(requests, answers, strict=True):
            rows = np.arange(first, first + count)
            first += count
            if is_later and kind == broken:
                assert isinstance(answer, ZeroDivisionError)
            elif is_later and kind == none:
                assert answer.columns == ()
            else:
                assert answer.columns[0].tolist() == (rows * 2).tolist()
        await blocker

    ledger = run(body)
    assert all(0 < len(rows) <= MAX_ROWS for _, rows in ledger.batches)


def test_nothing_is_made_for_who_has_gone() -> None:
    """Rows of an abandoned request are not made, and are counted as dropped."""
    made = []

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        reply = batcher.submit_later(ledger.double, lambda: made.append(1) or np.ones(1), 1)
        await asyncio.sleep(0)
        reply.cancel()
        ledger.gate.set()
        await blocker
        await batcher.submit(ledger.double, np.array([7]))

    assert run(body).dropped == 1
    assert not made


def test_idle_batcher_runs_at_once() -> None:
    """Without other work a request is a batch by itself: nothing waits for company."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        for row in range(3):
            await batcher.submit(ledger.double, np.array([row]))

    assert run(body).batches == [("double", [0]), ("double", [1]), ("double", [2])]


def test_what_queues_meanwhile_is_the_next_batch() -> None:
    """All that arrived while a batch ran goes together in the next, up to the limit."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([row])) for row in range(MAX_ROWS + 2)]
        ledger.gate.set()
        await asyncio.gather(blocker, *replies)

    ledger = run(body)
    assert [len(rows) for _, rows in ledger.batches] == [1, MAX_ROWS, 2]


@given(st.integers(1, MAX_ROWS // 2), st.integers(MAX_ROWS, 500))
def test_large_requests_do_not_hold_up_small_ones(small: int, large: int) -> None:
    """Single rows that arrive behind a large request are all in the very next batch."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        big = batcher.submit(ledger.double, np.arange(large))
        singles = [batcher.submit(ledger.double, np.array([9000 + i])) for i in range(small)]
        ledger.gate.set()
        await asyncio.gather(blocker, big, *singles)

    ledger = run(body)
    _, second = ledger.batches[1]
    assert {9000 + i for i in range(small)} <= set(second)
    assert len(second) == MAX_ROWS  # and the large one fills the rest


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_abandoned_requests_are_not_computed(wanted: list[bool]) -> None:
    """A request whose future was cancelled before its turn never reaches a lane."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([i, i])) for i in range(len(wanted))]
        for reply, keep in zip(replies, wanted, strict=True):
            if not keep:
                reply.cancel()
        ledger.gate.set()
        await asyncio.gather(blocker, *(r for r, keep in zip(replies, wanted, strict=True) if keep))
        await batcher.submit(ledger.double, np.array([500]))  # after all that came before

    ledger = run(body)
    ran = {row for _, rows in ledger.batches for row in rows} - {1000, 500}
    assert ran == {i for i, keep in enumerate(wanted) if keep}
    assert ledger.dropped == 2 * wanted.count(False)


def test_rest_of_an_abandoned_request_is_dropped() -> None:
    """A large request that is abandoned on the way leaves the rest of its rows uncomputed."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        ledger.gate.clear()
        reply = batcher.submit(ledger.double, np.arange(100))
        assert await asyncio.to_thread(ledger.entered.wait, 30)
        reply.cancel()
        ledger.gate.set()
        await batcher.submit(ledger.double, np.array([500]))

    ledger = run(body)
    assert ledger.batches == [("double", list(range(MAX_ROWS))), ("double", [500])]
    assert ledger.dropped == 100 - MAX_ROWS


def test_poison_harms_only_its_own_request() -> None:
    """When a batch fails, each request in it is run alone: only the poisonous one fails."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([row])) for row in (1, -1, 2)]
        ledger.gate.set()
        answers = await asyncio.gather(blocker, *replies, return_exceptions=True)
        assert isinstance(answers[2], ValueError)
        assert [answers[1].columns[0].tolist(), answers[3].columns[0].tolist()] == [[2], [4]]
        assert batcher.alive(60)

    run(body)


def test_lane_that_loses_rows_is_refused() -> None:
    """A lane that gives back fewer rows than it got fails the request instead of shifting rows."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        with pytest.raises(RuntimeError, match="another number of rows"):
            await batcher.submit(lambda rows: (rows[1:],), np.arange(3))

    run(body)


def test_closing_cancels_what_waits() -> None:
    """Nobody waits for ever for a batcher that has been closed, before or after submitting."""

    async def main() -> None:
        ledger = Ledger()
        batcher = MicroBatcher(max_rows=MAX_ROWS, observer=ledger)
        batcher.start()
        blocker = await occupy(batcher, ledger)
        waiting = batcher.submit(ledger.double, np.array([1]))
        threading.Timer(0.1, ledger.gate.set).start()
        batcher.close()  # waits for the batch that runs
        assert waiting.cancelled()
        assert (await blocker).columns[0].tolist() == [2000]  # what ran was finished
        assert batcher.submit(ledger.double, np.array([2])).cancelled()

    asyncio.run(main())


def test_stall_shows() -> None:
    """A batch that runs longer than the limit makes the dispatcher count as dead until it ends."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        assert batcher.alive(60)
        assert not batcher.alive(0)
        ledger.gate.set()
        await blocker
        assert batcher.alive(0)

    run(body)


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


async def settled(batcher: MicroBatcher, ledger: Ledger) -> None:
    """Let the dispatcher have nothing to do, and know it."""
    await batcher.submit(ledger.double, np.array([7]))
    await asyncio.to_thread(wait_until, lambda: batcher._waiting)
    ledger.batches.clear()
    ledger.threads.clear()


def bring(batcher: MicroBatcher, ledger: Ledger, row: int) -> Reply:
    """Bring one row in a thread of its own."""
    reply = Reply()
    send(batcher, reply, ledger, lambda: np.array([row]))
    return reply


def send(
    batcher: MicroBatcher, reply: Reply, ledger: Ledger, make: Make, *, here: bool = True
) -> None:
    """Bring what `make` gives in a thread of its own."""
    bring = functools.partial(batcher.bring, here=lambda: here)
    threading.Thread(target=bring, args=(reply, ledger.double, make)).start()


def test_lone_quick_rows_run_in_the_event_loop() -> None:
    """Where nothing waits or runs, quick rows are spared the dispatcher; slow or many are not."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
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

    run(body)


def test_quick_rows_wait_their_turn_all_the_same() -> None:
    """While a batch runs, the event loop takes none of the dispatcher's work."""

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
        blocker = await occupy(batcher, ledger)
        reply = batcher.submit_later(ledger.double, lambda: np.array([1]), 1, here=True)
        await asyncio.sleep(0.05)
        assert not reply.done()
        ledger.gate.set()
        await asyncio.gather(blocker, reply)
        assert threading.get_ident() not in ledger.threads

    run(body)


def test_brought_rows_run_where_they_come_from() -> None:
    """A thread that brings rows to an idle batcher runs them; what comes meanwhile runs after them,
    together, in the dispatcher.
    """

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
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

    run(body)


def test_closing_waits_for_who_runs_a_batch() -> None:
    """What another thread runs is finished and answered; what it brings afterwards is cancelled."""

    async def main() -> None:
        ledger = Ledger()
        batcher = MicroBatcher(max_rows=MAX_ROWS, observer=ledger)
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
    requests: list[tuple[str, bool]],
) -> None:
    """Rows brought by threads and quick ones, at once or one after the other, are each answered
    with their own; never do two batches run at once; making none or failing is told.
    """

    async def body(batcher: MicroBatcher, ledger: Ledger) -> None:
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

    run(body)
