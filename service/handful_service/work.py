"""Rows of one request on their way through the batcher, and where their answer goes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

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


class Work:
    """Rows of one request on their way."""

    def __init__(
        self,
        lane: Lane,
        rows: NDArray[Any] | None,
        make: Make | None,
        count: int,
        reply: Reply,
        *,
        here: bool = False,
    ) -> None:
        self.lane = lane
        self.rows = rows  # None: `make` is still to be called
        self.make = make
        self.count = count  # rows, or how many `make` may give
        self.reply = reply
        self.here = here  # it may run in the event loop
        self.taken = 0  # rows that went into a batch
        self.parts: list[Columns] = []
        self.queued_at = time.perf_counter()
        self.waited = 0.0
        self.ran = 0.0
        self.error: Exception | None = None

    @property
    def left(self) -> int:
        """Rows that are in no batch yet."""
        return self.count - self.taken

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for them any more."""
        return self.error is not None or self.reply.done()

    def prepare(self) -> None:
        """Make the rows, or note why there are none."""
        assert self.make is not None
        try:
            self.rows = self.make()
            self.count = len(self.rows)
        except Exception as error:  # noqa: BLE001 - told to the request that it belongs to
            self.error, self.count = error, 0
        self.make = None


class Slice(NamedTuple):
    """Those of one request's rows that are in one batch."""

    work: Work
    start: int
    stop: int

    @property
    def rows(self) -> NDArray[Any]:
        """The rows themselves."""
        assert self.work.rows is not None
        return self.work.rows[self.start : self.stop]


def made(piece: Slice) -> Slice:
    """Return the slice of what `make` gave: no rows where it failed."""
    work = piece.work
    if work.make is None:
        return piece
    work.prepare()
    work.taken = work.count
    return Slice(work, 0, work.count)
