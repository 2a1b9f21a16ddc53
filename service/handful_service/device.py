"""What requests are told, and what becomes of this process, when the GPU cannot run them.

Out of memory is told to whom it concerns, who may try again. A GPU that has failed for good answers
nothing in this process any more, but another process may use it: this one turns unready, answers
what is under way and ends, and its supervisor starts the next.
"""

import logging
import os
import threading

from handful_bundle.errors import DeviceFailed, DeviceOutOfMemory
from handful_service.errors import ServiceError

STATUS = 1  # of a process that ends because its GPU has failed
_LAST_ANSWERS = 1.0  # seconds; what is in flight fails at once

_log = logging.getLogger(__name__)

DeviceTrouble = DeviceOutOfMemory | DeviceFailed


class DeviceHealth:
    """Whether the device still runs anything."""

    def __init__(self) -> None:
        self.failed = False

    def refusal(self, error: DeviceTrouble) -> ServiceError:
        """Return what the sender of a request is told; end the process if it has to."""
        if isinstance(error, DeviceOutOfMemory):
            _log.error("%s", error)
            return ServiceError(
                "device_memory",
                "The device has no room for these images now; send fewer at once, or try again.",
                retry_after=1,
            )
        if not self.failed:
            self.failed = True
            # Not by stopping in good order: that may wait for what the GPU will never finish.
            _log.critical("%s; this process ends", error, exc_info=error)
            timer = threading.Timer(_LAST_ANSWERS, _end)
            timer.daemon = True
            timer.start()
        return ServiceError(
            "device_failed",
            "The GPU has failed; another process takes over: try again in a few seconds.",
            retry_after=5,
        )


def _end() -> None:
    logging.shutdown()
    os._exit(STATUS)
