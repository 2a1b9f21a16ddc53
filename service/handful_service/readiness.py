"""Whether this process should get requests, and whether it should live."""

import asyncio
import logging
import signal
import threading
from types import FrameType

from handful_service.metrics import Metrics
from handful_service.pipeline import Pipeline

_log = logging.getLogger(__name__)


class Readiness:
    """Answers the probes.

    Ready means: a model is loaded, its golden examples came out as recorded, it is warm, the
    dispatcher answers, the GPU has not failed, and no signal to stop has come.
    """

    def __init__(self, pipeline: Pipeline, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._draining = False
        metrics.ready.set_function(lambda: float(self.missing() is None))

    def alive(self) -> bool:
        """Whether the dispatcher answers, and the GPU has not failed."""
        return self._pipeline.alive()

    def missing(self) -> str | None:
        """Return why this process is not ready, or None if it is."""
        if self._draining:
            return "the process is about to stop"
        if self._pipeline.models.current is None:
            return self._pipeline.models.reason
        if self._pipeline.device.failed:
            return "the GPU has failed, and the process is about to end"
        if not self.alive():
            return "the dispatcher does not answer"
        return None

    def drain_on_sigterm(self, seconds: float) -> None:
        """Turn unready at once on SIGTERM, and let the server stop `seconds` later.

        Call it in the event loop, once the server has set its own handler. Where that is not the
        main thread, as in tests, signals are not ours to handle.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        stop = signal.getsignal(signal.SIGTERM)
        if not callable(stop):
            return
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            self._draining = True
            if seconds:
                loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)
            else:
                stop(number, frame)

        signal.signal(signal.SIGTERM, drain)
