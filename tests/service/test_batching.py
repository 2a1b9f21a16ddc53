"""Laws of the micro-batcher, with lanes that record what they are given."""

import asyncio
import functools
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from handful_service.batching import MicroBatcher

MAX_ROWS = 8  # as in recording_lanes.py


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=20))
def test_every_row_gets_its_own_answer(lanes, requests: list[tuple[bool, int]]) -> None:
    """Whatever sizes and lanes come together, each request gets its rows' answers in order, each
    row runs once, and a batch is of one lane and never too large.
    """

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
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

    ledger = lanes.run(body)
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
    lanes, requests: list[tuple[bool, int, int]]
) -> None:
    """Rows made by the dispatcher, mixed with rows that were there, each get their own answer;
    of those that make fewer, none or fail, the others notice nothing.
    """
    all_, none, broken = range(3)

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
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

    ledger = lanes.run(body)
    assert all(0 < len(rows) <= MAX_ROWS for _, rows in ledger.batches)


def test_nothing_is_made_for_who_has_gone(lanes) -> None:
    """Rows of an abandoned request are not made, and are counted as dropped."""
    made = []

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        reply = batcher.submit_later(ledger.double, lambda: made.append(1) or np.ones(1), 1)
        await asyncio.sleep(0)
        reply.cancel()
        ledger.gate.set()
        await blocker
        await batcher.submit(ledger.double, np.array([7]))

    assert lanes.run(body).dropped == 1
    assert not made


def test_idle_batcher_runs_at_once(lanes) -> None:
    """Without other work a request is a batch by itself: nothing waits for company."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        for row in range(3):
            await batcher.submit(ledger.double, np.array([row]))

    assert lanes.run(body).batches == [("double", [0]), ("double", [1]), ("double", [2])]


def test_what_queues_meanwhile_is_the_next_batch(lanes) -> None:
    """All that arrived while a batch ran goes together in the next, up to the limit."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([row])) for row in range(MAX_ROWS + 2)]
        ledger.gate.set()
        await asyncio.gather(blocker, *replies)

    ledger = lanes.run(body)
    assert [len(rows) for _, rows in ledger.batches] == [1, MAX_ROWS, 2]


@given(st.integers(1, MAX_ROWS // 2), st.integers(MAX_ROWS, 500))
def test_large_requests_do_not_hold_up_small_ones(lanes, small: int, large: int) -> None:
    """Single rows that arrive behind a large request are all in the very next batch."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        big = batcher.submit(ledger.double, np.arange(large))
        singles = [batcher.submit(ledger.double, np.array([9000 + i])) for i in range(small)]
        ledger.gate.set()
        await asyncio.gather(blocker, big, *singles)

    ledger = lanes.run(body)
    _, second = ledger.batches[1]
    assert {9000 + i for i in range(small)} <= set(second)
    assert len(second) == MAX_ROWS  # and the large one fills the rest


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_abandoned_requests_are_not_computed(lanes, wanted: list[bool]) -> None:
    """A request whose future was cancelled before its turn never reaches a lane."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([i, i])) for i in range(len(wanted))]
        for reply, keep in zip(replies, wanted, strict=True):
            if not keep:
                reply.cancel()
        ledger.gate.set()
        await asyncio.gather(blocker, *(r for r, keep in zip(replies, wanted, strict=True) if keep))
        await batcher.submit(ledger.double, np.array([500]))  # after all that came before

    ledger = lanes.run(body)
    ran = {row for _, rows in ledger.batches for row in rows} - {1000, 500}
    assert ran == {i for i, keep in enumerate(wanted) if keep}
    assert ledger.dropped == 2 * wanted.count(False)


def test_rest_of_an_abandoned_request_is_dropped(lanes) -> None:
    """A large request that is abandoned on the way leaves the rest of its rows uncomputed."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        ledger.gate.clear()
        reply = batcher.submit(ledger.double, np.arange(100))
        assert await asyncio.to_thread(ledger.entered.wait, 30)
        reply.cancel()
        ledger.gate.set()
        await batcher.submit(ledger.double, np.array([500]))

    ledger = lanes.run(body)
    assert ledger.batches == [("double", list(range(MAX_ROWS))), ("double", [500])]
    assert ledger.dropped == 100 - MAX_ROWS


def test_poison_harms_only_its_own_request(lanes) -> None:
    """When a batch fails, each request in it is run alone: only the poisonous one fails."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        replies = [batcher.submit(ledger.double, np.array([row])) for row in (1, -1, 2)]
        ledger.gate.set()
        answers = await asyncio.gather(blocker, *replies, return_exceptions=True)
        assert isinstance(answers[2], ValueError)
        assert [answers[1].columns[0].tolist(), answers[3].columns[0].tolist()] == [[2], [4]]
        assert batcher.alive(60)

    lanes.run(body)


def test_lane_that_loses_rows_is_refused(lanes) -> None:
    """A lane that gives back fewer rows than it got fails the request instead of shifting rows."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        with pytest.raises(RuntimeError, match="another number of rows"):
            await batcher.submit(lambda rows: (rows[1:],), np.arange(3))

    lanes.run(body)


def test_closing_cancels_what_waits(lanes) -> None:
    """Nobody waits for ever for a batcher that has been closed, before or after submitting."""

    async def main() -> None:
        ledger = lanes.Ledger()
        batcher = MicroBatcher(max_rows=MAX_ROWS, observer=ledger)
        batcher.start()
        blocker = await lanes.occupy(batcher, ledger)
        waiting = batcher.submit(ledger.double, np.array([1]))
        threading.Timer(0.1, ledger.gate.set).start()
        batcher.close()  # waits for the batch that runs
        assert waiting.cancelled()
        assert (await blocker).columns[0].tolist() == [2000]  # what ran was finished
        assert batcher.submit(ledger.double, np.array([2])).cancelled()

    asyncio.run(main())


def test_stall_shows(lanes) -> None:
    """A batch that runs longer than the limit makes the dispatcher count as dead until it ends."""

    async def body(batcher: MicroBatcher, ledger: Any) -> None:
        blocker = await lanes.occupy(batcher, ledger)
        assert batcher.alive(60)
        assert not batcher.alive(0)
        ledger.gate.set()
        await blocker
        assert batcher.alive(0)

    lanes.run(body)
