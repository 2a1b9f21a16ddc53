"""One raw image a request, answered without ASGI: no task, no scope, no queue of messages.

All these cost as much as decoding a small image and running the model on it. Here a request is a
`Ride`: admitted by the very checks of the long way through ASGI, decoded by the pool or, if it is
tiny, where the model runs, and written by what the model's answer calls. It is for what comes all
the time; whatever is rare, such as a header that changes the answer, goes the long way.
`express_protocol` tells the two apart and speaks HTTP.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from starlette.responses import Response

from handful_service import answers, npy
from handful_service.body import BodyGuard
from handful_service.context import RequestContext
from handful_service.deadlines import Deadlines
from handful_service.decoding import EncodedImage
from handful_service.envelope import Envelope
from handful_service.errors import ServiceError
from handful_service.few_images import TINY_BYTES, FewImages
from handful_service.inputs import RAW_TYPES
from handful_service.pipeline import TIMEOUT_HEADER, Pipeline
from handful_service.request_id import request_id_of
from handful_service.results import Results
from handful_service.routes import classify, embed
from handful_service.serving import Served
from handful_service.work import Answer

# Of a body that is held back until it is whole: each piece of it is copied with all before.
MAX_BYTES = 2**18
STATE = "express"  # where the lifespan's state holds the `Express`
METHOD = "POST"
_TYPES = {kind.encode(): kind for kind in RAW_TYPES}

Write = Callable[[Pipeline, Served, Results], bytes]
Headers = list[tuple[bytes, bytes]]


class _Target(NamedTuple):
    """What may be asked for."""

    route: str
    write: Write
    check: Callable[[Served], object]


def _nothing(_: Served) -> None: ...


_EMBED = _Target("/embed", partial(embed.one, latent=False), _nothing)
_TARGETS = {
    b"/embed": _EMBED,
    b"/embed?space=embedding": _EMBED,
    b"/embed?space=latent": _Target("/embed", partial(embed.one, latent=True), _nothing),
    b"/classify": _Target("/classify", classify.one, classify.check_head),
}


class Connection(Protocol):
    """Where a ride's answer goes."""

    def arrived(self, ride: "Ride", status: int, headers: Headers, body: bytes) -> None:
        """Write the answer."""


class Express:
    """Lets requests ride.

    Args:
        pipeline: runs them.
        envelope: what every response bears and leaves behind.
        guard: checks headers.
    """

    def __init__(self, pipeline: Pipeline, envelope: Envelope, guard: BodyGuard) -> None:
        self.pipeline = pipeline
        self.envelope = envelope
        self.guard = guard
        self.deadlines = Deadlines[Ride](pipeline.settings.timeout_seconds, Ride.too_late)
        # As the SDK sends it by default: no sooner than the service would give up by itself.
        self._usual_time = b"%d" % (1000 * pipeline.settings.timeout_seconds)
        self.max_bytes = min(MAX_BYTES, pipeline.settings.max_body_bytes)

    @staticmethod
    def knows(target: bytes) -> bool:
        """Whether a POST to `target` may ride."""
        return target in _TARGETS

    def board(
        self, connection: Connection, target: bytes, headers: Headers, started: float
    ) -> "Ride | None":
        """Return a ride, still to be started; None where the request is not as usual.

        Args:
            connection: is given the answer.
            target: one that it `knows`.
            headers: in lower case.
            started: when the headers were complete, by `time.perf_counter`.
        """
        known = dict(headers)
        media_type = _TYPES.get(known.get(b"content-type", b""))
        served = self.pipeline.models.current
        if (
            media_type is None
            or served is None
            or len(known) < len(headers)  # one of them comes twice
            or known.get(TIMEOUT_HEADER, self._usual_time) != self._usual_time
        ):
            return None
        entry = self.pipeline.backlog.enter()
        context = RequestContext(request_id_of(known), known, entry, started)
        if answers.asks_for(context, npy.MEDIA_TYPE):
            return None
        return Ride(self, connection, target, media_type, context)


class Ride:
    """One request. Also the batcher's `Reply`, and in uvicorn's eyes a request under way."""

    __slots__ = (
        "_asked",
        "_connection",
        "_context",
        "_express",
        "_images",
        "_media_type",
        "_served",
        "keep_alive",
        "response_complete",
    )

    def __init__(
        self,
        express: Express,
        connection: Connection,
        target: bytes,
        media_type: str,
        context: RequestContext,
    ) -> None:
        self._express = express
        self._connection = connection
        self._asked = _TARGETS[target]
        self._media_type = media_type
        self._context = context
        self._served: Served | None = None
        self.keep_alive = True
        self.response_complete = False
        context.route = self._asked.route

    def start(self, body: bytes) -> None:
        """Be admitted and queue, or be refused.

        Args:
            body: all of it, at most `Express.max_bytes`.
        """
        express, context = self._express, self._context
        pipeline = express.pipeline
        context.spent("read", context.elapsed)
        try:
            express.envelope.check(context)
            express.guard.check(context)
            self._served = served = context.served = pipeline.models.take()
            self._asked.check(served)
            context.entry.hold(size=len(body))
            pipeline.hold(context, 1, served.row_bytes)
        except Exception as error:  # noqa: BLE001 - each is answered
            self.set_exception(error)
            return
        spec = served.bundle.manifest.image
        image = EncodedImage(body, self._media_type)
        self._images = images = FewImages(context, pipeline.pool, (image,), spec)
        express.deadlines.add(self)
        if served.on_cpu and len(body) <= TINY_BYTES:
            here = pipeline.serves_only(1) and served.is_quick(1)
            pipeline.batcher.submit_for(self, served.encode, images.tiny, 1, here=here)
        else:
            self._begin_to_decode()

    def _begin_to_decode(self) -> None:
        try:
            self._express.pipeline.pool.begin(self._decode)
        except RuntimeError:  # the pool is closed
            self.cancel()

    def _decode(self) -> None:
        """Decode, in a thread of the pool, and join the next batch."""
        pipeline, served = self._express.pipeline, self._served
        assert served is not None
        if self.response_complete:
            pipeline.metrics.decodes_dropped(1)
        else:
            alone = partial(pipeline.serves_only, 1)
            pipeline.batcher.bring(self, served.encode, self._images.whole, here=alone)

    def done(self) -> bool:
        """Whether it is answered, or its client is gone."""
        return self.response_complete

    def cancel(self) -> bool:
        """The service stops."""
        if self.response_complete:
            return False
        self.set_exception(
            ServiceError(
                "not_ready",
                "Not ready: the process is about to stop; send it again, another may answer.",
                retry_after=1,
            )
        )
        return True

    def set_result(self, result: Answer, /) -> None:
        """Answer."""
        pipeline, served, images = self._express.pipeline, self._served, self._images
        assert served is not None
        if images.larger:
            self._begin_to_decode()
            return
        images.results.columns = result.columns
        pipeline.account(self._context, images.results, result)
        try:
            body = self._asked.write(pipeline, served, images.results)
        except Exception as error:  # noqa: BLE001 - each is answered
            self.set_exception(error)
        else:
            self._arrive(answers.Reply(body, answers.JSON))

    def set_exception(self, exception: Exception, /) -> None:
        """Tell what went wrong."""
        self._arrive(self._express.envelope.refusal(exception, self._context))

    def abandon(self) -> None:
        """The client is gone: nothing more is computed for it."""
        if not self.response_complete:
            self._express.pipeline.metrics.abandoned.inc()
            self._end()

    def too_late(self) -> None:
        """Its time is over."""
        pipeline = self._express.pipeline
        self.set_exception(pipeline.too_late(pipeline.settings.timeout_seconds))

    def _arrive(self, response: Response) -> None:
        envelope, context = self._express.envelope, self._context
        context.status = response.status_code
        headers = [*response.raw_headers, *envelope.headers(context)]
        self.response_complete = True
        self._connection.arrived(self, context.status, headers, bytes(response.body))
        self._end()

    def _end(self) -> None:
        self._free()
        self._express.envelope.record(METHOD, self._context)

    def _free(self) -> None:
        """Give back what it holds."""
        self.response_complete = True
        self._express.deadlines.remove(self)
        if self._served is not None:
            self._express.pipeline.models.give_back(self._served)
        self._context.entry.__exit__(None, None, None)
