"""Turn concurrent requests into batches. Knows no HTTP, images or ONNX."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Columns = tuple[NDArray[Any], ...]
Lane = Callable[..., Columns]
"""What rows run through: arrays [n, ...], one of each request → columns of as many rows as they
have together. Only rows of equal lanes mix.
"""


Make = Callable[[], NDArray[Any]]
"""What gives rows when their turn comes, in the dispatcher's thread: quick, and not too many."""


class Answer(NamedTuple):
    """What a lane said of one request's rows."""

    columns: Columns  # each [n, ...], in the order of the rows
    waited: float  # seconds before the first row ran
    ran: float  # seconds of the batches that its rows were in


class Reply(Protocol):
    """Where an answer goes, in the event loop: a future, or what answers for itself."""

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def cancel(self) -> bool:
        """Wait no more; whether anybody did."""

    def set_result(self, result: Answer, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: Exception, /) -> None:
        """Take what went wrong."""


class Observer(Protocol):
    """Is told what the dispatcher does, from the dispatcher's thread."""

    def batch_ran(self, rows: int, seconds: float) -> None:
        """`rows` ran through a lane in one batch."""

    def rows_dropped(self, rows: int) -> None:
        """`rows` were not run, because nobody waits for them any more."""


class _Work:
    """Rows of one request on their way."""

    def __init__(
        self,
        lane: Lane,
        rows: NDArray[Any] | None,
        make: Make | None,
        count: int,
        reply: Reply,
    ) -> None:
        self.lane = lane
        self.rows = rows  # None: `make` is still to be called
        self.make = make
        self.count = count  # rows, or how many `make` may give
        self.reply = reply
        self.taken = 0  # rows that went into a batch
        self.parts: list[Columns] = []
        self.queued_at = time.perf_counter()
        self.waited = 0.0
        self.ran = 0.0
        self.error: Exception | None = None

    @property
    def left(self) -> int:
        return self.count - self.taken

    @property
    def unwanted(self) -> bool:
        return self.error is not None or self.reply.done()


class _Slice(NamedTuple):
    work: _Work
    start: int
    stop: int

    @property
    def rows(self) -> NDArray[Any]:
        assert self.work.rows is not None
        return self.work.rows[self.start : self.stop]


class MicroBatcher:
    """Answers requests by running their rows together, in one dispatcher thread.

    There is no timer. While one batch runs, rows queue; when it returns, whatever waits becomes
    the next batch. An idle service therefore adds no delay, and a busy one fills its batches by
    itself. Requests take turns: each gives at most a quarter of a batch per round, so a large
    one fills what small ones leave free and never holds them up for more than a batch.

    The queue is bounded by the `Backlog`, which every request enters before it comes here.

    Args:
        max_rows: rows of one batch.
        observer: is told about batches and dropped rows.
    """

    def __init__(self, *, max_rows: int, observer: Observer) -> None:
        self._max_rows = max_rows
        self._turn = max(1, max_rows // 4)
        self._observer = observer
        self._arrived: list[_Work] = []  # known to the event loop alone
        self._queue: deque[_Work] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._waiting = False
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
            self._wake.notify()
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
        self._submit(lane, rows, None, len(rows), reply)
        return reply

    @property
    def turn(self) -> int:
        """Rows that one request may give a batch at once."""
        return self._turn

    def submit_later(self, lane: Lane, make: Make, count: int) -> "asyncio.Future[Answer]":
        """Queue what `make` will give, at most `count` <= `turn` rows, also none.

        Sparing a thread between here and there, it is for rows that take less time to make than to
        hand over. The future fails with what `make` raises; without rows the answer has no columns.
        """
        reply = self._future()
        self.submit_for(reply, lane, make, count)
        return reply

    def submit_for(self, reply: Reply, lane: Lane, make: Make, count: int) -> None:
        """Do as `submit_later` does, for another `reply` than a future."""
        assert count <= self._turn
        self._submit(lane, None, make, count, reply)

    def _future(self) -> "asyncio.Future[Answer]":
        assert self._loop is not None, "start() comes first"
        return self._loop.create_future()

    def _submit(
        self, lane: Lane, rows: NDArray[Any] | None, make: Make | None, count: int, reply: Reply
    ) -> None:
        assert self._loop is not None, "start() comes first"
        if self._closed:
            reply.cancel()
            return
        if not self._arrived:  # hand over once for all that this round of the event loop brings
            self._loop.call_soon(self._hand_over)
        self._arrived.append(_Work(lane, rows, make, count, reply))

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        with self._wake:
            self._queue.extend(arrived)
            if self._waiting:
                self._wake.notify()

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closed:
                    self._waiting = True
                    self._wake.wait()
                self._waiting = False
                if self._closed:
                    return
                batch = self._next_batch()
            if batch:
                self._run(batch)
            del batch  # with pixels of up to a whole body; the next batch may come late

    def _next_batch(self) -> list[_Slice]:
        """Take rows in turns until the batch is full or nothing of its lane waits."""
        stops: dict[_Work, tuple[int, int]] = {}
        other_lanes: list[_Work] = []
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
        return [_Slice(work, start, stop) for work, (start, stop) in stops.items()]

    def _run(self, batch: list[_Slice]) -> None:
        started = self._running_since = time.perf_counter()
        for piece in batch:
            if piece.start == 0:
                piece.work.waited = started - piece.work.queued_at
        made = [piece for piece in map(_made, batch) if piece.stop > piece.start]
        if made:
            self._run_made(made)
            seconds = time.perf_counter() - started
            rows = sum(piece.stop - piece.start for piece in made)
            self.rows_ran += rows
            self._rate += 0.2 * (rows / max(seconds, 1e-6) - self._rate)
            self._observer.batch_ran(rows, seconds)
            for piece in made:
                piece.work.ran += seconds
        self._running_since = None
        done = [piece.work for piece in batch if piece.work.error or not piece.work.left]
        if done and self._loop is not None:
            self._loop.call_soon_threadsafe(_deliver, done)

    def _run_made(self, batch: list[_Slice]) -> None:
        try:
            self._run_together(batch)
        except Exception as error:  # noqa: BLE001 - the dispatcher outlives any batch
            if len(batch) == 1:
                batch[0].work.error = error
            else:  # who is poisonous? the others must not suffer
                self._run_apart(batch)

    def _run_together(self, batch: list[_Slice]) -> None:
        columns = batch[0].work.lane(*(piece.rows for piece in batch))
        count = sum(piece.stop - piece.start for piece in batch)
        if any(len(column) != count for column in columns):
            raise RuntimeError("a lane gave back another number of rows than it was given")
        offset = 0
        for piece in batch:
            end = offset + piece.stop - piece.start
            piece.work.parts.append(tuple(column[offset:end] for column in columns))
            offset = end

    def _run_apart(self, batch: list[_Slice]) -> None:
        _log.warning("a batch of %d requests failed; running each by itself", len(batch))
        for piece in batch:
            try:
                self._run_together([piece])
            except Exception as error:  # noqa: BLE001 - told to the request that it belongs to
                piece.work.error = error


def _made(piece: _Slice) -> _Slice:
    """Return the slice of what `make` gave: no rows where it failed."""
    work = piece.work
    if work.make is None:
        return piece
    try:
        work.rows = work.make()
        work.count = len(work.rows)
    except Exception as error:  # noqa: BLE001 - told to the request that it belongs to
        work.error, work.count = error, 0
    work.make, work.taken = None, work.count
    return _Slice(work, 0, work.count)


def _deliver(done: list[_Work]) -> None:
    """Hand out answers, in the event loop."""
    for work in done:
        if work.reply.done():  # the client hung up meanwhile
            continue
        if work.error is not None:
            work.reply.set_exception(work.error)
            continue
        columns = (
            work.parts[0]
            if len(work.parts) == 1
            else tuple(np.concatenate(column) for column in zip(*work.parts, strict=True))
        )  # of no part: no columns
        work.reply.set_result(Answer(columns, work.waited, work.ran))
