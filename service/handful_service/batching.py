"""Turn concurrent requests into batches. Knows no HTTP, images or ONNX."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handful_service.work import Answer, Lane, Make, Reply, Slice, Work, made

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what the dispatcher does, from the dispatcher's thread."""

    def batch_ran(self, rows: int, seconds: float) -> None:
        """`rows` ran through a lane in one batch."""

    def rows_dropped(self, rows: int) -> None:
        """`rows` were not run, because nobody waits for them any more."""


class MicroBatcher:
    """Answers requests by running their rows together, one batch at a time.

    There is no timer. While one batch runs, rows queue; when it returns, whatever waits becomes
    the next batch. An idle service therefore adds no delay, and a busy one fills its batches by
    itself. Requests take turns: each gives at most a quarter of a batch per round, so a large
    one fills what small ones leave free and never holds them up for more than a batch.

    Batches run in the dispatcher's thread. To wake it takes as long as a small image, so rows that
    are alone may run where they come from: in the event loop, or in the thread that `bring`s them.
    What arrives meanwhile is the dispatcher's.

    The queue is bounded by the `Backlog`, which every request enters before it comes here.

    Args:
        max_rows: rows of one batch.
        observer: is told about batches and dropped rows.
    """

    def __init__(self, *, max_rows: int, observer: Observer) -> None:
        self._max_rows = max_rows
        self._turn = max(1, max_rows // 4)
        self._observer = observer
        self._arrived: list[Work] = []  # known to the event loop alone
        self._queue: deque[Work] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._waiting = False  # the dispatcher has nothing to do
        self._lent = False  # another thread runs a batch in its place
        self._running_since: float | None = None
        self._rate = 0.0
        self.rows_ran = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Start the dispatcher. Answers arrive in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch that runs now; whatever still waits is cancelled.

        Call it in the event loop that `start` was called in.
        """
        with self._wake:
            self._closed = True
            for work in (*self._queue, *self._arrived):
                work.reply.cancel()
            self._queue.clear()
            self._arrived.clear()
            self._wake.notify_all()
            while self._lent:
                self._wake.wait()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self, stall_seconds: float) -> bool:
        """Whether the dispatcher runs and no batch has run for longer than `stall_seconds`."""
        since = self._running_since
        return self._thread.is_alive() and (
            since is None or time.perf_counter() - since < stall_seconds
        )

    @property
    def rows_per_second(self) -> float:
        """Recent throughput of the lanes, smoothed; 0 before the first batch."""
        return self._rate

    def submit(self, lane: Lane, rows: NDArray[Any]) -> "asyncio.Future[Answer]":
        """Queue `rows`, [n, ...] with n >= 1, for `lane`. Cancelling the future abandons them.

        The future fails with what the lane raised for these rows alone: when a batch of several
        requests fails, each request's share is run once more by itself.
        """
        reply = self._future()
        self._submit(Work(lane, rows, None, len(rows), reply))
        return reply

    @property
    def turn(self) -> int:
        """Rows that one request may give a batch at once."""
        return self._turn

    def submit_later(
        self, lane: Lane, make: Make, count: int, *, here: bool = False
    ) -> "asyncio.Future[Answer]":
        """Queue what `make` will give, at most `count` <= `turn` rows, also none.

        Sparing a thread between here and there, it is for rows that take less time to make than to
        hand over. The future fails with what `make` raises; without rows the answer has no columns.

        Args:
            lane: that the rows run through.
            make: gives them.
            count: how many at most.
            here: the event loop may make and run them, if nothing else waits or runs.
        """
        reply = self._future()
        self.submit_for(reply, lane, make, count, here=here)
        return reply

    def submit_for(
        self, reply: Reply, lane: Lane, make: Make, count: int, *, here: bool = False
    ) -> None:
        """Do as `submit_later` does, for another `reply` than a future."""
        assert count <= self._turn
        self._submit(Work(lane, None, make, count, reply, here=here))

    def bring(self, reply: Reply, lane: Lane, make: Make, *, here: Callable[[], bool]) -> None:
        """Do as `submit_for` does in a thread that is not the event loop's, where `make` is called.

        It may take its time there, and give any number of rows; only then is `here` asked.
        """
        assert self._loop is not None, "start() comes first"
        work = Work(lane, None, make, 0, reply)
        work.prepare()
        work.taken = 0
        work.queued_at = time.perf_counter()
        done = self._bring([work], here=here()) if work.count else [work]
        if done:
            self._deliver_soon(done)

    def _future(self) -> "asyncio.Future[Answer]":
        assert self._loop is not None, "start() comes first"
        return self._loop.create_future()

    def _submit(self, work: Work) -> None:
        assert self._loop is not None, "start() comes first"
        if self._closed:
            work.reply.cancel()
            return
        if not self._arrived:  # hand over once for all that this round of the event loop brings
            self._loop.call_soon(self._hand_over)
        self._arrived.append(work)

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        # Of several the dispatcher makes a batch while the event loop takes in the next.
        here = len(arrived) == 1 and arrived[0].here
        _deliver(self._bring(arrived, here=here))

    def _bring(self, works: list[Work], *, here: bool) -> list[Work]:
        """Queue `works`; with `here` run them in this thread, if nothing else waits or runs.

        Returns:
            Those that are done.
        """
        with self._wake:
            if self._closed:
                self._deliver_soon(works)
                return []
            mine = here and self._waiting and not self._lent and not self._queue
            self._queue.extend(works)
            if not mine:
                if self._waiting and not self._lent:
                    self._wake.notify()
                return []
            self._lent = True
            batch = self._next_batch()
        try:
            return self._run(batch)
        finally:
            with self._wake:
                self._lent = False
                if self._queue or self._closed:
                    self._wake.notify_all()

    def _serve(self) -> None:
        while True:
            with self._wake:
                while (self._lent or not self._queue) and not self._closed:
                    self._waiting = True
                    self._wake.wait()
                self._waiting = False
                if self._closed:
                    return
                batch = self._next_batch()
            done = self._run(batch)
            if done:
                self._deliver_soon(done)
            del batch, done  # with pixels of up to a whole body; the next batch may come late

    def _next_batch(self) -> list[Slice]:
        """Take rows in turns until the batch is full or nothing of its lane waits."""
        stops: dict[Work, tuple[int, int]] = {}
        other_lanes: list[Work] = []
        lane: Lane | None = None
        room = self._max_rows
        while self._queue and room:
            work = self._queue.popleft()
            if work.unwanted:  # abandoned before its turn: do not pay for it
                self._observer.rows_dropped(work.left)
                continue
            if lane is None:
                lane = work.lane
            elif work.lane != lane or (work.make is not None and work.left > room):
                other_lanes.append(work)
                continue
            start, stop = stops.get(work, (work.taken, work.taken))
            count = min(self._turn, work.left, room)
            work.taken += count
            room -= count
            stops[work] = (start, stop + count)
            if work.left:
                self._queue.append(work)
        self._queue.extendleft(reversed(other_lanes))  # they are older than who came round again
        return [Slice(work, start, stop) for work, (start, stop) in stops.items()]

    def _run(self, batch: list[Slice]) -> list[Work]:
        """Run a batch and return the requests that are done with it."""
        started = self._running_since = time.perf_counter()
        for piece in batch:
            if piece.start == 0:
                piece.work.waited = started - piece.work.queued_at
        ready = [piece for piece in map(made, batch) if piece.stop > piece.start]
        if ready:
            self._run_made(ready)
            seconds = time.perf_counter() - started
            rows = sum(piece.stop - piece.start for piece in ready)
            self.rows_ran += rows
            self._rate += 0.2 * (rows / max(seconds, 1e-6) - self._rate)
            self._observer.batch_ran(rows, seconds)
            for piece in ready:
                piece.work.ran += seconds
        self._running_since = None
        return [piece.work for piece in batch if piece.work.error or not piece.work.left]

    def _deliver_soon(self, done: list[Work]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_deliver, done)

    def _run_made(self, batch: list[Slice]) -> None:
        try:
            self._run_together(batch)
        except Exception as error:  # noqa: BLE001 - the dispatcher outlives any batch
            if len(batch) == 1:
                batch[0].work.error = error
            else:  # who is poisonous? the others must not suffer
                self._run_apart(batch)

    def _run_together(self, batch: list[Slice]) -> None:
        columns = batch[0].work.lane(*(piece.rows for piece in batch))
        count = sum(piece.stop - piece.start for piece in batch)
        if any(len(column) != count for column in columns):
            raise RuntimeError("a lane gave back another number of rows than it was given")
        offset = 0
        for piece in batch:
            end = offset + piece.stop - piece.start
            piece.work.parts.append(tuple(column[offset:end] for column in columns))
            offset = end

    def _run_apart(self, batch: list[Slice]) -> None:
        _log.warning("a batch of %d requests failed; running each by itself", len(batch))
        for piece in batch:
            try:
                self._run_together([piece])
            except Exception as error:  # noqa: BLE001 - told to the request that it belongs to
                piece.work.error = error


def _deliver(done: list[Work]) -> None:
    """Hand out answers, in the event loop."""
    for work in done:
        if work.reply.done():  # the client hung up meanwhile
            continue
        if work.error is not None:
            work.reply.set_exception(work.error)
            continue
        if work.left:  # it came after the end
            work.reply.cancel()
            continue
        columns = (
            work.parts[0]
            if len(work.parts) == 1
            else tuple(np.concatenate(column) for column in zip(*work.parts, strict=True))
        )  # of no part: no columns
        work.reply.set_result(Answer(columns, work.waited, work.ran))
