"""One request's way: uploads → pixels → batches → columns, a window at a time.

While one window is in the queue the next is decoded, so a large request holds the pixels of two
windows, however many images it has.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_service.backlog import Backlog
from handful_service.batching import MicroBatcher
from handful_service.context import RequestContext
from handful_service.decoding import DecodePool, EncodedImage, Upload
from handful_service.device import DeviceHealth
from handful_service.errors import Overloaded, ServiceError
from handful_service.few_images import TINY_BYTES, FewImages
from handful_service.inputs import Images, Pixels
from handful_service.metrics import Metrics
from handful_service.results import Results
from handful_service.serving import Models, Served
from handful_service.settings import Settings
from handful_service.shedding import Shedding
from handful_service.work import Answer, Lane

_MAX_RETRY_AFTER = 30  # seconds
_MAX_DIGITS = 9
# Rows that are in at once while most are refused. On the CPU, where a row costs the same in a batch
# of any size, 1 in 100 takes as long as 16 rows at 80 % of capacity: this is less than twice that.
# A GPU needs full batches, and the next ones in the making.
_FEW_ROWS, _FEW_BATCHES = 24, 4
_LATE = "late"  # why a reply is cancelled
TIMEOUT_HEADER = b"x-request-timeout-ms"


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
        self.batcher = MicroBatcher(max_rows=settings.max_batch, observer=metrics)
        self.backlog = Backlog(
            max_rows=settings.queue_rows,
            max_bytes=settings.queue_bytes,
            turn=self.batcher.turn,
            shedding=Shedding(
                seconds=settings.queue_seconds, few=self._few, ran=lambda: self.batcher.rows_ran
            ),
        )
        self.pool = DecodePool(decode_threads, settings.max_pixels, metrics.decodes_dropped)
        self.device = DeviceHealth()

    def start(self) -> None:
        """Start the dispatcher."""
        self.batcher.start()

    def close(self) -> None:
        """Stop the dispatcher and the decoders."""
        self.pool.close()
        self.batcher.close()

    def alive(self) -> bool:
        """Whether the dispatcher answers, and the device that it feeds has not failed."""
        return not self.device.failed and self.batcher.alive(self.settings.stall_seconds)

    def retry_after(self) -> int:
        """Seconds until what waits now will have been answered, at the recent pace."""
        pace = self.batcher.rows_per_second
        return min(_MAX_RETRY_AFTER, 1 + int(self.backlog.rows / pace)) if pace else 1

    def _few(self) -> int:
        served = self.models.current
        if served is None or served.on_cpu:
            return _FEW_ROWS
        return _FEW_BATCHES * self.settings.max_batch

    def serves_only(self, rows: int) -> bool:
        """Whether nobody asks for more than these, which someone has asked for.

        A batch of one's own is for who is alone: beside others it would cost them all.
        """
        return self.backlog.rows <= rows

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
        self.hold(context, held, held * served.row_bytes)
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
        self.hold(context, min(len(rows), 2 * self.settings.max_batch), 0)
        async with self._deadline(context):
            answer = await self.batcher.submit(lane, rows)
        results = Results(len(rows), answer.columns, np.arange(len(rows)))
        self.account(context, results, answer)
        return results

    def _are_tiny(self, served: Served, uploads: Sequence[Upload]) -> bool:
        if len(uploads) > self.batcher.turn or not served.on_cpu:
            return False
        size = sum(len(upload.data) for upload in uploads if isinstance(upload, EncodedImage))
        return size <= TINY_BYTES

    async def _at_once(
        self, context: RequestContext, served: Served, uploads: Sequence[Upload], lane: Lane
    ) -> Results | None:
        """Let the dispatcher decode; None where an image turns out to be larger than its file."""
        few = FewImages(context, self.pool, uploads, served.bundle.manifest.image)
        seconds = self._seconds_left(context)
        count = len(uploads)
        here = self.serves_only(count) and served.is_quick(count)
        reply = self.batcher.submit_later(lane, few.tiny, count, here=here)
        # asyncio.timeout would do, at the price of a tenth of all that a tiny image costs.
        timer = asyncio.get_running_loop().call_later(seconds, reply.cancel, _LATE)
        try:
            answer = await reply
        except asyncio.CancelledError as error:
            if error.args != (_LATE,):
                raise
            raise self.too_late(seconds) from None
        finally:
            timer.cancel()
        if few.larger:
            return None
        few.results.columns = answer.columns
        self.account(context, few.results, answer)
        return few.results

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
                queued = self.batcher.submit(lane, _stacked(pixels)) if pixels else None
            if queued is not None:
                answers.append(await queued)
        finally:
            if queued is not None:
                queued.cancel()
        if answers:
            results.index = np.array(kept, np.intp)
            parts = zip(*(answer.columns for answer in answers), strict=True)
            results.columns = tuple(np.concatenate(part) for part in parts)
        self.account(context, results, *answers)
        return results

    @asynccontextmanager
    async def _deadline(self, context: RequestContext) -> AsyncIterator[None]:
        seconds = self._seconds_left(context)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise self.too_late(seconds) from None

    def _seconds_left(self, context: RequestContext) -> float:
        wanted = context.headers.get(TIMEOUT_HEADER)
        if wanted is None:
            return self.settings.timeout_seconds
        left = _seconds(wanted) - context.elapsed
        return max(0.0, min(self.settings.timeout_seconds, left))

    def too_late(self, seconds: float) -> ServiceError:
        """Return the refusal of what is not done after `seconds`."""
        return ServiceError(
            "deadline_exceeded",
            f"Not answered within {seconds:g} s; send fewer images at once or try later.",
            retry_after=self.retry_after(),
        )

    def hold(self, context: RequestContext, rows: int, size: int) -> None:
        """Hold rows and bytes until the end of the request.

        Raises:
            Overloaded: they do not fit; it says when they may.
        """
        try:
            context.entry.hold(rows=rows, size=size)
        except Overloaded as error:
            raise Overloaded(
                error.detail, retry_after=self.retry_after(), code=error.code
            ) from None

    @staticmethod
    def account(context: RequestContext, results: Results, *answers: Answer) -> None:
        """Note in `context` what was done for it, and how long that took."""
        context.images += results.count
        for answer in answers:
            if not answer.columns:
                continue  # nothing ran
            context.spent("queue", answer.waited)
            context.spent("model", answer.ran)


def _stacked(pixels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)


def _seconds(milliseconds: bytes) -> float:
    if not milliseconds.isdigit() or len(milliseconds) > _MAX_DIGITS:
        raise ServiceError(
            "parameter_invalid",
            "X-Request-Timeout-Ms: send a whole number of milliseconds, counted from the end of "
            "the request's header.",
        )
    return int(milliseconds) / 1000
