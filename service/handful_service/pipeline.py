"""One request's way: uploads → pixels → batches → columns, a window at a time.

While one window is in the queue the next is decoded, so a large request holds the pixels of two
windows, however many images it has.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_service.backlog import Backlog
from handful_service.batching import Answer, Columns, Lane, MicroBatcher
from handful_service.context import RequestContext
from handful_service.decoding import DecodePool, EncodedImage, Upload
from handful_service.errors import Overloaded, ServiceError
from handful_service.inputs import Images, Pixels
from handful_service.metrics import Metrics
from handful_service.serving import Models, Served
from handful_service.settings import Settings

_MAX_RETRY_AFTER = 30  # seconds
_MAX_DIGITS = 9
_TINY_BYTES = 2**13  # of all images of a request; decoding as much takes about 0.1 ms
_TINY_PIXELS = 2**16  # of one image; a few bytes may hold many pixels
Rows = NDArray[Any]  # an annotation of a nested function is evaluated at every call
_LATE = "late"  # why a reply is cancelled
TIMEOUT_HEADER = b"x-request-timeout-ms"


@dataclass
class Results:
    """What became of the items of one request."""

    count: int  # of items
    columns: Columns = ()  # each [n, ...]: the items that were computed, in their order
    index: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))  # [n] their items
    errors: dict[int, ServiceError] = field(default_factory=dict)  # item → why it has no row

    def reject_nonfinite(self, *columns: int) -> None:
        """Turn rows that are not finite in one of `columns` into errors of their items."""
        if all(bool(np.isfinite(self.columns[column]).all()) for column in columns):
            return  # as ever
        good = np.ones(len(self.index), bool)
        for column in columns:
            values = self.columns[column]
            good &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        self.keep(good)

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Turn the rows that are not `good`, [n], into errors of their items."""
        if good.all():
            return
        for item in self.index[~good]:
            self.errors[int(item)] = ServiceError(
                "nonfinite_output", "The model's output for this item is not finite."
            )
        self.columns = tuple(column[good] for column in self.columns)
        self.index = self.index[good]


class Lease:
    """The current model, kept for one request."""

    __slots__ = ("_context", "_models", "_served")

    def __init__(self, models: Models, context: RequestContext) -> None:
        self._models = models
        self._context = context

    def __enter__(self) -> Served:
        """Take the model.

        Raises:
            ServiceError: none is loaded yet.
        """
        self._served = self._context.served = self._models.take()
        return self._served

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._models.give_back(self._served)


class Pipeline:
    """Runs requests. Owns the threads that they run in.

    Args:
        settings: the limits.
        models: holds the model that answers.
        metrics: counts what happens.
        decode_threads: threads that decode.
    """

    def __init__(
        self, settings: Settings, models: Models, metrics: Metrics, decode_threads: int
    ) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.backlog = Backlog(max_rows=settings.queue_rows, max_bytes=settings.queue_bytes)
        self.batcher = MicroBatcher(max_rows=settings.max_batch, observer=metrics)
        self.pool = DecodePool(decode_threads, settings.max_pixels, metrics.decodes_dropped)

    def start(self) -> None:
        """Start the dispatcher."""
        self.batcher.start()

    def close(self) -> None:
        """Stop the dispatcher and the decoders."""
        self.pool.close()
        self.batcher.close()

    def alive(self) -> bool:
        """Whether the dispatcher answers."""
        return self.batcher.alive(self.settings.stall_seconds)

    def retry_after(self) -> int:
        """Seconds until what waits now will have been answered, at the recent pace."""
        pace = self.batcher.rows_per_second
        return min(_MAX_RETRY_AFTER, 1 + int(self.backlog.rows / pace)) if pace else 1

    def lease(self, context: RequestContext) -> "Lease":
        """Keep the current model for one request: a context manager that gives the model."""
        return Lease(self.models, context)

    async def images(
        self, context: RequestContext, served: Served, taken: Images | Pixels, lane: Lane
    ) -> Results:
        """Run images through `lane`.

        Raises:
            Overloaded: no room; nothing was decoded or computed.
            ServiceError: not done before the deadline; what is left is not computed.
        """
        if isinstance(taken, Pixels):
            return await self.rows(context, taken.rows, lane)
        held = min(len(taken.uploads), 2 * self.settings.window(served.row_bytes))
        self._hold(context, held, held * served.row_bytes)
        if self._are_tiny(served, taken.uploads):
            results = await self._at_once(context, served, taken.uploads, lane)
            if results is not None:
                return results
        async with self._deadline(context):
            return await self._windows(context, served, taken.uploads, lane)

    async def rows(self, context: RequestContext, rows: NDArray[Any], lane: Lane) -> Results:
        """Run rows that need no decoding through `lane`; each row is an item.

        Raises:
            Overloaded: no room; nothing was computed.
            ServiceError: not done before the deadline; what is left is not computed.
        """
        # They are in memory already and take turns with others: no windows.
        self._hold(context, min(len(rows), 2 * self.settings.max_batch), 0)
        async with self._deadline(context):
            answer = await self.batcher.submit(lane, rows)
        results = Results(len(rows), answer.columns, np.arange(len(rows)))
        self._account(context, results, [answer])
        return results

    def _are_tiny(self, served: Served, uploads: Sequence[Upload]) -> bool:
        """Whether decoding `uploads` takes less than handing them to a thread.

        On a GPU the dispatcher has the GPU to feed and decodes nothing.
        """
        if served.bundle.provider != "cpu" or len(uploads) > self.batcher.turn:
            return False
        size = sum(len(upload.data) for upload in uploads if isinstance(upload, EncodedImage))
        return size <= _TINY_BYTES

    async def _at_once(
        self, context: RequestContext, served: Served, uploads: Sequence[Upload], lane: Lane
    ) -> Results | None:
        """Let the dispatcher decode; None where an image turns out to be larger than its file."""
        results = Results(len(uploads))
        spec = served.bundle.manifest.image
        larger: list[Upload] = []

        def make() -> Rows:
            started = time.perf_counter()
            kept, pixels = [], []
            for index, upload in enumerate(uploads):
                item = self.pool.decode_now(upload, spec, max_pixels=_TINY_PIXELS)
                if item is None:
                    larger.append(upload)
                    break
                if isinstance(item, ServiceError):
                    results.errors[index] = item
                else:
                    kept.append(index)
                    pixels.append(item)
            context.spent("decode", time.perf_counter() - started)
            if larger or not pixels:
                return np.empty((0, *spec.shape), np.uint8)
            results.index = np.array(kept, np.intp)
            return pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)

        seconds = self._seconds_left(context)
        reply = self.batcher.submit_later(lane, make, len(uploads))
        # asyncio.timeout would do, at the price of a tenth of all that a tiny image costs.
        timer = asyncio.get_running_loop().call_later(seconds, reply.cancel, _LATE)
        try:
            answer = await reply
        except asyncio.CancelledError as error:
            if error.args != (_LATE,):
                raise
            raise self._too_late(seconds) from None
        finally:
            timer.cancel()
        if larger:
            return None
        results.columns = answer.columns
        self._account(context, results, [answer])
        return results

    async def _windows(
        self, context: RequestContext, served: Served, uploads: Sequence[Upload], lane: Lane
    ) -> Results:
        spec, size = served.bundle.manifest.image, self.settings.window(served.row_bytes)
        results = Results(len(uploads))
        kept: list[int] = []
        answers: list[Answer] = []
        queued: asyncio.Future[Answer] | None = None
        try:
            for start in range(0, len(uploads), size):
                with context.phase("decode"):
                    decoded = await self.pool.decode(uploads[start : start + size], spec)
                pixels = []
                for index, item in enumerate(decoded, start):
                    if isinstance(item, ServiceError):
                        results.errors[index] = item
                    else:
                        kept.append(index)
                        pixels.append(item)
                if queued is not None:
                    answers.append(await queued)
                queued = self.batcher.submit(lane, np.stack(pixels)) if pixels else None
            if queued is not None:
                answers.append(await queued)
        finally:
            if queued is not None:
                queued.cancel()
        if answers:
            results.index = np.array(kept, np.intp)
            parts = zip(*(answer.columns for answer in answers), strict=True)
            results.columns = tuple(np.concatenate(part) for part in parts)
        self._account(context, results, answers)
        return results

    @asynccontextmanager
    async def _deadline(self, context: RequestContext) -> AsyncIterator[None]:
        seconds = self._seconds_left(context)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise self._too_late(seconds) from None

    def _seconds_left(self, context: RequestContext) -> float:
        wanted = context.headers.get(TIMEOUT_HEADER)
        if wanted is None:
            return self.settings.timeout_seconds
        left = _seconds(wanted) - context.elapsed
        return max(0.0, min(self.settings.timeout_seconds, left))

    def _too_late(self, seconds: float) -> ServiceError:
        return ServiceError(
            "deadline_exceeded",
            f"Not answered within {seconds:g} s; send fewer images at once or try later.",
            retry_after=self.retry_after(),
        )

    def _hold(self, context: RequestContext, rows: int, size: int) -> None:
        try:
            context.entry.hold(rows=rows, size=size)
        except Overloaded as error:
            raise Overloaded(error.detail, retry_after=self.retry_after()) from None

    @staticmethod
    def _account(context: RequestContext, results: Results, answers: list[Answer]) -> None:
        context.images += results.count
        for answer in answers:
            context.spent("queue", answer.waited)
            context.spent("model", answer.ran)


def _seconds(milliseconds: bytes) -> float:
    if not milliseconds.isdigit() or len(milliseconds) > _MAX_DIGITS:
        raise ServiceError(
            "parameter_invalid",
            "X-Request-Timeout-Ms: send a whole number of milliseconds, counted from the "
            "request's first byte.",
        )
    return int(milliseconds) / 1000
